"""The journal as a stream: the rows that feedback has made, read by another process than the one that writes them."""

import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa

from actors.errors import InputUnusableError
from actors.journal_file import LAYOUT, refusal
from actors.sources.chunks import CHUNK_ROWS, SAMPLE_ROWS, stop_after
from actors.sources.json_rows import JsonRow, JsonRows
from actors.sources.source import SourceChunk

PARTITION = "feedback"

logger = logging.getLogger(__name__)

_BUSY_S = 10.0
_CHUNK_CHARACTERS = 16 << 20  # of features and labels that are read at once
_COLUMNS = "offset, features, label, score, answer, propensity, version"
_ROWS = f"SELECT {_COLUMNS} FROM rows WHERE offset >= ? ORDER BY offset LIMIT ?"


class JournalSource:
    """One partition, `feedback`. The first rows that this object sees, at most 1,000, say which columns there are.

    `takes_scores`: a row with a score has for its label the answer that was given; otherwise it has none.
    """

    def __init__(self, path: Path, label: str, rows: int | None, *, takes_scores: bool, follow: bool) -> None:
        self._path, self._label, self._rows = path, label, rows
        self._takes_scores, self._follow = takes_scores, follow
        self._json_rows: JsonRows | None = None

    def sample(self) -> pa.Table:
        with closing(_Reader(self._path, skips=False)) as reader:
            json_rows = self._first_rows(reader)
        if json_rows is None:
            raise InputUnusableError(
                f"the journal {self._path} has no row yet: nothing can be learned before feedback has come; post some, labels "
                "of predictions or examples of features and label, and start again"
            )
        sample = json_rows.sample()
        if not sample.num_rows:
            raise InputUnusableError(
                f"none of the first rows of the journal {self._path} can be used; the first: {json_rows.first_fault}"
            )
        return sample.slice(0, min(SAMPLE_ROWS, self._rows or SAMPLE_ROWS))

    def read(self, offsets: Mapping[str, int]) -> Iterator[SourceChunk | None]:
        """Who has no offset yet has learned nothing, and takes what is kept: rows deleted since, an earlier run has learned."""
        chunks = self._chunks(offsets.get(PARTITION, 0), skips=PARTITION not in offsets)
        return stop_after(chunks, offsets, self._rows)

    def _chunks(self, start: int, *, skips: bool) -> Iterator[SourceChunk | None]:
        with closing(_Reader(self._path, skips=skips)) as reader:
            while True:
                json_rows = self._first_rows(reader)
                rows = reader.rows(start) if json_rows else []
                if json_rows and rows:
                    start = rows[-1].offset + 1
                    yield from json_rows.chunks(rows)
                elif self._follow:
                    yield None
                else:
                    return

    def _first_rows(self, reader: "_Reader") -> JsonRows | None:
        if self._json_rows is None:
            rows = reader.first_rows()
            self._json_rows = JsonRows(PARTITION, self._label, rows, takes_scores=self._takes_scores) if rows else None
        return self._json_rows


class _Reader:
    """Reads the file that lies at `path` at the moment, if any: it may not have been made yet, or be taken away.

    `skips`: where rows have been deleted, what comes after them is next; otherwise that is an error.
    """

    def __init__(self, path: Path, *, skips: bool) -> None:
        self._path, self._skips = path, skips
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None  # device and inode

    def first_rows(self) -> list[JsonRow]:
        return self._select(0, SAMPLE_ROWS)

    def rows(self, start: int) -> list[JsonRow]:
        """Rows from offset `start` on, without a gap: at most a chunk of them, none where there are none yet."""
        rows = self._select(start, CHUNK_ROWS)
        if not rows:
            self._check_end(start)
        elif rows[0].offset != start and self._skips:
            logger.warning("rows %d to %d of the journal, learned by an earlier run, are deleted", start, rows[0].offset - 1)
            start = rows[0].offset
        for expected, row in enumerate(rows, start):
            if row.offset != expected:
                if expected > start:  # what comes before the gap is good
                    return rows[: expected - start]
                raise InputUnusableError(
                    f"row {start} of the journal {self._path} has been deleted, the next that is kept is {row.offset}: rows "
                    "that have been learned are kept up to keep_rows; go on from a newer version, or start afresh"
                )
        return rows

    def _select(self, start: int, limit: int) -> list[JsonRow]:
        connection = self._connect()
        if connection is None:
            return []
        rows: list[JsonRow] = []
        characters = 0
        try:
            with closing(connection.execute(_ROWS, (start, limit))) as cursor:
                for values in cursor:
                    row = JsonRow(*values)
                    rows.append(row)
                    characters += len(row.features) + len(row.label or "")
                    if characters > _CHUNK_CHARACTERS:
                        break
        except sqlite3.Error as error:
            raise InputUnusableError(str(refusal(self._path, "read", error))) from error
        return rows

    def _check_end(self, start: int) -> None:
        """Whoever has learned more rows than there are has learned them from another journal."""
        connection = self._connect()
        if connection is None:
            return
        try:
            last = connection.execute("SELECT max(offset) FROM rows").fetchone()[0]
        except sqlite3.Error as error:
            raise InputUnusableError(str(refusal(self._path, "read", error))) from error
        rows = 0 if last is None else last + 1
        if start > rows:
            raise InputUnusableError(
                f"the journal {self._path} has {rows} rows, and the next to be learned is row {start}: it is not the journal "
                "that was learned from; put that one back, or start afresh"
            )

    def _connect(self) -> sqlite3.Connection | None:
        """None while there is no journal."""
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            self.close()
            return None
        except OSError as error:
            raise InputUnusableError(f"the journal {self._path} cannot be read: {error}; make it readable") from error
        if self._opened != (found.st_dev, found.st_ino):
            self.close()
        if self._connection is None:
            self._connection = self._open()
            self._opened = (found.st_dev, found.st_ino)
        return self._connection

    def _open(self) -> sqlite3.Connection | None:
        connection = None
        try:
            connection = sqlite3.connect(
                f"file:{quote(str(self._path.absolute()))}?mode=ro",
                uri=True,
                timeout=_BUSY_S,
                isolation_level=None,
                check_same_thread=False,
            )
            layout = connection.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            raise InputUnusableError(str(refusal(self._path, "read", error))) from error
        if layout == LAYOUT:
            return connection
        connection.close()
        if layout:
            raise InputUnusableError(
                f"{self._path} is no journal of this release (layout {layout}, this one reads {LAYOUT}); go on with the "
                "release that wrote it, or start afresh"
            )
        return None  # its tables are not there yet

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._opened = None
