import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import ConfigError
from actors.learning.schema import Column, ColumnKind, LabelType, Schema
from actors.learning.task import TaskConfig
from actors.sources.inference import NOT_FINITE, NUMBER
from actors.sources.source import BadRow, BadRowReason, SourceChunk
from actors.sources.validation import RowValidator

KINDS = {"x": ColumnKind.NUMERIC, "c": ColumnKind.CATEGORICAL, "t": ColumnKind.TEXT, "v": ColumnKind.VECTOR}


def check(table, label_type=LabelType.INTEGER, start=100, size=2, malformed=(), **task):
    """Columns are called after their kinds; the label is `class`."""
    names = [name for name in table if name != "class"]
    schema = Schema(tuple(Column(n, KINDS[n], size if n == "v" else 1) for n in names), "class", label_type)
    return RowValidator(schema, TaskConfig.model_validate(task)).check(chunk(table, start, malformed))


def chunk(table, start=100, malformed=()):
    table = pa.table(table)
    taken = {bad.offset for bad in malformed}
    stop = start + table.num_rows + len(malformed)
    return SourceChunk("p", start, stop, table, np.array([i for i in range(start, stop) if i not in taken]), tuple(malformed))


def reasons(bad):
    return {row.offset: row.reason for row in bad}


@pytest.mark.parametrize("cells", [["1", None, "", "-2e3"], [1.0, None, None, -2000.0]])
def test_an_empty_cell_is_a_missing_value_and_no_fault(cells):
    rows, bad = check({"x": cells, "class": [0, 1, 0, 1]})
    assert not bad
    assert np.array_equal(rows.x_ND[:, 0], [1, np.nan, np.nan, -2000], equal_nan=True)
    assert (rows.offset_N.tolist(), rows.labels, rows.x_ND.dtype) == ([100, 101, 102, 103], [0, 1, 0, 1], np.float32)


@pytest.mark.parametrize("cell", ["nan", "-NaN", "inf", "+Infinity", "1e39", "-1e999", math.nan, math.inf, 1e39])
def test_a_number_that_is_not_finite_is_refused(cell):
    rows, bad = check({"x": [type(cell)(1), cell], "class": [0, 1]})
    assert reasons(bad) == {101: BadRowReason.NOT_FINITE}
    assert f"column 'x' holds {cell!r}" in bad[0].message
    assert rows.labels == [0]


@pytest.mark.parametrize("cell", ["abc", "1,5", "0x1F", "1_000", "--1", "1e", "true"])
def test_text_in_a_number_is_refused_and_the_rest_of_the_column_is_not(cell):
    rows, bad = check({"x": ["1", cell, " 2 ", None, " "], "class": [0, 1, 2, 3, 4]})
    assert reasons(bad) == {101: BadRowReason.WRONG_TYPE}
    assert bad[0] == BadRow("p", 101, BadRowReason.WRONG_TYPE, bad[0].message, {"x": cell, "class": 1})
    assert f"column 'x' holds {cell!r}, which is not numeric" in bad[0].message
    assert np.array_equal(rows.x_ND[:, 0], [1, 2, np.nan, np.nan], equal_nan=True)


def test_a_vector_needs_its_length_and_finite_numbers():
    cells = [[1.0, 2.0], [1.0], None, [None, 4.0], [math.nan, 1.0], [1.0, 1e300], []]
    rows, bad = check({"v": pa.array(cells, pa.list_(pa.float64())), "class": range(7)})
    assert reasons(bad) == {
        101: BadRowReason.WRONG_TYPE,
        104: BadRowReason.NOT_FINITE,
        105: BadRowReason.NOT_FINITE,
        106: BadRowReason.WRONG_TYPE,
    }
    assert "a vector of 2 numbers" in bad[0].message
    assert np.array_equal(rows.x_ND, [[1, 2], [np.nan, np.nan], [np.nan, 4]], equal_nan=True)


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("v", ["1 2", "3 4"]),
        ("v", pa.array([["a", "b"], ["c", "d"]])),
        ("v", pa.array([[1, 2, 3], [4, 5, 6]], pa.list_(pa.int8(), 3))),
        ("x", pa.array([[1], [2]])),
        ("c", pa.array([[1], [2]])),
        ("t", pa.array([b"\xff", b"a"])),
    ],
)
def test_a_column_of_another_type_is_refused_in_every_row(name, cells):
    rows, bad = check({name: cells, "class": [0, 1]})
    assert reasons(bad) == {100: BadRowReason.WRONG_TYPE, 101: BadRowReason.WRONG_TYPE}
    assert rows.x_ND.shape[0] == len(rows.labels) == 0


