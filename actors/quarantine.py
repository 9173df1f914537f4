"""Bad rows set aside with the reason, as Parquet files under the storage: `quarantine/part-000000.parquet` and so on.

Rows that are read again after a crash are set aside again: (partition, offset) tells copies apart from rows.
"""

import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping

import pyarrow as pa
from pyarrow import fs
from pyarrow import parquet as pq

from actors.sources.source import BadRow, BadRowReason
from actors.storage import open_storage

logger = logging.getLogger(__name__)

FOLDER = "quarantine"

_PART = re.compile(r"part-([0-9]{6,})\.parquet")
_BUFFER_BYTES = 8 << 20
_COLUMNS = pa.schema(
    [
        ("partition", pa.string()),
        ("offset", pa.int64()),
        ("reason", pa.string()),
        ("message", pa.string()),
        ("raw", pa.string()),
    ]
)


class Quarantine:
    """Holds at most `buffer_rows` rows, or 8 MiB of them, before it writes a part.

    `raw` is the row as JSON. A part appears whole: it is written under another name and moved.
    """

    def __init__(self, storage_uri: str, buffer_rows: int = 1000) -> None:
        self._files, root = open_storage(storage_uri)
        self._folder = f"{root}/{FOLDER}"
        self._buffer_rows = buffer_rows
        self._rows: list[tuple[str, int, str, str, str]] = []
        self._bytes = 0
        self._counts: Counter[BadRowReason] = Counter()
        self._part = self._next_part()

    @property
    def counts(self) -> dict[BadRowReason, int]:
        """Rows added since this object was made, by reason."""
        return dict(self._counts)

    def add(self, rows: Iterable[BadRow]) -> None:
        for row in rows:
            raw = json.dumps(dict(row.raw), default=str, ensure_ascii=False)
            self._rows.append((row.partition, row.offset, row.reason.value, row.message, raw))
            self._bytes += len(raw) + len(row.message)
            self._counts[row.reason] += 1
            if len(self._rows) >= self._buffer_rows or self._bytes >= _BUFFER_BYTES:
                self.flush()

    def flush(self) -> None:
        """Writes what is held, if anything. Raises OSError where the storage fails; the rows stay held."""
        if not self._rows:
            return
        columns = [list(column) for column in zip(*self._rows, strict=True)]
        table = pa.table(columns, schema=_COLUMNS)
        path = f"{self._folder}/part-{self._part:06d}.parquet"
        unfinished = f"{self._folder}/.part-{self._part:06d}.tmp"
        self._files.create_dir(self._folder, recursive=True)
        with self._files.open_output_stream(unfinished) as stream:
            pq.write_table(table, stream)
        self._files.move(unfinished, path)
        logger.info("quarantined rows=%d part=%d path=%s", len(self._rows), self._part, path)
        self._part += 1
        self._rows.clear()
        self._bytes = 0

    def close(self) -> None:
        self.flush()

    def _next_part(self) -> int:
        return max(_parts(self._files, self._folder), default=-1) + 1


def refusals(storage_uri: str, counts: Mapping[str, int]) -> str:
    """`counts` of refused rows by reason in words, with an example: the first row of the newest part."""
    files, root = open_storage(storage_uri)
    parts = _parts(files, f"{root}/{FOLDER}")
    text = ", ".join(f"{rows:,} {reason}" for reason, rows in sorted(counts.items(), key=lambda item: -item[1]))
    if parts:
        with files.open_input_file(f"{root}/{FOLDER}/part-{max(parts):06d}.parquet") as file:
            (row,) = pq.ParquetFile(file).read_row_group(0, ["partition", "offset", "message"]).slice(0, 1).to_pylist()
        text += f"; for example row {row['offset']:,} of {row['partition']}: {row['message']}"
    return text


def _parts(files: fs.FileSystem, folder: str) -> list[int]:
    found = files.get_file_info(fs.FileSelector(folder, allow_not_found=True))
    return [int(match[1]) for info in found if (match := _PART.fullmatch(info.base_name))]
