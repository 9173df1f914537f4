"""A Parquet file, or an Arrow IPC file or stream, read in batches."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import ipc
from pyarrow import parquet as pq

from actors.errors import InputUnusableError
from actors.sources.chunks import CHUNK_ROWS, pieces
from actors.sources.source import SourceChunk

_PARQUET, _ARROW_FILE, _ARROW_STREAM = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"
_END_OF_STREAM = _ARROW_STREAM + b"\0\0\0\0"
_ARROW_FILE_HEAD_BYTES = 8  # the magic and its padding; what follows is an Arrow stream
_BUFFER_BYTES = 1 << 20


class ColumnarFile:
    """Read once, when it is whole. Rows before a place that cannot be read are delivered, then InputUnusableError is raised."""

    def __init__(self, path: Path, partition: str) -> None:
        self._path, self._partition = path, partition
        self._read = False

    @staticmethod
    def has_magic(head: bytes) -> bool:
        return head.startswith((_PARQUET, _ARROW_FILE, _ARROW_STREAM))

    def is_whole(self) -> bool:
        """Whether the file ends as its format ends: false while it is still being written."""
        with self._path.open("rb") as file:
            head, size = file.read(8), file.seek(0, 2)
            file.seek(max(0, size - 8))
            tail = file.read()
        mark = next((mark for mark in (_PARQUET, _ARROW_FILE) if head.startswith(mark)), _END_OF_STREAM)
        return size > 8 and tail.endswith(mark)

    def read(self, start: int, final: bool) -> Iterator[SourceChunk]:
        """Rows from offset `start` on, unless they have been read; nothing of an unfinished file unless `final`."""
        if self._read or not (final or self.is_whole()):
            return
        self._read = True
        if not self._path.stat().st_size:
            raise InputUnusableError(f"{self._path} is empty; write it again, or move it away")
        row = 0
        try:
            with ExitStack() as opened:
                for row, batch in self._batches(start, opened):
                    table = pa.Table.from_batches([batch])
                    table.validate(full=True)
                    chunk = SourceChunk(self._partition, row, row + len(batch), table, np.arange(row, row + len(batch)))
                    row += len(batch)
                    yield from pieces(chunk, start)
        except (pa.ArrowException, OSError) as error:
            raise InputUnusableError(
                f"{self._path} cannot be read beyond row {row}: {' '.join(str(error).split())[:300].rstrip('.')}; it is "
                "truncated or corrupt: write it again, or move it away"
            ) from error

    def _batches(self, start: int, opened: ExitStack) -> Iterator[tuple[int, pa.RecordBatch]]:
        """(its first row, batch) for the batches that reach beyond row `start`."""
        with self._path.open("rb") as file:
            head = file.read(8)
        if head.startswith(_PARQUET):
            yield from self._parquet(start, opened)
            return
        source = opened.enter_context(pa.OSFile(str(self._path)))
        if head.startswith(_ARROW_FILE) and self.is_whole():
            file_reader = ipc.open_file(source)
            batches: Iterator[pa.RecordBatch] = (file_reader.get_batch(i) for i in range(file_reader.num_record_batches))
        else:
            source.seek(_ARROW_FILE_HEAD_BYTES if head.startswith(_ARROW_FILE) else 0)
            batches = iter(ipc.open_stream(source))
        row = 0
        for batch in batches:
            if row + len(batch) > start:
                yield row, batch
            row += len(batch)
        if head.startswith(_ARROW_FILE) and not self.is_whole():
            raise pa.ArrowInvalid("the end of the file is missing")

    def _parquet(self, start: int, opened: ExitStack) -> Iterator[tuple[int, pa.RecordBatch]]:
        file = opened.enter_context(pq.ParquetFile(self._path, buffer_size=_BUFFER_BYTES, page_checksum_verification=True))
        row = 0
        groups: list[int] = []
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if not groups and row + rows <= start:
                row += rows
            else:
                groups.append(group)
        for batch in file.iter_batches(CHUNK_ROWS, row_groups=groups, use_threads=False):
            if row + len(batch) > start:
                yield row, batch
            row += len(batch)
