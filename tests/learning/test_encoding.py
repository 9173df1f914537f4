import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.learning.encoding import TEXT_DIMENSIONS, RowEncoder
from actors.learning.inputs import IDS, InputKind
from actors.learning.schema import Column, ColumnKind, LabelType, Schema


def encoder(**kinds: ColumnKind | int) -> RowEncoder:
    columns = [
        Column(name, ColumnKind.VECTOR, kind) if isinstance(kind, int) else Column(name, kind) for name, kind in kinds.items()
    ]
    return RowEncoder(Schema(tuple(columns), "class", LabelType.INTEGER))


def test_columns_are_laid_out_in_the_order_of_the_schema():
    made = encoder(v=2, n=ColumnKind.NUMERIC, c=ColumnKind.CATEGORICAL, t=ColumnKind.TEXT)
    x = made.encode(pa.table({"t": ["hi"], "c": ["a"], "n": [7], "v": [[1.0, 2.0]]}))
    assert made.width == int(made.layout) == x.shape[1] == 2 + 1 + 1 + TEXT_DIMENSIONS
    assert x.dtype == np.float32
    assert x[0, :3].tolist() == [1, 2, 7]
    assert 0 < x[0, 3] < IDS and x[0, 3] == int(x[0, 3])
    assert np.linalg.norm(x[0, 4:]) == pytest.approx(1)
    assert [place for _, place in made.places] == [slice(0, 2), slice(2, 3), slice(3, 4), slice(4, 516)]
    kinds = [InputKind.NUMBER, InputKind.NUMBER, InputKind.NUMBER, InputKind.CATEGORY, *[InputKind.TEXT] * TEXT_DIMENSIONS]
    assert made.layout.kinds == tuple(kinds)


def test_values_of_a_category_are_told_apart():
    x = encoder(c=ColumnKind.CATEGORICAL).encode(pa.table({"c": [f"user-{i}" for i in range(2000)]}))
    assert len(np.unique(x)) >= 1999


def test_a_missing_number_and_a_missing_category_are_nan_and_a_missing_text_is_zeros():
    x = encoder(n=ColumnKind.NUMERIC, v=2, c=ColumnKind.CATEGORICAL, t=ColumnKind.TEXT).encode(
        pa.table(
            {
                "n": pa.array([None], pa.int64()),
                "v": pa.array([None], pa.list_(pa.float32())),
                "c": [""],
                "t": pa.array([None], "string"),
            }
        )
    )
    assert np.isnan(x[0, :4]).all()
    assert not x[0, 4:].any()


def test_a_vector_may_miss_single_values():
    x = encoder(v=2).encode(pa.table({"v": pa.array([[1, None], None, [3, 4]], pa.list_(pa.float64(), 2))}))
    assert np.array_equal(x, [[1, np.nan], [np.nan, np.nan], [3, 4]], equal_nan=True)


def test_vectors_of_another_length_are_refused_even_where_the_total_fits():
    with pytest.raises(ValueError, match="needs vectors of 2 numbers"):
        encoder(v=2).encode(pa.table({"v": [[1.0], [2.0, 3.0, 4.0]]}))


def test_times_booleans_and_number_strings_are_numbers():
    table = pa.table(
        {
            "day": pa.array([1], pa.date32()),
            "at": pa.array([1500], pa.timestamp("ms")),
            "clock": pa.array([60], pa.time32("s")),
            "yes": [True],
            "text": ["-1.5e2"],
            "dictionary": pa.array(["2"]).dictionary_encode(),
        }
    )
    x = encoder(**dict.fromkeys(table.column_names, ColumnKind.NUMERIC)).encode(table)
    assert x[0].tolist() == [86400, 1.5, 60, 1, -150, 2]


def test_a_category_is_the_same_however_it_is_typed():
    made = encoder(c=ColumnKind.CATEGORICAL)
    assert np.array_equal(made.encode(pa.table({"c": ["3"]})), made.encode(pa.table({"c": [3]})))
    assert np.array_equal(made.encode(pa.table({"c": ["True"]})), made.encode(pa.table({"c": [True]})))
    assert np.array_equal(
        made.encode(pa.table({"c": ["a", "b"]})), made.encode(pa.table({"c": pa.array(["a", "b"]).dictionary_encode()}))
    )


def test_texts_that_share_words_are_nearer_than_texts_that_do_not():
    x = encoder(t=ColumnKind.TEXT).encode(pa.table({"t": ["where is my order", "my order is late", "reset the password"]}))
    assert x[0] @ x[1] > 0.3 > abs(x[0] @ x[2])


def test_an_encoding_is_the_same_in_every_process():
    code = (
        "import pyarrow as pa; from actors.learning.encoding import RowEncoder; from actors.learning.schema import *;"
        "s = Schema((Column('c', ColumnKind.CATEGORICAL), Column('t', ColumnKind.TEXT)), 'y', LabelType.STRING);"
        "print(RowEncoder(s).encode(pa.table({'c': ['blue'], 't': ['Grüße, world']})).tobytes().hex())"
    )
    here = encoder(c=ColumnKind.CATEGORICAL, t=ColumnKind.TEXT).encode(pa.table({"c": ["blue"], "t": ["Grüße, world"]}))
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7", "PYTHONPATH": "."}
    )
    assert there.stdout.strip() == here.tobytes().hex()


@given(
    st.lists(
        st.tuples(
            st.none() | st.floats(width=32, allow_nan=False),
            st.none() | st.text(st.characters(exclude_categories=["Cs"])),
            st.none() | st.text(st.characters(exclude_categories=["Cs"])),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_a_row_is_encoded_alone_as_among_others(rows):
    made = encoder(n=ColumnKind.NUMERIC, c=ColumnKind.CATEGORICAL, t=ColumnKind.TEXT)
    n, c, t = (list(column) for column in zip(*rows, strict=True))
    table = pa.table({"n": pa.array(n, pa.float64()), "c": pa.array(c, pa.string()), "t": pa.array(t, pa.string())})
    together = made.encode(table)
    alone = np.concatenate([made.encode(table.slice(i, 1)) for i in range(len(rows))])
    assert np.array_equal(together, alone, equal_nan=True)
    norms = np.linalg.norm(together[:, 2:], axis=1)
    assert np.all((np.abs(norms - 1) < 1e-5) | (norms == 0))
    assert made.encode(table.slice(0, 0)).shape == (0, made.width)