def test_a_renamed_column_is_told_with_the_one_that_is_absent():
    validator = RowValidator(Schema((Column("x", ColumnKind.NUMERIC),), "class", LabelType.INTEGER), TaskConfig())
    _, bad = validator.check(chunk({"X": [1], "class": [0]}))
    assert "column 'X' is not in the schema; 'x' is absent" in bad[0].message


def test_a_column_that_the_schema_does_not_know_is_refused_in_every_row():
    validator = RowValidator(Schema((Column("x", ColumnKind.NUMERIC),), "class", LabelType.INTEGER), TaskConfig())
    rows, bad = validator.check(chunk({"x": [1, 2], "extra": ["a", "b"], "class": [0, 1]}))
    assert reasons(bad) == {100: BadRowReason.UNKNOWN_COLUMN, 101: BadRowReason.UNKNOWN_COLUMN}
    assert "'extra'" in bad[0].message
    assert (len(rows.offset_N), rows.x_ND.shape, rows.labels) == (0, (0, 1), [])
    for table, absent in (({"x": [1]}, "'class'"), ({"class": [1]}, "'x'")):
        rows, bad = validator.check(chunk(table))
        assert reasons(bad) == {100: BadRowReason.MISSING_COLUMN}
        assert absent in bad[0].message
    twice = pa.table([[1], [2], [0]], names=["x", "x", "class"])
    assert reasons(validator.check(SourceChunk("p", 0, 1, twice, np.array([0])))[1]) == {0: BadRowReason.UNKNOWN_COLUMN}


@pytest.mark.parametrize("labels", [["1", None, "", " "], [1, None, None, None]])
def test_a_row_without_its_label_is_refused(labels):
    rows, bad = check({"x": [1, 2, 3, 4], "class": labels})
    assert reasons(bad) == dict.fromkeys((101, 102, 103), BadRowReason.MISSING_LABEL)
    assert (rows.labels, rows.x_ND.tolist()) == ([1], [[1]])


@pytest.mark.parametrize(
    ("label_type", "cells", "expected", "wrong"),
    [
        (LabelType.INTEGER, ["1", " -2 ", "1.5", "x"], [1, -2], ["1.5", "x"]),
        (LabelType.INTEGER, [1.0, 2.5], [1], [2.5]),
        (LabelType.FLOAT, ["1", "2.5", "x"], [1.0, 2.5], ["x"]),
        (LabelType.BOOLEAN, ["true", "FALSE", "1", "yes"], [True, False, True], ["yes"]),
        (LabelType.BOOLEAN, [0, 1, 5], [False, True], [5]),
        (LabelType.STRING, ["a", "1", "nan"], ["a", "1", "nan"], []),
        (LabelType.STRING, [1, 2], ["1", "2"], []),
    ],
)
def test_a_label_is_read_as_its_type_or_refused_with_the_fix(label_type, cells, expected, wrong):
    rows, bad = check({"x": [0.5] * len(cells), "class": cells}, label_type)
    assert rows.labels == expected
    assert [type(label) for label in rows.labels] == [type(label) for label in expected]
    assert [row.raw["class"] for row in bad] == wrong
    assert all(row.reason is BadRowReason.WRONG_TYPE and "stream.label_type: string" in row.message for row in bad)


@pytest.mark.parametrize(
    ("label_type", "classes", "labels", "bad_offsets"),
    [
        (LabelType.STRING, ["a", "b"], ["a", "c", "b"], [101]),
        (LabelType.INTEGER, [0, 1], ["0", "7", "1"], [101]),
        (LabelType.STRING, [0, 1], ["0", "7", "1"], [101]),
        (LabelType.BOOLEAN, [True], [True, False], [101]),
    ],
)
def test_a_label_that_is_not_listed_is_refused(label_type, classes, labels, bad_offsets):
    _, bad = check({"x": [1] * len(labels), "class": labels}, label_type, classes=classes)
    assert reasons(bad) == dict.fromkeys(bad_offsets, BadRowReason.UNKNOWN_CLASS)


