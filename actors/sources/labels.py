"""Labels as values of the schema's label type."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.errors import ConfigError
from actors.learning.schema import LabelType, Schema
from actors.learning.task import TaskConfig, TaskKind
from actors.sources.inference import strings
from actors.sources.row_faults import RowFaults, mask, not_finite, shown
from actors.sources.source import BadRowReason

_ARROW_TYPES = {
    LabelType.INTEGER: pa.int64(),
    LabelType.FLOAT: pa.float64(),
    LabelType.BOOLEAN: pa.bool_(),
    LabelType.STRING: pa.string(),
}


class LabelReader:
    """Raises ConfigError where `task.classes` does not fit the schema's label type."""

    def __init__(self, schema: Schema, task: TaskConfig) -> None:
        self._schema, self._task = schema, task
        self._classes = None
        if task.kind is not TaskKind.REGRESSION and task.classes != "auto":
            self._classes = _classes_as(schema.label_type, task.classes)

    def read(self, array: pa.Array, faults: RowFaults) -> pa.Array:
        """The labels as their type, null where the row is at fault."""
        schema = self._schema
        is_missing_N = mask(array.is_null())
        if strings(array.type):
            array = array.cast(pa.string())
            is_missing_N |= mask(pc.equal(pc.utf8_trim_whitespace(array), ""))
        empty = f"the label {schema.label!r} is empty; every row needs one"
        faults.add(is_missing_N, BadRowReason.MISSING_LABEL, lambda _: empty)
        target = _ARROW_TYPES[schema.label_type]
        try:
            values = _cast_label(array.filter(pa.array(~is_missing_N)), target)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            values = self._cast_fitting(array, is_missing_N, target, faults)
        else:
            if is_missing_N.any():
                values = values.take(pa.array(np.cumsum(~is_missing_N) - 1, mask=is_missing_N))
        if pa.types.is_floating(target):
            with np.errstate(over="ignore"):
                is_finite_N = np.isfinite(values.to_numpy(zero_copy_only=False).astype(np.float32))
            bad_N = ~is_finite_N & mask(values.is_valid())
            faults.add(bad_N, BadRowReason.NOT_FINITE, lambda i: not_finite(f"the label {schema.label!r}", array[i].as_py()))
        if self._classes is not None:
            bad_N = ~mask(pc.is_in(values, self._classes)) & mask(values.is_valid())
            known = shown(self._classes.to_pylist())
            faults.add(
                bad_N,
                BadRowReason.UNKNOWN_CLASS,
                lambda i: f"the label {shown(array[i].as_py())} is not one of task.classes, {known}; add it there, or say auto",
            )
        return values

    def _cast_fitting(self, array: pa.Array, is_missing_N: np.ndarray, target: pa.DataType, faults: RowFaults) -> pa.Array:
        """Casts the labels one by one, for some do not fit."""
        label, label_type = self._schema.label, self._schema.label_type
        values: list[Any] = []
        is_infinite_N, is_wrong_N = np.zeros_like(is_missing_N), np.zeros_like(is_missing_N)
        for i in range(len(array)):
            cell = array[i : i + 1]
            text = str(cell[0].as_py()).strip()
            try:
                cell = pa.array([text]) if strings(cell.type) else cell
                values.append(None if is_missing_N[i] else _cast_label(cell, target)[0].as_py())
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                values.append(None)
                words = label_type is LabelType.INTEGER and text.lower().lstrip("+-") in ("nan", "inf", "infinity")
                (is_infinite_N if words else is_wrong_N)[i] = True
        faults.add(is_infinite_N, BadRowReason.NOT_FINITE, lambda i: not_finite(f"the label {label!r}", array[i].as_py()))
        fix = "mend it" if self._task.kind is TaskKind.REGRESSION else "mend it, or set stream.label_type: string"
        faults.add(
            is_wrong_N,
            BadRowReason.WRONG_TYPE,
            lambda i: f"the label {label!r} holds {shown(array[i].as_py())} where its type is {label_type}; {fix}",
        )
        return pa.array(values, target)


def _cast_label(array: pa.Array, target: pa.DataType) -> pa.Array:
    """Through text to a boolean, for there only 0 and 1 fit of the numbers."""
    return array.cast(pa.string()).cast(target) if pa.types.is_boolean(target) else array.cast(target)


def _classes_as(label_type: LabelType, classes: list[str | int | float | bool]) -> pa.Array:
    target = _ARROW_TYPES[label_type]
    try:
        return pa.concat_arrays([_cast_label(pa.array([value]), target) for value in classes])
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ConfigError(
            f"task.classes is {shown(classes)}, but the labels are of type {label_type}: {error}; "
            "write the classes as the data do, or set stream.label_type: string"
        ) from error
