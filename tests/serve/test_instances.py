"""JSON instances give the vectors that the stream's rows gave, or an error that names the feature."""

import json

import numpy as np
import pyarrow as pa
import pytest

from actors.feedback import FeedbackItem
from actors.learning.encoding import RowEncoder
from actors.learning.schema import Column, ColumnKind, LabelType, Schema
from actors.learning.task import TaskConfig
from actors.sources.json_rows import JsonRow, JsonRows
from actors.sources.validation import RowValidator
from serve.instances import InstanceEncoder, LabelChecker, check_items
from serve.interfaces import RequestError

SCHEMA = Schema(
    (
        Column("age", ColumnKind.NUMERIC),
        Column("color", ColumnKind.CATEGORICAL),
        Column("text", ColumnKind.TEXT),
        Column("place", ColumnKind.VECTOR, 2),
    ),
    "class",
    LabelType.INTEGER,
)
GOOD = {"age": 3, "color": "red", "text": "a quick brown fox", "place": [1.0, 2.5]}


def test_an_instance_is_encoded_as_the_same_row_of_the_stream():
    rows = [GOOD, GOOD | {"age": 1e-3, "color": "blue", "text": "ä ö ü"}, dict.fromkeys(GOOD), GOOD | {"age": True}]
    table = pa.table(
        {
            "age": pa.array([3.0, 1e-3, None, 1.0]),
            "color": pa.array(["red", "blue", None, "red"]),
            "text": pa.array([row["text"] for row in rows], pa.string()),
            "place": pa.array([row["place"] for row in rows], pa.list_(pa.float64(), 2)),
        }
    )
    assert np.array_equal(InstanceEncoder(SCHEMA).encode(rows), RowEncoder(SCHEMA).encode(table), equal_nan=True)


@pytest.mark.parametrize(
    ("change", "field", "code", "message"),
    [
        ({"age": "old"}, "[1].age", "wrong_type", "feature 'age' is 'old', wanted a number or null"),
        ({"age": [1]}, "[1].age", "wrong_type", "wanted a number"),
        ({"age": 1e39}, "[1].age", "not_finite", "beyond what float32 holds"),
        ({"age": 10**400}, "[1].age", "not_finite", "too large"),
        ({"color": {"r": 1}}, "[1].color", "wrong_type", "wanted a text or null"),
        ({"text": ["a"]}, "[1].text", "wrong_type", "wanted a text or null"),
        ({"text": "\ud800"}, "[1].text", "wrong_type", "no valid Unicode"),
        ({"place": [1.0]}, "[1].place", "wrong_type", "wanted 2 numbers"),
        ({"place": [1.0, "x"]}, "[1].place", "wrong_type", "wanted 2 numbers"),
        ({"place": "here"}, "[1].place", "wrong_type", "wanted 2 numbers"),
        ({"place": [1.0, 10**400]}, "[1].place", "not_finite", "too large"),
        ({"sage": 1}, "[1].sage", "unknown_feature", "'sage' is not a feature of this model"),
    ],
)
def test_what_cannot_be_a_feature_is_named(change, field, code, message):
    with pytest.raises(RequestError, match=message) as refused:
        InstanceEncoder(SCHEMA).encode([dict(GOOD), GOOD | change])
    assert (refused.value.status, refused.value.code, refused.value.field) == (422, code, field)


def test_an_absent_feature_is_an_error_and_a_misspelt_one_gets_a_hint():
    without = {name: value for name, value in GOOD.items() if name != "age"}
    with pytest.raises(RequestError, match="feature 'age' is absent; send null") as refused:
        InstanceEncoder(SCHEMA).encode([without])
    assert refused.value.field == "[0].age"
    with pytest.raises(RequestError, match="did you mean 'age'"):
        InstanceEncoder(SCHEMA).encode([without | {"agee": 3}])


def test_labels_are_held_to_the_label_type_and_to_the_configured_classes():
    labels = LabelChecker(SCHEMA, TaskConfig(classes=[1, 2]))
    assert labels.check(0, 1) == 1 and labels.check(0, "2") == 2
    for label in ("x", 3, None, [1], 10**30, 1.5):
        with pytest.raises(RequestError) as refused:
            labels.check(4, label)
        assert (refused.value.status, refused.value.field) == (422, "[4].label")


@pytest.mark.parametrize("cell", [3, 3.0, 2.5, 123456789.0, 1e-5, 1e10, 2.0**53, 10**12, -0.0, 1e300])
def test_a_number_in_a_column_of_text_is_the_word_that_the_journal_makes_of_it(cell):
    schema = Schema((Column("color", ColumnKind.CATEGORICAL),), "class", LabelType.INTEGER)
    first = [JsonRow(i, json.dumps({"color": word}), "1") for i, word in enumerate(["red", "blue"])]
    [chunk] = JsonRows("feedback", "class", first).chunks([JsonRow(0, json.dumps({"color": cell}), "1")])
    rows, bad = RowValidator(schema, TaskConfig()).check(chunk)
    assert not bad
    assert np.array_equal(InstanceEncoder(schema).encode([{"color": cell}]), rows.x_ND)


@pytest.mark.parametrize("score", [0, 0.25, 1, -1])
def test_a_feedback_task_takes_scores(score):
    item = FeedbackItem(0.0, "a", score=score)
    assert check_items([item], InstanceEncoder(SCHEMA), LabelChecker(SCHEMA, TaskConfig(kind="feedback"))) == [item]


@pytest.mark.parametrize(
    ("kind", "score", "code"),
    [("feedback", 1.01, "wrong_score"), ("feedback", -0.5, "wrong_score"), ("classification", 1, "no_scores")],
)
def test_what_is_no_score_is_refused(kind, score, code):
    items = [FeedbackItem(0.0, "a", label=1), FeedbackItem(0.0, "b", score=score)]
    with pytest.raises(RequestError) as refused:
        check_items(items, InstanceEncoder(SCHEMA), LabelChecker(SCHEMA, TaskConfig(kind=kind)))
    assert (refused.value.status, refused.value.code, refused.value.field) == (422, code, "[1].score")