def test_classes_that_cannot_be_labels_are_a_mistake_in_the_configuration():
    with pytest.raises(ConfigError, match=r"task\.classes is \['a'\], but the labels are of type integer"):
        check({"x": [1], "class": [1]}, classes=["a"])


def test_a_regression_label_is_a_finite_number():
    rows, bad = check({"x": [1] * 6, "class": ["1.5", "nan", "1e39", "cat", None, "2"]}, LabelType.FLOAT, kind="regression")
    assert (rows.labels.dtype, rows.labels.tolist()) == (np.float64, [1.5, 2.0])
    assert [row.reason.value for row in bad] == ["not_finite", "not_finite", "wrong_type", "missing_label"]
    assert "label_type" not in bad[2].message


def test_an_integer_label_that_says_nan_is_not_finite():
    assert reasons(check({"x": [1, 2, 3], "class": ["1", "nan", "x"]})[1]) == {
        101: BadRowReason.NOT_FINITE,
        102: BadRowReason.WRONG_TYPE,
    }
    assert reasons(check({"x": [1, 2], "class": [1.0, math.nan]})[1]) == {101: BadRowReason.NOT_FINITE}


def test_a_row_is_reported_once_with_its_first_fault_and_among_the_malformed_by_offset():
    malformed = BadRow("p", 101, BadRowReason.MALFORMED, "broken", {"line": "?"})
    rows, bad = check({"x": ["1", "abc", "nan"], "class": ["0", None, "x"]}, malformed=(malformed,))
    assert [(row.offset, row.reason.value) for row in bad] == [(101, "malformed"), (102, "wrong_type"), (103, "not_finite")]
    assert rows.offset_N.tolist() == [100]


def test_a_chunk_of_malformed_rows_alone_gives_no_rows():
    malformed = BadRow("p", 100, BadRowReason.MALFORMED, "broken", {"line": "?"})
    for kind in ("classification", "regression"):
        empty = {"x": pa.array([], pa.string()), "class": pa.array([], pa.string())}
        rows, bad = check(empty, LabelType.FLOAT, malformed=(malformed,), kind=kind)
        assert (len(rows.labels), bad) == (0, [malformed])


numbers = (
    st.floats(width=32).map(repr) | st.integers().map(str) | st.sampled_from(["", " 1", "abc", "1.", ".5", "+3", "nan(1)"])
)
cells = st.none() | numbers | st.text("0123456789eE+-. naif", max_size=6)


@given(st.lists(st.tuples(cells, cells, st.sampled_from(["0", "1", "x", "", None])), max_size=20))
def test_every_row_is_either_clean_or_bad_and_a_clean_one_is_as_if_it_were_alone(drawn):
    columns = list(zip(*drawn, strict=True)) or [(), (), ()]
    table = {name: pa.array(column, pa.string()) for name, column in zip("xc", columns, strict=False)}
    table["class"] = pa.array(columns[2], pa.string())
    rows, bad = check(table)
    assert sorted([*rows.offset_N.tolist(), *(row.offset for row in bad)]) == list(range(100, 100 + len(drawn)))
    assert not np.isinf(rows.x_ND).any()
    for i in range(len(drawn)):
        alone, alone_bad = check({name: column.slice(i, 1) for name, column in table.items()}, start=100 + i)
        at = np.flatnonzero(rows.offset_N == 100 + i)
        assert np.array_equal(alone.x_ND, rows.x_ND[at], equal_nan=True)
        assert alone_bad == [row for row in bad if row.offset == 100 + i]


@given(st.text("0123456789eE+-.naif yt()_", max_size=9) | st.from_regex(r"[+-]?(nan|NaN\([a-z_0-9-]*\)|inf)", fullmatch=True))
def test_what_is_called_a_number_is_what_can_be_cast(text):
    cell = pa.array([text])
    try:
        cell.cast(pa.float64())
        can_be_cast = True
    except pa.ArrowInvalid:
        can_be_cast = False
    assert pc.match_substring_regex(cell, f"{NUMBER}|{NOT_FINITE}")[0].as_py() is can_be_cast
