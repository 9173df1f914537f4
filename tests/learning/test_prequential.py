"""The running scores against a direct recomputation over all rows at once."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.learning.prequential import CURVE_POINTS, WINDOW_ROWS, ClassificationScore, RegressionScore

PIECES = st.lists(st.integers(20, 700), min_size=1, max_size=6)


def classified(rows: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, predicted codes (some missing) and probabilities."""
    rng = np.random.default_rng(seed)
    label_N = rng.integers(0, classes, rows)
    code_N = np.where(rng.random(rows) < 0.6, label_N, rng.integers(-1, classes, rows))
    probability_NK = rng.dirichlet(np.ones(classes), rows).astype(np.float32)
    return label_N, code_N, probability_NK


def direct_scores(label_N: np.ndarray, code_N: np.ndarray, probability_NK: np.ndarray) -> dict[str, float]:
    """The textbook formulas, from the full confusion matrix with a column for no prediction."""
    classes = probability_NK.shape[1]
    confusion = np.zeros((classes, classes + 1))
    np.add.at(confusion, (label_N, code_N), 1)  # code -1 is the last column
    rows = confusion.sum()
    observed = np.trace(confusion[:, :classes]) / rows
    expected = confusion.sum(axis=1) @ confusion.sum(axis=0)[:classes] / rows**2
    recalls = [confusion[k, k] / confusion[k].sum() for k in range(classes) if confusion[k].sum()]
    losses = [-np.log(max(float(p[k]), 1e-15)) for p, k in zip(probability_NK, label_N, strict=True)]
    return {
        "accuracy": observed,
        "balanced_accuracy": float(np.mean(recalls)),
        "kappa": (observed - expected) / (1 - expected),
        "log_loss": float(np.mean(losses)),
    }


@settings(max_examples=30, deadline=None)
@given(pieces=PIECES, classes=st.integers(2, 12), seed=st.integers(0, 1000))
def test_classification_scores_equal_the_formulas_over_all_rows_and_over_the_last_thousand(pieces, classes, seed):
    rows = sum(pieces)
    label_N, code_N, probability_NK = classified(rows, classes, seed)
    score = ClassificationScore()
    for part in np.split(np.arange(rows), np.cumsum(pieces)[:-1]):
        score.update(part, label_N[part], code_N[part], probability_NK[part])
    assert {k: score.to_json()[k] for k in ("accuracy", "balanced_accuracy", "kappa", "log_loss")} == pytest.approx(
        direct_scores(label_N, code_N, probability_NK)
    )
    last = slice(-WINDOW_ROWS, None)
    recent = score.recent_json()
    assert recent.pop("rows") == min(rows, WINDOW_ROWS)
    assert recent.pop("metric") == "accuracy"
    assert recent == pytest.approx(direct_scores(label_N[last], code_N[last], probability_NK[last]))
    assert score.overall == pytest.approx((label_N == code_N).mean())
    assert score.recent == pytest.approx((label_N == code_N)[last].mean())


@settings(max_examples=30, deadline=None)
@given(pieces=PIECES, seed=st.integers(0, 1000), offset=st.sampled_from([0.0, 1e6]))
def test_regression_scores_equal_the_formulas_over_all_rows_and_over_the_last_thousand(pieces, seed, offset):
    rng = np.random.default_rng(seed)
    rows = sum(pieces) + 1
    label_N = offset + rng.normal(3, 2, rows)
    value_N = label_N + rng.normal(0.2, 1, rows)
    score = RegressionScore()
    for part in np.split(np.arange(rows), np.cumsum(pieces)):
        score.update(part, label_N[part], value_N[part])

    def direct(which: slice) -> dict[str, float]:
        error, label = value_N[which] - label_N[which], label_N[which]
        return {
            "mae": np.abs(error).mean(),
            "rmse": np.sqrt(np.square(error).mean()),
            "r2": 1 - np.square(error).sum() / np.square(label - label.mean()).sum(),
        }

    assert {k: score.to_json()[k] for k in ("mae", "rmse", "r2")} == pytest.approx(direct(slice(None)), rel=1e-6, abs=1e-6)
    recent = score.recent_json()
    assert {k: recent[k] for k in ("mae", "rmse", "r2")} == pytest.approx(direct(slice(-WINDOW_ROWS, None)), rel=1e-6, abs=1e-6)


