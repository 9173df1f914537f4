"""Rows as vectors: what a model sees of a table.

    numeric      its value, NaN where it is missing
    vector       its values, NaN where they are missing
    categorical  the hashed id of its value, 24 bits, NaN where it is missing
    text         signed feature hashing of words and character 3-grams into 512 dimensions, L2-normalised

`RowEncoder.layout` says of every dimension which of these it is: models embed ids, and only numbers are standardised by value.
Hashing needs no vocabulary, so a value that was never met is no special case. Weinberger, Dasgupta, Langford, Smola,
Attenberg: "Feature Hashing for Large Scale Multitask Learning", ICML 2009, section 2: the sign, from a second hash, keeps
inner products unbiased.
"""

import re
from hashlib import blake2b
from itertools import accumulate
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.learning.inputs import IDS, InputKind, InputLayout
from actors.learning.schema import Column, ColumnKind, Schema

TEXT_DIMENSIONS = 512

_WORD = re.compile(r"\w+")
_BOOLEANS = {"true", "false"}  # a CSV's True and a client's true are one category
_KINDS = {
    ColumnKind.NUMERIC: InputKind.NUMBER,
    ColumnKind.VECTOR: InputKind.NUMBER,
    ColumnKind.CATEGORICAL: InputKind.CATEGORY,
    ColumnKind.TEXT: InputKind.TEXT,
}
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


class RowEncoder:
    """Encodes tables of one schema. The same cells give the same vector in every process and on every machine.

    `width` is D; `places` says which of the D dimensions each column fills.
    """

    def __init__(self, schema: Schema) -> None:
        ends = list(accumulate(_width(column) for column in schema.columns))
        self.width = ends[-1]
        self.layout = InputLayout.of_parts((_KINDS[column.kind], _width(column)) for column in schema.columns)
        self.places = tuple((c, slice(end - _width(c), end)) for c, end in zip(schema.columns, ends, strict=True))

    def encode(self, table: pa.Table) -> np.ndarray:
        """x_ND float32 of the N rows of `table`, which needs every feature column and may have others.

        Raises KeyError for an absent column, pyarrow.ArrowInvalid or ValueError for a cell that does not fit its kind.
        """
        x_ND = np.empty((table.num_rows, self.width), np.float32)
        with np.errstate(over="ignore"):  # beyond float32 is infinite, which validation refuses
            for column, place in self.places:
                encode_column(x_ND[:, place], column, plain(table.column(column.name)))
        return x_ND


def plain(cells: pa.ChunkedArray) -> pa.Array:
    """A column as one array, dictionaries decoded."""
    array = cells.combine_chunks() if cells.num_chunks != 1 else cells.chunk(0)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def as_float64(array: pa.Array) -> pa.Array:
    """Numbers, booleans, decimals, strings that hold numbers, and times (in seconds since 1970) as float64, null staying null.

    Raises pyarrow.ArrowInvalid for a string that is no number, ArrowNotImplementedError for a type that holds none.
    """
    kind = array.type
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        return pc.multiply(array.cast(pa.int64()).cast(pa.float64(), safe=False), _SECONDS[kind.unit])
    if pa.types.is_date(kind):
        return as_float64(array.cast(pa.timestamp("ms")))
    if pa.types.is_time(kind):
        return pc.multiply(array.cast(pa.time64("us")).cast(pa.int64()).cast(pa.float64()), _SECONDS["us"])
    return array.cast(pa.float64(), safe=pa.types.is_string(kind))


def _width(column: Column) -> int:
    return TEXT_DIMENSIONS if column.kind is ColumnKind.TEXT else column.size


def encode_column(x_ND: np.ndarray, column: Column, array: pa.Array) -> None:
    """Writes the cells of one column into its dimensions of x_ND; raises as `RowEncoder.encode` does."""
    if column.kind is ColumnKind.NUMERIC:
        x_ND[:, 0] = _numbers(array)
    elif column.kind is ColumnKind.VECTOR:
        _encode_vectors(x_ND, column, array)
    elif column.kind is ColumnKind.CATEGORICAL:
        _encode_categories(x_ND, array)
    else:
        _encode_text(x_ND, array)


def _numbers(array: pa.Array) -> np.ndarray:
    values = array if pa.types.is_floating(array.type) else as_float64(array)
    return np.asarray(values.to_numpy(zero_copy_only=False))


def _encode_vectors(x_ND: np.ndarray, column: Column, array: pa.Array) -> None:
    x_ND[:] = np.nan
    present_N = array.is_valid().to_numpy(zero_copy_only=False)
    if not present_N.any():
        return
    present = array.drop_null()
    lengths = pc.unique(pc.list_value_length(present)).to_pylist()
    if lengths != [column.size]:
        raise ValueError(f"column {column.name!r} needs vectors of {column.size} numbers, got lengths {lengths}")
    x_ND[present_N] = _numbers(present.flatten()).reshape(-1, column.size)


def _encode_categories(x_ND: np.ndarray, array: pa.Array) -> None:
    x_ND[:] = np.nan
    coded = array.cast(pa.string()).dictionary_encode()
    ids = np.array([_category_id(value) for value in coded.dictionary.to_pylist()], np.float32)
    present_N = coded.is_valid().to_numpy(zero_copy_only=False)
    x_ND[present_N, 0] = ids[coded.indices.drop_null().to_numpy()]


def _category_id(value: str) -> float:
    """1 to 2^24 - 1, NaN for an empty cell, which is a missing value."""
    if not value:
        return np.nan
    value = value.lower() if value.lower() in _BOOLEANS else value
    return float(int.from_bytes(blake2b(value.encode(), digest_size=8).digest(), "little") % (IDS - 1) + 1)


def _encode_text(x_ND: np.ndarray, array: pa.Array) -> None:
    """Words by CRC-32, character 3-grams by mixing their code points, for all rows at once; a hash's top bit is its sign."""
    words = [_WORD.findall((text or "").lower()) for text in array.cast(pa.string()).to_pylist()]
    joined = [f" {' '.join(row)} " for row in words]
    word_hashes = np.array([crc32(word.encode()) for row in words for word in row], np.uint32)
    word_rows = np.repeat(np.arange(len(words)), [len(row) for row in words])
    points = np.frombuffer("".join(joined).encode("utf-32-le", "surrogatepass"), np.uint32)
    rows = np.repeat(np.arange(len(joined)), [len(row) for row in joined])
    within = rows[2:] == rows[:-2]
    gram_hashes = _mix(_mix(_mix(points[:-2]) ^ points[1:-1]) ^ points[2:])[within]
    hashes, at = np.concatenate([word_hashes, gram_hashes]), np.concatenate([word_rows, rows[2:][within]])
    sign = 1.0 - 2.0 * (hashes >> np.uint32(31))
    cell = at * TEXT_DIMENSIONS + hashes % np.uint32(TEXT_DIMENSIONS)
    sums_ND = np.bincount(cell, sign, minlength=x_ND.size).reshape(x_ND.shape)
    x_ND[:] = sums_ND / np.maximum(np.linalg.norm(sums_ND, axis=1, keepdims=True), 1e-12)


def _mix(hashes: np.ndarray) -> np.ndarray:
    """MurmurHash3's 32-bit finaliser (Appleby 2011)."""
    hashes = hashes ^ (hashes >> np.uint32(16))
    hashes = hashes * np.uint32(0x85EBCA6B)
    hashes = hashes ^ (hashes >> np.uint32(13))
    hashes = hashes * np.uint32(0xC2B2AE35)
    return np.asarray(hashes ^ (hashes >> np.uint32(16)))
