"""State as it is written down: nested plain values and arrays, taken apart into named arrays and JSON.

Whoever has state says it as one tree (`to_state`) and goes on from such a tree (`restore`); nothing of a class is in it, so
nothing is ever unpickled.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Tree = Any
"""None, bool, int, float, str, arrays, and lists, tuples and mappings by name of these; a tuple comes back as a list."""

_MARK = "$"  # begins the only key of a JSON object that stands for something JSON does not have; other keys double it


@dataclass(frozen=True, slots=True)
class Part:
    """`arrays` have plain dtypes; `plain` is JSON, with `{"$array": name}` where an array was."""

    arrays: Mapping[str, np.ndarray]
    plain: Any


def pack(tree: Tree) -> Part:
    """Raises TypeError for what cannot be written down, with its place in the tree."""
    arrays: dict[str, np.ndarray] = {}
    return Part(arrays, _packed(tree, "", arrays))


def unpack(part: Part) -> Tree:
    """The tree, bit for bit. Raises KeyError where an array is missing."""
    return _unpacked(part.plain, part.arrays)


def _packed(tree: Tree, path: str, arrays: dict[str, np.ndarray]) -> Any:
    match tree:
        case None | bool() | int() | str():
            return tree
        case float():
            return tree if math.isfinite(tree) else {f"{_MARK}float": repr(tree)}
        case np.ndarray() if tree.dtype.names is not None:
            return {f"{_MARK}columns": [[name, _packed(tree[name], f"{path}.{name}", arrays)] for name in tree.dtype.names]}
        case np.ndarray():
            name = path or "array"
            while name in arrays:  # {"a": {"b": ...}, "a.b": ...}
                name += "'"
            arrays[name] = np.ascontiguousarray(tree).reshape(tree.shape)
            return {f"{_MARK}array": name}
        case np.bool_() | np.integer() | np.floating():
            return _packed(tree.item(), path, arrays)
        case list() | tuple():
            return [_packed(each, f"{path}.{i}" if path else str(i), arrays) for i, each in enumerate(tree)]
        case Mapping():
            return {_key(key, path): _packed(each, f"{path}.{key}" if path else key, arrays) for key, each in tree.items()}
    raise TypeError(f"{path or 'the state'} is a {type(tree).__name__}, which cannot be written down")


def _key(key: Any, path: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"{path or 'the state'} has the key {key!r}; keys are texts")
    return _MARK + key if key.startswith(_MARK) else key


def _unpacked(plain: Any, arrays: Mapping[str, np.ndarray]) -> Tree:
    if isinstance(plain, list):
        return [_unpacked(each, arrays) for each in plain]
    if not isinstance(plain, dict):
        return plain
    match plain:
        case {"$array": name}:
            return arrays[name]
        case {"$float": text}:
            return float(text)
        case {"$columns": columns}:
            found = [(name, _unpacked(column, arrays)) for name, column in columns]
            table = np.empty(len(found[0][1]), [(name, column.dtype) for name, column in found])
            for name, column in found:
                table[name] = column
            return table
    return {key.removeprefix(_MARK): _unpacked(each, arrays) for key, each in plain.items()}
