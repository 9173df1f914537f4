"""Tensors of the Open Inference Protocol v2: read from JSON or from the binary extension, and written as either.

Binary, numbers are little-endian in row-major order; BYTES elements are each preceded by their length as uint32. The bytes of
all tensors follow the JSON document, whose length the header Inference-Header-Content-Length tells.
https://github.com/kserve/open-inference-protocol, and Triton's "Binary Tensor Data Extension".
"""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from actors.sources.row_faults import shown
from serve.api.body import kind_of, missing, wrong_type, wrong_value

BYTES = "BYTES"
HEADER_LENGTH = "Inference-Header-Content-Length"

_FLOATS: dict[str, np.dtype[Any]] = {"FP16": np.dtype("<f2"), "FP32": np.dtype("<f4"), "FP64": np.dtype("<f8")}
_INTEGERS: dict[str, np.dtype[Any]] = {
    f"{sign}{bits}": np.dtype(f"<{code}{bits // 8}") for sign, code in (("INT", "i"), ("UINT", "u")) for bits in (8, 16, 32, 64)
}
_NUMBERS: dict[str, np.dtype[Any]] = {"BOOL": np.dtype("?"), **_INTEGERS, **_FLOATS}
_MAX_DIMENSIONS = 8
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Tensor:
    """`values` in row-major order: numbers, booleans or strings, None where a value is missing (NaN, null)."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Sequence[Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)


def read_inputs(document: Mapping[str, Any], binary: bytes) -> list[Tensor]:
    """The input tensors of a request. Raises RequestError 422 naming the field, `inputs[1].shape`."""
    if "inputs" not in document:
        raise missing("inputs", "inputs is missing; send a list with one tensor for each feature")
    inputs = document["inputs"]
    if type(inputs) is not list:
        raise wrong_type("inputs", "a list of tensors", inputs)
    tensors, at = [], 0
    for i, tensor in enumerate(inputs):
        path = f"inputs[{i}]"
        if type(tensor) is not dict:
            raise wrong_type(path, "an object", tensor)
        size = _binary_size(tensor, path)
        if size is not None and at + size > len(binary):
            found = f"needs {size} bytes, and {len(binary) - at} are left after the JSON document"
            raise wrong_value(f"{path}.parameters.binary_data_size", f"{path} {found}")
        tensors.append(_read_tensor(tensor, path, None if size is None else binary[at : at + size]))
        at += size or 0
    if at != len(binary):
        raise wrong_value("inputs", f"{len(binary) - at} bytes after the JSON document belong to no input")
    return tensors


def write_outputs(tensors: Sequence[Tensor], is_binary: Mapping[str, bool]) -> tuple[list[dict[str, Any]], bytes]:
    """The tensors as they stand in the response's document, and the bytes that follow it."""
    documents, chunks = [], []
    for tensor in tensors:
        document: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        parameters = dict(tensor.parameters)
        if is_binary.get(tensor.name, False):
            chunks.append(_to_bytes(tensor))
            parameters["binary_data_size"] = len(chunks[-1])
        else:
            document["data"] = list(tensor.values)
        if parameters:
            document["parameters"] = parameters
        documents.append(document)
    return documents, b"".join(chunks)


