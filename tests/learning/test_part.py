"""State taken apart and put together again is the same, bit for bit."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from actors.learning.labels import FEEDBACK
from actors.learning.part import Part, pack, unpack

ARRAYS = hnp.arrays(
    st.sampled_from([np.float32, np.float64, np.int32, np.int64, np.bool_]),
    hnp.array_shapes(min_dims=0, min_side=0, max_side=4),
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | ARRAYS
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4))


def same(a, b):
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and repr(a) == repr(b)


@settings(max_examples=200, deadline=None)
@given(TREES)
def test_what_is_packed_comes_back_through_json(tree):
    part = pack(tree)
    assert all(array.dtype.names is None for array in part.arrays.values())
    again = Part(part.arrays, json.loads(json.dumps(part.plain, allow_nan=False)))
    assert same(unpack(again), tree)


def test_feedback_comes_back_by_columns():
    table = np.array([(1, np.nan, 0.5, 7), (2, 0.25, 1.0, -1)], FEEDBACK)
    [back] = unpack(pack([table]))
    assert back.dtype == FEEDBACK and back.tobytes() == table.tobytes()


def test_names_that_look_alike_stay_apart():
    tree = {"a": {"b": np.zeros(1)}, "a.b": np.ones(1), "$array": "x", "$$": [np.full(1, 2.0)]}
    assert same(unpack(pack(tree)), tree)


@pytest.mark.parametrize(
    ("tree", "message"), [({"a": [object()]}, r"a\.0 is a object"), ({1: 2}, "the key 1"), ({"a": {3j}}, "a is a set")]
)
def test_what_cannot_be_written_is_named(tree, message):
    with pytest.raises(TypeError, match=message):
        pack(tree)
