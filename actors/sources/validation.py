"""The gate between what a source reads and what a learner sees: good rows encoded, bad rows with the reason.

Whole columns are cast at once; only where that fails are the bad cells looked for.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.learning.encoding import RowEncoder, as_float64, plain
from actors.learning.lineage import OffsetRange
from actors.learning.schema import Column, ColumnKind, Schema
from actors.learning.task import TaskConfig, TaskKind
from actors.sources.inference import NOT_FINITE, NUMBER, numbers, strings
from actors.sources.labels import LabelReader
from actors.sources.row_faults import RowFaults, mask, not_finite, shown
from actors.sources.source import BadRow, BadRowReason, Scored, SourceChunk


class GivenAnswer(NamedTuple):
    """An answer and its score, NaN where the answer is a label: the right one, whatever was given."""

    answer: Any
    score: float
    propensity: float
    version: int


@dataclass(frozen=True, slots=True)
class CleanRows:
    """Rows of one chunk that may be learned, in order.

    offset_N int64; x_ND float32, NaN where a value is missing; labels: for classification N values of the schema's label
    type, for regression float64 [N], for a feedback task N GivenAnswers.
    """

    offset_N: np.ndarray
    x_ND: np.ndarray
    labels: list[Any] | np.ndarray

    def __post_init__(self) -> None:
        if not len(self.offset_N) == len(self.x_ND) == len(self.labels):
            raise ValueError(
                f"offsets, features and labels disagree: {len(self.offset_N)}, {self.x_ND.shape}, {len(self.labels)}"
            )


class RowValidator:
    """Raises ConfigError where `task.classes` does not fit the schema's label type."""

    def __init__(self, schema: Schema, task: TaskConfig) -> None:
        self._schema, self._task = schema, task
        self._encoder = RowEncoder(schema)
        self._names = {column.name for column in schema.columns} | {schema.label}
        self._labels = LabelReader(schema, task)

    def check(self, chunk: SourceChunk, excluded: Sequence[OffsetRange] = ()) -> tuple[CleanRows, list[BadRow]]:
        """The good rows of `chunk`, and the others with the malformed ones of the chunk, by offset."""
        faults = RowFaults(chunk.table.num_rows)
        for offsets in excluded:
            if offsets.partition == chunk.partition:
                is_excluded_N = (chunk.offset_N >= offsets.start) & (chunk.offset_N < offsets.stop)
                faults.add(is_excluded_N, BadRowReason.EXCLUDED, lambda _: "reverted: it is not learned from any more")
        labels: list[Any] | np.ndarray
        if not self._check_columns(chunk.table.column_names, faults):
            x_ND = np.empty((0, self._encoder.width), np.float32)
            labels = np.empty(0) if self._task.kind is TaskKind.REGRESSION else []
        else:
            fitting = {c.name: _fitting(c, plain(chunk.table.column(c.name)), faults) for c in self._schema.columns}
            x_ND = self._encoder.encode(pa.table(fitting))
            self._check_finite(x_ND, fitting, chunk.table, faults)
            values = self._labels.read(plain(chunk.table.column(self._schema.label)), faults)
            if faults.of_row:
                x_ND, values = x_ND[~faults.is_bad_N], values.filter(pa.array(~faults.is_bad_N))
            label_N = values.to_numpy(zero_copy_only=False)
            match self._task.kind:
                case TaskKind.REGRESSION:
                    labels = np.array(label_N, np.float64)
                case TaskKind.FEEDBACK:
                    scored = chunk.scored or (None,) * chunk.table.num_rows
                    labels = list(map(_given, label_N.tolist(), compress(scored, ~faults.is_bad_N)))
                case _:
                    labels = label_N.tolist()
        bad = list(chunk.malformed)
        rows = sorted(faults.of_row)
        for i, raw in zip(rows, chunk.table.take(pa.array(rows, pa.int64())).to_pylist(), strict=True):
            bad.append(BadRow(chunk.partition, int(chunk.offset_N[i]), *faults.of_row[i], raw))
        return CleanRows(chunk.offset_N[~faults.is_bad_N], x_ND, labels), sorted(bad, key=lambda row: row.offset)

    def _check_columns(self, found: list[str], faults: RowFaults) -> bool:
        every_row_N = np.ones_like(faults.is_bad_N)
        unknown = [name for name in found if name not in self._names] or [name for name in found if found.count(name) > 1]
        absent = sorted(self._names - set(found))
        if unknown:
            where = f"; {absent[0]!r} is absent: name it so if it is the same" if absent else ""
            message = f"column {unknown[0]!r} is not in the schema{where}; take it out of the data, or start afresh with it"
            faults.add(every_row_N, BadRowReason.UNKNOWN_COLUMN, lambda _: message)
        elif absent:
            message = f"column {absent[0]!r} is absent; add it, empty where a value is missing"
            faults.add(every_row_N, BadRowReason.MISSING_COLUMN, lambda _: message)
        return not unknown and not absent

    def _check_finite(self, x_ND: np.ndarray, fitting: dict[str, pa.Array], table: pa.Table, faults: RowFaults) -> None:
        """What is not finite as float32, and not missing."""
        is_finite_ND = np.isfinite(x_ND)
        if is_finite_ND.all():
            return
        for column, place in self._encoder.places:
            if column.kind not in (ColumnKind.NUMERIC, ColumnKind.VECTOR) or is_finite_ND[:, place].all():
                continue
            is_bad_N = (~is_finite_ND[:, place] & _present(column, fitting[column.name])).any(axis=1)
            faults.add(is_bad_N, BadRowReason.NOT_FINITE, _not_finite_message(column.name, table.column(column.name)))


