"""JSON instances as the rows that the model learned from: the same cells give the same vector here as in the stream."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa

from actors.feedback import FeedbackItem
from actors.learning.encoding import RowEncoder, encode_column
from actors.learning.schema import Column, ColumnKind, Schema
from actors.learning.task import TaskConfig, TaskKind
from actors.sources.json_rows import NO_SCORE, is_score, spelled
from actors.sources.labels import LabelReader
from actors.sources.row_faults import RowFaults, shown
from serve.interfaces import RequestError

_NUMBERS = (float, int, bool)


class InstanceEncoder:
    """Encodes instances of one schema. Errors are RequestError 422; their field is relative to the instances: `[3].age`."""

    def __init__(self, schema: Schema) -> None:
        encoder = RowEncoder(schema)
        self.width, self._places = encoder.width, encoder.places
        self._names = {column.name for column in schema.columns}

    def encode(self, instances: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """x_ND float32 of N instances; null is a missing value, an absent feature an error."""
        for i, instance in enumerate(instances):
            if instance.keys() != self._names:
                self._refuse_names(i, instance)
        x_ND = np.empty((len(instances), self.width), np.float32)
        with np.errstate(over="ignore"):  # beyond float32 is infinite, which is refused below
            for column, place in self._places:
                cells = [instance[column.name] for instance in instances]
                if column.kind is ColumnKind.NUMERIC:
                    x_ND[:, place.start] = _numbers(column, cells)
                else:
                    encode_column(x_ND[:, place], column, _array(column, cells))
        if np.isinf(x_ND).any():
            self._refuse_infinite(x_ND, instances)
        return x_ND

    def _refuse_names(self, i: int, instance: Mapping[str, Any]) -> NoReturn:
        unknown = [name for name in instance if name not in self._names]
        if unknown:
            absent = sorted(self._names - instance.keys())
            near = get_close_matches(unknown[0], absent, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "; take it out"
            raise _error(i, unknown[0], "unknown_feature", f"{shown(unknown[0])} is not a feature of this model{hint}")
        absent = sorted(self._names - instance.keys())
        raise _error(
            i, absent[0], "missing_feature", f"feature {absent[0]!r} is absent; send null where its value is not known"
        )

    def _refuse_infinite(self, x_ND: np.ndarray, instances: Sequence[Mapping[str, Any]]) -> NoReturn:
        i, d = (int(at) for at in np.argwhere(np.isinf(x_ND))[0])
        name = next(column.name for column, place in self._places if place.start <= d < place.stop)
        raise _error(
            i,
            name,
            "not_finite",
            f"feature {name!r} is {shown(instances[i][name])}, beyond what float32 holds (3.4e38)",
        )


class LabelChecker:
    """Labels as clients send them, held to what the stream's labels are."""

    def __init__(self, schema: Schema, task: TaskConfig) -> None:
        self._takes_scores, self._reader = task.kind is TaskKind.FEEDBACK, LabelReader(schema, task)

    def check(self, i: int, label: Any) -> Any:
        """The label as a value of the schema's label type. Raises RequestError 422 with the field `[i].label`."""
        faults = RowFaults(1)
        message = f"is {shown(label)}, which is no label: send a text, a number, true or false"
        if isinstance(label, str | float | int | bool):
            try:
                values = self._reader.read(pa.array([label]), faults)
            except (pa.ArrowInvalid, OverflowError):  # an integer beyond 64 bits
                message = f"is {shown(label)}, which is too large"
            else:
                if not faults.of_row:
                    return values[0].as_py()
                message = faults.of_row[0][1]
        raise RequestError(422, "wrong_label", f"label: {message}", f"[{i}].label")

    def check_score(self, i: int, score: float) -> None:
        """Raises RequestError 422 with the field `[i].score`."""
        if not self._takes_scores:
            message = "this system learns labels, not scores (task.kind is not feedback): send label"
            raise RequestError(422, "no_scores", message, f"[{i}].score")
        if not is_score(score):
            raise RequestError(422, "wrong_score", f"score: {shown(score)} {NO_SCORE}", f"[{i}].score")


def check_items(items: Sequence[FeedbackItem], encoder: InstanceEncoder, labels: LabelChecker) -> list[FeedbackItem]:
    """Feedback whose labels are values of the label type, and whose features can be learned. Raises RequestError 422."""
    checked = []
    for i, item in enumerate(items):
        if item.features is not None:
            try:
                encoder.encode([json.loads(item.features)])
            except RequestError as error:
                field = f"[{i}].features{(error.field or '').removeprefix('[0]')}"
                raise RequestError(error.status, error.code, error.message, field) from error
        if item.score is not None:
            labels.check_score(i, item.score)
            checked.append(item)
        else:
            checked.append(replace(item, label=labels.check(i, item.label)))
    return checked


def _error(i: int, name: str, code: str, message: str) -> RequestError:
    return RequestError(422, code, message, f"[{i}].{name}")


def _numbers(column: Column, cells: list[Any]) -> list[Any]:
    for i, cell in enumerate(cells):
        if type(cell) in _NUMBERS:
            continue
        if cell is not None:
            raise _error(i, column.name, "wrong_type", f"feature {column.name!r} is {shown(cell)}, wanted a number or null")
        cells[i] = np.nan
    try:
        return list(map(float, cells))
    except OverflowError:  # an integer of more than 308 digits
        i = next(i for i, cell in enumerate(cells) if type(cell) is int and abs(cell) > 10**308)
        raise _error(i, column.name, "not_finite", f"feature {column.name!r} is too large for a number") from None


def _array(column: Column, cells: list[Any]) -> pa.Array:
    if column.kind is ColumnKind.VECTOR:
        for i, cell in enumerate(cells):
            if cell is None:
                continue
            is_vector = isinstance(cell, list) and len(cell) == column.size
            if not is_vector or not all(type(value) in _NUMBERS or value is None for value in cell):
                raise _error(
                    i, column.name, "wrong_type", f"feature {column.name!r} is {shown(cell)}, wanted {column.size} numbers"
                )
            try:
                cells[i] = [np.nan if value is None else float(value) for value in cell]
            except OverflowError:
                raise _error(i, column.name, "not_finite", f"feature {column.name!r} has a value too large") from None
        return pa.array(cells, pa.list_(pa.float64()))
    for i, cell in enumerate(cells):
        if cell is not None and type(cell) not in (str, *_NUMBERS):
            raise _error(i, column.name, "wrong_type", f"feature {column.name!r} is {shown(cell)}, wanted a text or null")
        cells[i] = None if cell is None else _text(cell)
        try:
            _ = cells[i] is None or cells[i].encode()
        except UnicodeEncodeError:
            raise _error(i, column.name, "wrong_type", f"feature {column.name!r} is no valid Unicode text") from None
    return pa.array(cells, pa.string())


def _text(cell: str | float) -> str:
    """As a row of the journal spells it."""
    return cell if isinstance(cell, str) else str(cell).lower() if isinstance(cell, bool) else spelled(cell)
