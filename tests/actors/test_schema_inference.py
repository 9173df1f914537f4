import datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import ConfigError, InputUnusableError
from actors.learning.schema import Column, ColumnKind, LabelType, Schema
from actors.learning.task import TaskConfig
from actors.sources.config import StreamConfig
from actors.sources.inference import infer_schema


def infer(task=None, stream=None, **columns):
    columns.setdefault("class", ["0", "1"] * (len(next(iter(columns.values()), [0, 0])) // 2))
    return infer_schema(pa.table(columns), StreamConfig.model_validate(stream or {}), TaskConfig.model_validate(task or {}))


def kind(cells):
    return infer(x=cells, **{"class": pa.nulls(len(cells), pa.string())}).columns[0].kind


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "-2.5e3", ".5", None, "", " 7 "], ColumnKind.NUMERIC),
        (["nan", "inf", "-Infinity", "1"], ColumnKind.NUMERIC),
        (["1"] * 95 + ["?"] * 5, ColumnKind.NUMERIC),
        (["1"] * 94 + ["?"] * 6, ColumnKind.CATEGORICAL),
        (["red", "green", "red", None], ColumnKind.CATEGORICAL),
        ([f"shop{i % 90}" for i in range(1000)], ColumnKind.CATEGORICAL),
        ([f"id{i}" for i in range(1000)], ColumnKind.TEXT),
        ([f"user-{i * i % 797}" for i in range(1000)], ColumnKind.CATEGORICAL),
        ([f"where is my order number {i}" for i in range(8)], ColumnKind.TEXT),
        (["this is one answer", "this is another one"] * 50, ColumnKind.CATEGORICAL),
        ([None, None], ColumnKind.NUMERIC),
    ],
)
def test_the_kind_of_a_string_column_is_what_its_cells_show(cells, expected):
    assert kind(pa.array(cells, pa.string())) is expected


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (pa.array([1, 2], pa.uint8()), Column("x", ColumnKind.NUMERIC)),
        (pa.array([True, False]), Column("x", ColumnKind.NUMERIC)),
        (pa.array([datetime.datetime(2024, 1, 1), None]), Column("x", ColumnKind.NUMERIC)),
        (pa.array(["a", "b"]).dictionary_encode(), Column("x", ColumnKind.CATEGORICAL)),
        (pa.array([[1.0, 2, 3], None], pa.list_(pa.float32(), 3)), Column("x", ColumnKind.VECTOR, 3)),
        (pa.array([[1, 2], [3, 4]]), Column("x", ColumnKind.VECTOR, 2)),
    ],
)
def test_the_kind_of_a_typed_column_is_its_type(cells, expected):
    assert infer(x=cells).columns == (expected,)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["0", "12", "-3", None], LabelType.INTEGER),
        (["0", "1.5"], LabelType.FLOAT),
        (["1", "nan"], LabelType.INTEGER),
        (["true", "False"], LabelType.BOOLEAN),
        (["yes", "1"], LabelType.STRING),
        (["123456789012345678901234567890"], LabelType.FLOAT),
        (pa.array([0, 1]), LabelType.INTEGER),
        (pa.array([0.0, 1.0]), LabelType.FLOAT),
        (pa.array([True, None]), LabelType.BOOLEAN),
        (pa.array(["a"]).dictionary_encode(), LabelType.STRING),
    ],
)
def test_the_type_of_the_labels_is_what_they_show(labels, expected):
    assert infer(x=[1.0] * len(labels), **{"class": labels}).label_type is expected


def test_the_type_of_the_labels_follows_the_configuration_and_the_listed_classes():
    assert infer(x=[1, 2], stream={"label_type": "string"}).label_type is LabelType.STRING
    assert infer(x=[1, 2], task={"classes": ["0", "1"]}).label_type is LabelType.STRING
    assert infer(x=[1, 2], task={"classes": [0, 1]}).label_type is LabelType.INTEGER
    assert infer(x=[1, 2], task={"kind": "regression"}).label_type is LabelType.FLOAT


def test_configured_columns_fix_the_schema_in_their_order():
    schema = infer(a=["1", "2"], b=["1", "2"], stream={"columns": {"b": "categorical", "a": "text"}})
    assert schema.columns == (Column("b", ColumnKind.CATEGORICAL), Column("a", ColumnKind.TEXT))
    assert Schema.from_json(schema.to_json()) == schema


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stream": {"label": "clas"}}, r"stream\.label is 'clas'.*did you mean 'class'\?.*its columns are amount, class"),
        ({"stream": {"columns": {"amuont": "numeric"}}}, r"stream\.columns\.amuont .*did you mean 'amount'\?"),
        ({"stream": {"columns": {"amount": "numeric"}}, "other": ["1", "2"]}, "does not say of what kind other is"),
        ({"other": pa.array([{"a": 1}, {"a": 2}])}, "column 'other' has the type struct"),
        ({"other": pa.array([[1], [2, 3]])}, "column 'other' has lists of 1, 2 values"),
        (
            {"task": {"kind": "regression"}, "class": ["cat", "dog"]},
            r"holds 'cat', not numbers; set task\.kind: classification",
        ),
        ({"class": pa.array([[1], [2]])}, "the label 'class' has the type list"),
    ],
)
def test_a_stream_that_does_not_fit_the_configuration_is_refused_with_the_fix(arguments, message):
    with pytest.raises(ConfigError, match=message):
        infer(amount=["1", "2"], **arguments)


def test_a_stream_without_features_is_refused():
    with pytest.raises(InputUnusableError, match="no column beside its label"):
        infer(**{"class": ["1"]})


@given(st.lists(st.floats().map(repr) | st.integers().map(str), min_size=1))
def test_whatever_python_writes_as_a_number_is_numeric(cells):
    assert kind(cells) is ColumnKind.NUMERIC
