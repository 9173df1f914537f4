"""Files as a stream: one file, or a folder whose files are read in the order of their names."""

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa

from actors.errors import InputUnusableError
from actors.sources.chunks import SAMPLE_ROWS, stop_after
from actors.sources.columnar_file import ColumnarFile
from actors.sources.config import StreamConfig
from actors.sources.csv_file import CsvFile
from actors.sources.source import SourceChunk

logger = logging.getLogger(__name__)

_CSV = {".csv", ".txt"}
_COLUMNAR = {".parquet", ".pq", ".arrow", ".arrows", ".ipc", ".feather"}
_UNFINISHED = {".tmp", ".part", ".crdownload"}  # and names that begin with "." or "_": not part of the stream


class FilesSource:
    """A file is a partition, named by its path in the folder (or by the file's name); an offset counts its rows.

    With `stream.follow`, lines appended to CSV files and files that arrive are read as they come: a line once its end is
    written, a Parquet or Arrow file once it is whole.
    """

    def __init__(self, config: StreamConfig) -> None:
        self._root = Path(config.path or "").expanduser()
        self._follow, self._rows = config.follow, config.rows

    def sample(self) -> pa.Table:
        tables: list[pa.Table] = []
        wanted = left = min(SAMPLE_ROWS, self._rows or SAMPLE_ROWS)
        malformed = None
        for partition, path in self._paths().items():  # a file that cannot be read shows now, not when its turn comes
            _open(path, partition)
        for chunk in self.read({}):
            if chunk is None or (tables and chunk.table.schema != tables[0].schema):
                break
            malformed = malformed or next(iter(chunk.malformed), None)
            if chunk.table.num_rows:
                tables.append(chunk.table.slice(0, left))
                left -= tables[-1].num_rows
            if not left:
                break
        if left == wanted:
            why = f"; its first row is malformed: {malformed.message}" if malformed else " below its column names"
            when = " before starting" if self._follow else ""
            raise InputUnusableError(f"stream.path {self._root} has no row that can be read{why}; put rows there{when}")
        return pa.concat_tables(tables)

    def read(self, offsets: Mapping[str, int]) -> Iterator[SourceChunk | None]:
        return stop_after(self._chunks(dict(offsets)), offsets, self._rows)

    def _chunks(self, offsets: Mapping[str, int]) -> Iterator[SourceChunk | None]:
        opened: dict[str, CsvFile | ColumnarFile] = {}
        paths = self._paths()
        lost = sorted(partition for partition, offset in offsets.items() if offset and partition not in paths)
        if lost:
            logger.warning("partition=%s was read before and is not at %s any more", lost[0], self._root)
        while True:
            has_read = False
            for partition, path in paths.items():
                if partition not in opened:
                    opened[partition] = _open(path, partition)
                try:
                    for chunk in opened[partition].read(offsets.get(partition, 0), final=not self._follow):
                        has_read = True
                        yield chunk
                except OSError as error:
                    raise InputUnusableError(
                        f"{path} cannot be read any more: {error}; put it back, or start afresh"
                    ) from error
            if not self._follow:
                return
            if not has_read:
                yield None
            paths = self._paths()

    def _paths(self) -> dict[str, Path]:
        """The files by partition, in order."""
        if not self._root.exists():
            raise InputUnusableError(
                f"stream.path {self._root} does not exist (looked for {self._root.absolute()}); set it to a file or folder"
            )
        if not self._root.is_dir():
            return {self._root.name: self._root}
        paths: dict[str, Path] = {}
        for folder, folders, files in os.walk(self._root):
            folders[:] = [name for name in folders if not name.startswith((".", "_"))]
            for name in files:
                path = Path(folder, name)
                if name.startswith((".", "_")) or path.suffix.lower() in _UNFINISHED:
                    continue
                paths[path.relative_to(self._root).as_posix()] = path
        if not paths and not self._follow:
            raise InputUnusableError(
                f"stream.path {self._root} is a folder without files; put CSV, Parquet or Arrow files there"
            )
        return dict(sorted(paths.items()))


def _open(path: Path, partition: str) -> CsvFile | ColumnarFile:
    """By what the file begins with, and by its ending where that says nothing."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise InputUnusableError(f"{path} cannot be opened: {error}; make it readable, or move it away") from error
    ending = path.suffix.lower()
    if ColumnarFile.has_magic(head):
        return ColumnarFile(path, partition)
    if ending in _COLUMNAR:
        if not head:
            return ColumnarFile(path, partition)
        raise InputUnusableError(
            f"{path} is neither Parquet nor Arrow: it begins with {head!r}; write it again, or move it away"
        )
    if ending not in _CSV:
        raise InputUnusableError(
            f"{path} is not known to be CSV, Parquet or Arrow: end its name in .csv, .parquet or .arrow if it is, "
            "unpack it if it is packed, or move it away"
        )
    return CsvFile(path, partition)
