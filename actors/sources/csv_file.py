"""A CSV file (RFC 4180: commas, double quotes, UTF-8, names in the first line), read in blocks of whole records.

Cells arrive as strings, an empty one as null; casting them is the validator's work. A record with the wrong number of
fields, or that is not UTF-8, keeps its offset and comes as malformed. Blank lines are no rows.
"""

import csv
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from actors.errors import InputUnusableError
from actors.sources.chunks import pieces
from actors.sources.source import BadRow, BadRowReason, SourceChunk

_BLOCK_BYTES = 1 << 20
_RECORD_BYTES = 8 << 20  # a longer record is taken for one with an unclosed quote
_BOM = b"\xef\xbb\xbf"
_OTHER_ENCODINGS = (b"\xff\xfe", b"\xfe\xff")
# A quoted field, found by its quote for speed; the group is empty while it is unclosed.
_QUOTED = re.compile(rb'"(?:(?<=[,\r\n]")|(?<=\A"))(?:[^"]++|"")*+("?)')
_NOT_UTF8 = "\ufdd0"  # a noncharacter, stands for a byte that is not UTF-8


def end_of_records(data: bytes) -> int:
    """The length of the whole records at the start of `data`: up to its last line end outside quotes."""
    end, searched = 0, 0
    for field in _QUOTED.finditer(data):
        end = data.rfind(b"\n", searched, field.start()) + 1 or end
        searched = field.end()
        if not field[1]:
            return end
    return data.rfind(b"\n", searched) + 1 or end


def end_of_record(data: bytes) -> int:
    """The length of the first record of `data`, all of it where no line ends."""
    newline = data.find(b"\n")
    for field in _QUOTED.finditer(data):
        if newline < field.start():
            break
        newline = data.find(b"\n", field.end())
    return newline + 1 or len(data)