def _given(answer: Any, scored: Scored | None) -> GivenAnswer:
    if scored is None:
        return GivenAnswer(answer, math.nan, 1.0, -1)
    return GivenAnswer(answer, scored.score, scored.propensity, scored.version)


def _not_finite_message(name: str, cells: pa.ChunkedArray) -> Callable[[int], str]:
    return lambda i: not_finite(f"column {name!r}", cells[i].as_py())


def _fitting(column: Column, array: pa.Array, faults: RowFaults) -> pa.Array:
    """`array` in a type that the encoder takes, null where a cell does not fit the column's kind."""
    kind, needed = array.type, column.kind.value
    is_wrong_N = np.zeros(len(array), bool)
    if pa.types.is_null(kind):
        return array
    if column.kind is ColumnKind.VECTOR:
        needed = f"a vector of {column.size} numbers"
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        if is_list and (numbers(kind.value_type) or pa.types.is_null(kind.value_type)):
            is_wrong_N = mask(pc.not_equal(pc.list_value_length(array), column.size))
        else:
            is_wrong_N = mask(array.is_valid())
    elif strings(array.type):
        if column.kind is not ColumnKind.NUMERIC:
            return array
        try:
            return as_float64(array)
        except pa.ArrowInvalid:
            array = pc.utf8_trim_whitespace(array.cast(pa.string()))
            array = pc.if_else(pc.equal(array, ""), None, array)
            is_wrong_N = ~mask(pc.match_substring_regex(array, f"{NUMBER}|{NOT_FINITE}")) & mask(array.is_valid())
    elif not numbers(kind):
        is_wrong_N = mask(array.is_valid())
    cells = array
    faults.add(
        is_wrong_N,
        BadRowReason.WRONG_TYPE,
        lambda i: f"column {column.name!r} holds {shown(cells[i].as_py())}, which is not {needed}; mend it, or leave it empty",
    )
    if (is_wrong_N | ~mask(array.is_valid())).all():
        return pa.nulls(len(array))
    if is_wrong_N.any():
        array = array.take(pa.array(np.arange(len(array)), mask=is_wrong_N))
    return as_float64(array) if column.kind is ColumnKind.NUMERIC else array


def _present(column: Column, array: pa.Array) -> np.ndarray:
    """bool [N, size]: where a numeric or vector column has a value."""
    present_N = mask(array.is_valid())
    if column.kind is ColumnKind.NUMERIC:
        return present_N[:, None]
    present_NS = np.zeros((len(array), column.size), bool)
    if present_N.any():
        present_NS[present_N] = mask(array.drop_null().flatten().is_valid()).reshape(-1, column.size)
    return present_NS
