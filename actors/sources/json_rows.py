"""Rows that arrive as JSON objects, one by one, as the columns that the validator takes.

Whether a row is good must not depend on the rows it happens to be read with. Within a table a column therefore holds one
class of values: numbers, or text, or booleans, or lists of numbers; where another class comes, a new chunk begins. A column
that has text in one of the first rows gets its numbers as text, too, as a CSV file's would be.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
import pyarrow as pa

from actors.sources.row_faults import shown
from actors.sources.source import BadRow, BadRowReason, Scored, SourceChunk

_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")  # may be half of a surrogate pair, which is no text
_EXACT = 2**53  # up to here every float without a fraction is one integer
NO_SCORE = "is none that can be learned; a score lies between 0 and 1, or is -1 for the worst"
_LARGE = 10**10  # from here on Arrow writes the integer and the float of the same value in different words


def is_score(score: float) -> bool:
    return score == -1 or 0 <= score <= 1


@dataclass(frozen=True, slots=True)
class JsonRow:
    """A row of the stream; features, label and answer are JSON documents. It has a label, or a score of its answer."""

    offset: int
    features: str
    label: str | None
    score: float | None = None
    answer: str | None = None
    propensity: float | None = None
    version: int | None = None


class _Class(Enum):
    NUMBER = "a number"
    TEXT = "text"
    BOOLEAN = "true or false"
    LIST = "a list of numbers"
    NOTHING = "null"


@dataclass(slots=True)
class _Run:
    """Consecutive rows that can be one table."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    scored: list[Scored | None] = field(default_factory=list)
    malformed: list[BadRow] = field(default_factory=list)
    classes: dict[str, _Class] = field(default_factory=dict)