class CsvFile:
    """Reads a file from its start, and on from where it stopped each time that it has grown."""

    def __init__(self, path: Path, partition: str) -> None:
        self._path, self._partition = path, partition
        self._names: list[str] = []
        self._position = 0  # bytes taken
        self._row = 0  # rows taken

    def read(self, start: int, final: bool) -> Iterator[SourceChunk]:
        """Rows from offset `start` on that have not been read yet. Where `final`, a last line without its end counts too."""
        for block, whole in self._blocks(final):
            if not self._names:
                header = end_of_record(block)
                self._names = self._header(block[:header])
                block = block[header:]
            chunk = self._parse(block) if whole else self._unclosed(block)
            self._row = chunk.stop
            yield from pieces(chunk, start)

    def _blocks(self, final: bool) -> Iterator[tuple[bytes, bool]]:
        """Bytes of whole records, or (False) a line that opens a quote which nothing closes."""
        size = self._path.stat().st_size
        if size < self._position:
            raise InputUnusableError(
                f"{self._path} shrank from {self._position} to {size} bytes while it was followed; append to a file, "
                "or start a new one under another name"
            )
        if size == 0 and final:
            raise InputUnusableError(
                f"{self._path} is empty; a CSV file needs a line of column names and at least one row, or remove it"
            )
        with self._path.open("rb") as file:
            file.seek(self._position)
            pending, more = b"", True
            while more or (final and pending):
                read = file.read(_BLOCK_BYTES)
                more = len(read) == _BLOCK_BYTES
                pending += read
                end, whole = end_of_records(pending), True
                if not end and (len(pending) > _RECORD_BYTES or (final and not more)):
                    whole = all(field[1] for field in _QUOTED.finditer(pending))
                    if whole and (more or not final):
                        raise InputUnusableError(
                            f"{self._path} has a line of more than {_RECORD_BYTES} bytes at byte {self._position}; is it a "
                            "CSV file?"
                        )
                    end = len(pending) if whole else pending.find(b"\n") + 1 or len(pending)
                if end:
                    self._position += end
                    yield pending[:end], whole
                    pending = pending[end:]

    def _header(self, line: bytes) -> list[str]:
        if line.startswith(_OTHER_ENCODINGS) or b"\0" in line:
            raise InputUnusableError(
                f"{self._path} is not UTF-8 text (it looks like UTF-16 or binary data); convert it, as with iconv -t UTF-8"
            )
        try:
            text = line.removeprefix(_BOM).decode()
        except UnicodeDecodeError as error:
            raise InputUnusableError(
                f"the first line of {self._path} is not UTF-8 ({error}); convert it, as with iconv -t UTF-8"
            ) from error
        names = next(csv.reader(StringIO(text, newline="")), [])
        if not any(names):
            raise InputUnusableError(f"the first line of {self._path} is blank; a CSV file needs a line of column names there")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputUnusableError(f"{self._path} has two columns called {twice[0]!r}; give every column a name of its own")
        other = next((mark for mark in ";\t|" if mark in text), None)
        if len(names) == 1 and other:
            raise InputUnusableError(
                f"{self._path} separates its columns by {other!r}: {text.strip()!r}; separate them by commas"
            )
        if text.rstrip("\r\n") != text.rstrip("\r\n").replace("\r", ""):
            raise InputUnusableError(f"the lines of {self._path} end in CR alone; end them in LF or CR LF")
        return names

    def _parse(self, block: bytes) -> SourceChunk:
        try:
            block.decode()
            utf8 = True
        except UnicodeDecodeError:
            utf8 = False
            block = re.sub("[\udc80-\udcff]", _NOT_UTF8, block.decode(errors="surrogateescape")).encode()
        broken: dict[int, str] = {}  # by row number, from 1; blank lines are not counted

        def keep(row: arrow_csv.InvalidRow) -> str:
            broken[row.number] = row.text
            return "skip"

        strings = {name: pa.string() for name in self._names}
        table = arrow_csv.read_csv(
            pa.BufferReader(block or b"\n"),
            arrow_csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=self._names),
            arrow_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=keep),
            arrow_csv.ConvertOptions(column_types=strings, null_values=[""], strings_can_be_null=True, check_utf8=False),
        )
        stop = self._row + table.num_rows + len(broken)
        is_good_N = np.ones(stop - self._row, bool)
        is_good_N[[number - 1 for number in broken]] = False
        offset_N = np.flatnonzero(is_good_N) + self._row
        bad = [self._malformed(self._row + number - 1, text) for number, text in broken.items()]
        if not utf8:
            is_whole_N = ~np.logical_or.reduce([_contains(column, _NOT_UTF8) for column in table.columns])
            for i in np.flatnonzero(~is_whole_N):
                bad.append(
                    self._malformed(int(offset_N[i]), ",".join(v or "" for v in table.slice(i, 1).to_pylist()[0].values()))
                )
            table, offset_N = table.filter(pa.array(is_whole_N)), offset_N[is_whole_N]
        return SourceChunk(self._partition, self._row, stop, table, offset_N, tuple(sorted(bad, key=lambda row: row.offset)))

    def _malformed(self, offset: int, text: str) -> BadRow:
        if _NOT_UTF8 in text:
            text = text.replace(_NOT_UTF8, "\ufffd")
            message = f"the row is not UTF-8: {text[:80]!r}; write the file in UTF-8"
        else:
            found = len(next(csv.reader(StringIO(text, newline="")), []))
            message = f"{found} fields where the header names {len(self._names)} columns; quote a field that contains a comma"
        return BadRow(self._partition, offset, BadRowReason.MALFORMED, message, {"line": text})

    def _unclosed(self, line: bytes) -> SourceChunk:
        text = line.decode(errors="replace").rstrip("\r\n")
        message = "a quote is opened and never closed; close it, or double a quote that belongs to the text"
        bad = BadRow(self._partition, self._row, BadRowReason.MALFORMED, message, {"line": text})
        empty = pa.table({name: pa.array([], pa.string()) for name in self._names})
        return SourceChunk(self._partition, self._row, self._row + 1, empty, np.empty(0, np.int64), (bad,))


def _contains(column: pa.ChunkedArray, text: str) -> np.ndarray:
    return np.asarray(pc.fill_null(pc.match_substring(column, text), False).to_numpy())