def parameters_of(document: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    parameters = document.get("parameters", {})
    if type(parameters) is not dict:
        raise wrong_type(path, "an object", parameters)
    return parameters


def _binary_size(tensor: Mapping[str, Any], path: str) -> int | None:
    size = parameters_of(tensor, f"{path}.parameters").get("binary_data_size")
    if size is None:
        return None
    if type(size) is not int or size < 0:
        raise wrong_value(
            f"{path}.parameters.binary_data_size", f"binary_data_size must be a number of bytes, not {kind_of(size)}"
        )
    return size


def _read_tensor(tensor: Mapping[str, Any], path: str, binary: bytes | None) -> Tensor:
    for name in ("name", "datatype", "shape", *(() if binary is not None else ("data",))):
        if name not in tensor:
            raise missing(f"{path}.{name}", f"{path}.{name} is missing")
    name, datatype, shape = tensor["name"], tensor["datatype"], tensor["shape"]
    if type(name) is not str:
        raise wrong_type(f"{path}.name", "a string", name)
    if type(datatype) is not str or datatype not in (BYTES, *_NUMBERS):
        raise wrong_value(f"{path}.datatype", f"{path}.datatype must be one of {', '.join((*_NUMBERS, BYTES))}")
    if type(shape) is not list or not 1 <= len(shape) <= _MAX_DIMENSIONS or not all(type(n) is int and n >= 0 for n in shape):
        raise wrong_value(f"{path}.shape", f"{path}.shape must be a list of 1 to {_MAX_DIMENSIONS} lengths")
    values = _from_json(tensor["data"], datatype, len(shape), path) if binary is None else _from_bytes(binary, datatype, path)
    if len(values) != math.prod(shape):
        message = f"{path} has {len(values)} values, and its shape {shape} asks for {math.prod(shape)}"
        raise wrong_value(f"{path}.{'data' if binary is None else 'shape'}", message)
    return Tensor(name, datatype, tuple(shape), values)


def _from_json(data: Any, datatype: str, dimensions: int, path: str) -> list[Any]:
    """The values of flat or nested lists."""
    if type(data) is not list:
        raise wrong_type(f"{path}.data", "a list", data)
    values: list[Any] = data
    for _ in range(dimensions - 1):
        if not values or type(values[0]) is not list:
            break
        if not all(type(row) is list for row in values):
            raise wrong_value(f"{path}.data", f"{path}.data mixes lists and values")
        values = [value for row in values for value in row]
    for i, value in enumerate(values):
        if value is not None and not _fits(value, datatype):
            raise wrong_value(f"{path}.data", f"{path}.data holds {_seen(value)} at place {i}, which is no {datatype}")
    return values


def _fits(value: Any, datatype: str) -> bool:
    if datatype == BYTES:
        return type(value) is str
    if datatype == "BOOL":
        return type(value) is bool
    if datatype in _FLOATS:
        return type(value) in (int, float)
    limits = np.iinfo(_INTEGERS[datatype])
    return type(value) is int and limits.min <= value <= limits.max


def _seen(value: Any) -> str:
    return kind_of(value) if type(value) in (list, dict) else shown(value)


def _from_bytes(binary: bytes, datatype: str, path: str) -> list[Any]:
    where = f"{path}.parameters.binary_data_size"
    if datatype == BYTES:
        return _strings(binary, where)
    dtype = _NUMBERS[datatype]
    if len(binary) % dtype.itemsize:
        raise wrong_value(
            where, f"{path} has {len(binary)} bytes, which is no multiple of the {dtype.itemsize} of a {datatype}"
        )
    if datatype == "BOOL":
        return [byte != 0 for byte in binary]
    array = np.frombuffer(binary, dtype)
    values: list[Any] = array.tolist()
    if datatype in _FLOATS and not np.isfinite(array).all():
        if np.isinf(array).any():
            raise wrong_value(path, f"{path} holds an infinite number; a missing value is NaN")
        values = [None if math.isnan(value) else value for value in values]
    return values


def _strings(binary: bytes, where: str) -> list[str]:
    values: list[str] = []
    at = 0
    while at < len(binary):
        start = at + _LENGTH.size
        end = start + _LENGTH.unpack_from(binary, at)[0] if start <= len(binary) else start
        if end > len(binary):
            raise wrong_value(where, f"element {len(values)} ends beyond the {len(binary)} bytes of its tensor")
        try:
            values.append(binary[start:end].decode())
        except UnicodeDecodeError:
            raise wrong_value(where, f"element {len(values)} is not UTF-8") from None
        at = end
    return values


def _to_bytes(tensor: Tensor) -> bytes:
    if tensor.datatype != BYTES:
        return np.array(tensor.values, _NUMBERS[tensor.datatype]).tobytes()
    encoded = [value.encode() for value in tensor.values]
    return b"".join(_LENGTH.pack(len(value)) + value for value in encoded)