class JsonRows:
    """`first_rows` of the stream (those that can be read) say which columns there are; their label is called `label`."""

    def __init__(self, partition: str, label: str, first_rows: Iterable[JsonRow], *, takes_scores: bool = False) -> None:
        self._partition, self._label, self._takes_scores = partition, label, takes_scores
        self._sample: list[dict[str, Any]] = []
        self.first_fault: str | None = None
        for row in first_rows:
            parsed = self._parse(row)
            if isinstance(parsed, BadRow):
                self.first_fault = self.first_fault or parsed.message
            else:
                self._sample.append(parsed)
        features = dict.fromkeys(name for row in self._sample for name in row if name != label)
        self._names = [*features, label]
        self._as_text: set[str] = set()
        self._usual: dict[str, _Class] = {}  # class of each column
        for name in self._names:
            counts = Counter(self._class(name, row[name]) for row in self._sample if row.get(name) is not None)
            if counts[_Class.TEXT]:
                self._as_text.add(name)
                counts[_Class.TEXT] += counts.pop(_Class.NUMBER, 0)
            self._usual[name] = counts.most_common(1)[0][0] if counts else _Class.NOTHING

    def sample(self) -> pa.Table:
        """The first rows; where classes of values mix in a column, those of its rarer classes are left out of it."""
        rows = []
        for row in self._sample:
            classes = self._classes(row)
            rows.append({name: value for name, value in row.items() if classes[name] is self._usual[name]})
        return self._table(rows)

    def chunks(self, rows: Sequence[JsonRow]) -> Iterator[SourceChunk]:
        """`rows`, which are consecutive, in as few chunks as can be."""
        run = _Run()
        for row in rows:
            parsed = self._parse(row)
            if not isinstance(parsed, BadRow):
                parsed = self._known(row, parsed)
            if isinstance(parsed, BadRow):
                run.malformed.append(parsed)
                continue
            classes = self._classes(parsed)
            if run.rows and run.classes != classes:
                yield self._chunk(run)
                run = _Run()
            run.rows.append(parsed)
            run.offsets.append(row.offset)
            run.scored.append(self._scored(row))
            run.classes = classes
        if run.rows or run.malformed:
            yield self._chunk(run)

    def _chunk(self, run: _Run) -> SourceChunk:
        every = [*run.offsets, *(bad.offset for bad in run.malformed)]
        return SourceChunk(
            self._partition,
            min(every),
            max(every) + 1,
            self._table(run.rows),
            np.array(run.offsets, np.int64),
            tuple(run.malformed),
            scored=tuple(run.scored),
        )

    def _parse(self, row: JsonRow) -> dict[str, Any] | BadRow:
        """The row by column."""
        try:
            text = row.answer if self._takes_scores and row.score is not None else row.label
            features = json.loads(row.features)
            label = None if text is None else json.loads(text)
            if _HALF_PAIR.search(row.features) or (text and _HALF_PAIR.search(text)):
                json.dumps([features, label], ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            return self._bad(row, BadRowReason.MALFORMED, f"the row is no JSON that can be read ({error}); mend its sender")
        if not isinstance(features, dict):
            return self._bad(
                row,
                BadRowReason.MALFORMED,
                f"the features are {shown(features)}; they must be an object, by feature name",
            )
        if self._label in features:
            return self._bad(
                row,
                BadRowReason.UNKNOWN_COLUMN,
                f"the features have one called {self._label!r}, which is the label (stream.label); leave it out",
            )
        if self._takes_scores and row.score is not None and not (row.propensity and is_score(row.score)):
            message = f"the score {shown(row.score)} of an answer with probability {shown(row.propensity)} {NO_SCORE}"
            return self._bad(row, BadRowReason.WRONG_TYPE, message)
        parsed = {**features, self._label: label}
        try:
            for name, value in parsed.items():
                parsed[name] = _cell(value)
        except (TypeError, OverflowError):
            return self._unfit(row, name, value)
        return parsed

    def _scored(self, row: JsonRow) -> Scored | None:
        if not self._takes_scores or row.score is None or not row.propensity:
            return None
        return Scored(max(0.0, row.score), row.propensity, -1 if row.version is None else row.version)

    def _classes(self, parsed: Mapping[str, Any]) -> dict[str, _Class]:
        """By column. What is missing counts to the usual class of its column: it fits there, and goes with no other."""
        return {
            name: usual if (value := parsed.get(name)) is None else self._class(name, value)
            for name, usual in self._usual.items()
        }

    def _class(self, name: str, value: Any) -> _Class:
        if isinstance(value, bool):
            return _Class.BOOLEAN
        if isinstance(value, list):
            return _Class.LIST
        is_text = isinstance(value, str) or name in self._as_text or (isinstance(value, int) and abs(value) >= _LARGE)
        return _Class.TEXT if is_text else _Class.NUMBER

    def _known(self, row: JsonRow, parsed: dict[str, Any]) -> dict[str, Any] | BadRow:
        unknown = [name for name, value in parsed.items() if value is not None and name not in self._usual]
        if not unknown:
            return parsed
        message = f"feature {min(unknown)!r} is in none of the first rows of the stream; leave it out, or start afresh with it"
        return self._bad(row, BadRowReason.UNKNOWN_COLUMN, message)

    def _unfit(self, row: JsonRow, name: str, value: Any) -> BadRow:
        what = "the label" if name == self._label else f"feature {name!r}"
        usable = ", ".join(each.value for each in _Class)
        return self._bad(row, BadRowReason.WRONG_TYPE, f"{what} holds {shown(value)}; it may be one of: {usable}")

    def _bad(self, row: JsonRow, reason: BadRowReason, message: str) -> BadRow:
        return BadRow(self._partition, row.offset, reason, message, {"features": row.features, "label": row.label})

    def _table(self, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
        return pa.table(
            {name: _column([row.get(name) for row in rows], name in self._as_text) for name in self._names},
        )


def _cell(value: Any) -> Any:
    """A float without a fraction as the integer that it is, for JSON has but one kind of number. A list's numbers as floats.

    Raises TypeError and OverflowError for what no column can hold.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < _EXACT else value
    if isinstance(value, list) and all(each is None or isinstance(each, int | float) for each in value):
        return [None if each is None else float(each) for each in value]
    raise TypeError(f"{type(value).__name__} is no value of a column")


def spelled(number: float) -> str:
    """A number in a column of text."""
    cell = _cell(number)
    return str(pa.scalar(cell, pa.float64()).cast(pa.string()).as_py()) if isinstance(cell, float) else str(cell)


def _column(cells: list[Any], as_text: bool) -> pa.Array:
    """Cells of one class, or null."""
    types = {type(cell) for cell in cells} - {type(None)}
    if not types:
        return pa.nulls(len(cells))
    if types == {bool}:
        return pa.array(cells, pa.bool_())
    if types == {list}:
        return pa.array(cells, pa.list_(pa.float64()))
    is_text = as_text or str in types or any(isinstance(cell, int) and abs(cell) >= _LARGE for cell in cells)
    if not is_text:
        return pa.array(cells, pa.int64() if types == {int} else pa.float64())
    floats = iter(pa.array([cell for cell in cells if type(cell) is float], pa.float64()).cast(pa.string()).to_pylist())
    return pa.array(
        [next(floats) if type(cell) is float else None if cell is None else str(cell) for cell in cells], pa.string()
    )