def test_a_missing_prediction_is_wrong_and_its_log_loss_is_that_of_the_smallest_probability():
    score = ClassificationScore()
    score.update(np.arange(2), np.array([0, 1]), np.array([-1, -1]), np.empty((2, 0), dtype=np.float32))
    assert score.to_json() | {"curve": None} == {
        "metric": "accuracy",
        "rows": 2,
        "accuracy": 0.0,
        "balanced_accuracy": 0.0,
        "kappa": 0.0,
        "log_loss": pytest.approx(-np.log(1e-15)),
        "curve": None,
    }


def test_classes_that_appear_later_widen_the_counts_and_cost_little():
    score = ClassificationScore()
    score.update(np.arange(2), np.array([0, 1]), np.array([0, 1]), np.eye(2, dtype=np.float32))
    score.update(np.array([2]), np.array([20_000]), np.array([1]), np.array([[0.0, 1.0]], dtype=np.float32))
    scores = score.to_json()
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["balanced_accuracy"] == pytest.approx(2 / 3)
    assert scores["log_loss"] == pytest.approx(-np.log(1e-15) / 3)


def test_probabilities_that_are_not_numbers_cost_the_most_and_do_not_spread():
    score = ClassificationScore()
    score.update(np.arange(2), np.array([0, 0]), np.array([0, 0]), np.array([[np.nan, 0.5], [1.0, 0.0]]))
    assert score.to_json()["log_loss"] == pytest.approx(-np.log(1e-15) / 2)


def test_estimates_that_are_missing_or_diverged_are_counted_and_left_out():
    score = RegressionScore()
    score.update(np.arange(5), np.array([1.0, 2.0, 3.0, 4.0, -1e308]), np.array([np.nan, 2.5, np.inf, 4.5, 1.7e308]))
    found = score.to_json()
    assert (found["rows"], found["missing"], found["mae"]) == (5, 3, 0.5)


def test_squares_that_overflow_are_reported_as_unknown_rather_than_infinite():
    score = RegressionScore()
    score.update(np.arange(2), np.array([0.0, 1.0]), np.array([1e300, 1.0]))
    assert score.to_json()["rmse"] is None
    json.dumps([score.to_json(), score.recent_json()], allow_nan=False)


@pytest.mark.parametrize("score", [ClassificationScore(), RegressionScore()], ids=["classification", "regression"])
def test_before_the_first_row_every_score_is_unknown(score):
    assert (score.rows, score.overall, score.recent) == (0, None, None)
    assert score.to_json()["curve"] == []
    assert all(value is None for key, value in score.recent_json().items() if key not in ("metric", "rows"))


@settings(max_examples=15, deadline=None)
@given(pieces=st.lists(st.integers(1, 40_000), min_size=1, max_size=5), seed=st.integers(0, 100))
def test_the_curve_stays_bounded_evenly_spread_and_true_to_the_windowed_accuracy(pieces, seed):
    rows = sum(pieces)
    rng = np.random.default_rng(seed)
    label_N, code_N = rng.integers(0, 2, rows), rng.integers(0, 2, rows)
    row_N = 10 + 2 * np.arange(rows)  # row numbers of the stream skip what was quarantined
    score = ClassificationScore()
    for part in np.split(np.arange(rows), np.cumsum(pieces)[:-1]):
        score.update(row_N[part], label_N[part], code_N[part], np.full((len(part), 2), 0.5, dtype=np.float32))
    curve = score.to_json()["curve"]
    assert 1 <= len(curve) <= CURVE_POINTS
    assert curve[-1] == {"row": int(row_N[-1]), "value": pytest.approx(score.recent)}
    assert len({b["row"] - a["row"] for a, b in pairwise(curve[:-1])}) <= 1
    correct_N = label_N == code_N
    for point in curve:
        at = (point["row"] - 10) // 2 + 1
        assert point["value"] == pytest.approx(correct_N[max(0, at - WINDOW_ROWS) : at].mean())


def test_the_curve_of_a_long_stream_does_not_depend_on_how_the_rows_came():
    rng = np.random.default_rng(0)
    label_N, value_N = rng.normal(size=(2, 120_000))
    one, many = RegressionScore(), RegressionScore()
    one.update(np.arange(120_000), label_N, value_N)
    for part in np.array_split(np.arange(120_000), 300):
        many.update(part, label_N[part], value_N[part])
    assert [p["row"] for p in one.to_json()["curve"]] == [p["row"] for p in many.to_json()["curve"]]
    assert [p["value"] for p in one.to_json()["curve"]] == pytest.approx([p["value"] for p in many.to_json()["curve"]])
