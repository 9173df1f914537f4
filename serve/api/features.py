"""Tensors as instances of a schema, and replies as tensors."""

from collections.abc import Mapping, Sequence
from typing import Any

from actors.learning.schema import Column, ColumnKind, LabelType
from actors.learning.task import TaskKind
from serve.api.body import joined, missing, wrong_value
from serve.api.tensors import BYTES, Tensor
from serve.interfaces import Reply, RequestError, Served

_LABEL_DATATYPES = {
    LabelType.INTEGER: "INT64",
    LabelType.FLOAT: "FP64",
    LabelType.BOOLEAN: "BOOL",
    LabelType.STRING: BYTES,
}


def instances_of(tensors: Sequence[Tensor], served: Served, max_instances: int) -> list[dict[str, Any]]:
    """N instances: from one tensor for each column, or from a single [N, D] where all D columns are numeric.

    Raises RequestError 422 naming the column, `inputs.age`, or 413 for more than `max_instances`.
    """
    columns = served.schema.columns
    if not tensors:
        raise wrong_value("inputs", "inputs is empty; send one tensor for each feature")
    rows = tensors[0].shape[0]
    if rows > max_instances:
        message = f"the inputs have {rows} rows, more than serve.max_instances: {max_instances}; send several requests"
        raise RequestError(413, "too_many", message, "inputs")
    if rows == 0:
        raise wrong_value("inputs[0].shape", "the inputs have no rows; send at least one")
    names = [column.name for column in columns]
    if _is_matrix(tensors, columns):
        values, width = tensors[0].values, len(columns)
        return [dict(zip(names, values[i : i + width], strict=True)) for i in range(0, rows * width, width)]
    by_name = _by_name(tensors, names)
    cells = [_cells(by_name[column.name], column, rows) for column in columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*cells, strict=True)]


def outputs_of(replies: Sequence[Reply], served: Served) -> list[Tensor]:
    """`prediction` [N], and where there are classes `probabilities` [N, K] with their names."""
    predictions = [reply.prediction for reply in replies]
    outputs = [Tensor("prediction", prediction_datatype(served), (len(replies),), predictions)]
    if replies[0].probabilities is not None:
        classes = list(replies[0].probabilities)
        values = [(reply.probabilities or {}).get(name, 0.0) for reply in replies for name in classes]
        outputs.append(Tensor("probabilities", "FP32", (len(replies), len(classes)), values, {"classes": classes}))
    return outputs


def metadata_of(name: str, served: Served) -> dict[str, Any]:
    """What the protocol calls a model's metadata; -1 is the number of rows, which is free."""
    outputs: list[dict[str, Any]] = [{"name": "prediction", "datatype": prediction_datatype(served), "shape": [-1]}]
    if served.task is not TaskKind.REGRESSION:
        outputs.append({"name": "probabilities", "datatype": "FP32", "shape": [-1, len(served.classes)]})
    return {
        "name": name,
        "versions": [str(served.version)],
        "platform": "perennial",
        "inputs": [_input_metadata(column) for column in served.schema.columns],
        "outputs": outputs,
    }


def prediction_datatype(served: Served) -> str:
    return "FP64" if served.task is TaskKind.REGRESSION else _LABEL_DATATYPES[served.schema.label_type]


def _input_metadata(column: Column) -> dict[str, Any]:
    is_number = column.kind in (ColumnKind.NUMERIC, ColumnKind.VECTOR)
    shape = [-1, column.size] if column.kind is ColumnKind.VECTOR else [-1]
    return {"name": column.name, "datatype": "FP64" if is_number else BYTES, "shape": shape}


def _is_matrix(tensors: Sequence[Tensor], columns: Sequence[Column]) -> bool:
    """Whether the one tensor holds all columns, in the order of the schema."""
    if len(tensors) != 1 or not all(column.kind is ColumnKind.NUMERIC for column in columns):
        return False
    tensor = tensors[0]
    return tensor.datatype != BYTES and len(tensor.shape) == 2 and tensor.shape[1] == len(columns)


def _by_name(tensors: Sequence[Tensor], names: Sequence[str]) -> Mapping[str, Tensor]:
    found: dict[str, Tensor] = {}
    for tensor in tensors:
        field = joined("inputs", tensor.name)
        if tensor.name not in names:
            message = f"{field} is not a feature; the features are {', '.join(names)[:1000]}"
            raise RequestError(422, "unknown_field", message, field)
        if tensor.name in found:
            raise wrong_value(field, f"{field} comes twice")
        found[tensor.name] = tensor
    for name in names:
        if name not in found:
            raise missing(joined("inputs", name), f"{joined('inputs', name)} is missing; send one tensor for each feature")
    return found


def _cells(tensor: Tensor, column: Column, rows: int) -> Sequence[Any]:
    """The column's value for each row: a scalar, or a list for a vector."""
    field = joined("inputs", column.name)
    is_vector = column.kind is ColumnKind.VECTOR
    shapes = [(rows, column.size)] if is_vector else [(rows,), (rows, 1)]
    if tensor.shape not in shapes:
        needed = " or ".join(str(list(shape)) for shape in shapes)
        raise wrong_value(
            field, f"{field} has shape {list(tensor.shape)}; with {rows} rows in the first input it must be {needed}"
        )
    is_text = tensor.datatype == BYTES
    if is_text != (column.kind is ColumnKind.TEXT) and column.kind is not ColumnKind.CATEGORICAL:
        needed = BYTES if column.kind is ColumnKind.TEXT else "numbers"
        raise wrong_value(field, f"{field} is {tensor.datatype}; a {column.kind} feature takes {needed}")
    if not is_vector:
        return tensor.values
    return [list(tensor.values[i : i + column.size]) for i in range(0, rows * column.size, column.size)]
