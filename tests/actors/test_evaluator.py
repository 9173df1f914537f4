"""The evaluator: which prediction meets which label, in what order, and what is remembered of it."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import prediction_join
from actors.errors import LearningError, LostPlaceError
from actors.evaluator import Evaluator
from actors.learning.drift.adwin import Adwin, AdwinConfig
from actors.learning.drift.alarm import Alarm
from actors.learning.drift.config import DriftConfig
from actors.learning.drift.signal import Signal
from actors.learning.gate.measurements import Measurements
from actors.learning.labels import FEEDBACK
from actors.learning.models.config import ModelConfig
from actors.learning.part import pack, unpack
from actors.learning.promotion import PromotionConfig
from actors.learning.running_stats import RunningStats
from actors.learning.schema import Column, ColumnKind, LabelType, Schema
from actors.learning.state import ModelState, layout_of
from actors.learning.task import TaskConfig, TaskKind
from actors.learning.update import UpdateConfig
from actors.records import Predictions, RoundBatch, Rows
from actors.release_desk import Blueprint

REGRESSION = TaskConfig(kind=TaskKind.REGRESSION)


def rows(row_N, y_N=None) -> Rows:
    row_N = np.asarray(row_N, dtype=np.int64)
    return Rows(row_N, np.zeros((len(row_N), 1), dtype=np.float32), None if y_N is None else np.asarray(y_N))


def batch(train_row_N=(), y_N=(), test_row_N=(), classes=("cat", "dog")) -> RoundBatch:
    """A round in which the labels `y_N` of `train_row_N` become visible."""
    y_N = np.asarray(y_N, dtype=np.int64) if len(y_N) == 0 else y_N
    return RoundBatch(0, rows(test_row_N), rows(train_row_N, y_N), classes)


def classified(row_N, code_N, shard=0, version=1, classes=2) -> Predictions:
    """Predictions at 0.75 for the code, the rest shared out."""
    code_N = np.asarray(code_N, dtype=np.int64)
    probability_NK = np.full((len(code_N), classes), 0.25 / max(1, classes - 1), dtype=np.float32)
    probability_NK[code_N >= 0, code_N[code_N >= 0]] = 0.75
    return Predictions(shard, version, np.asarray(row_N, dtype=np.int64), code_N, probability_NK, None)


def estimated(row_N, value_N, shard=0, version=1) -> Predictions:
    return Predictions(shard, version, np.asarray(row_N), None, None, np.asarray(value_N, dtype=np.float32))


def evaluator(path=None, task=None, label_type=LabelType.STRING, drift=None, update=None) -> Evaluator:
    where = None if path is None else str(path)
    e = Evaluator(task or TaskConfig(), drift or DriftConfig(), label_type, where, update=update)
    e.begin()
    return e


def test_an_evaluator_that_was_started_again_answers_nothing_before_it_is_told_what_it_was():
    blank = Evaluator(TaskConfig(), DriftConfig(), LabelType.STRING)
    for call in (lambda: blank.observe(batch([0], [0])), blank.summary, blank.to_state):
        with pytest.raises(LostPlaceError, match="tell it where to begin"):
            call()
    e = evaluator()
    e.observe(batch([0], [0], test_row_N=[0]), classified([0], [0]))
    blank.begin(unpack(pack(e.to_state())))
    assert blank.summary() == e.summary()


def test_a_prediction_is_scored_only_when_its_label_becomes_visible():
    e = evaluator()
    assert e.observe(batch(test_row_N=[0, 1]), classified([0, 1], [0, 0])).scored_rows == 0
    seen = e.observe(batch([0], [0]))
    assert (seen.scored_rows, seen.overall, seen.metric) == (1, 1.0, "accuracy")
    assert e.observe(batch([1], [1])).overall == 0.5
    assert e.summary()["rows"]["waiting_predictions"] == 0


def test_a_label_that_comes_before_its_prediction_waits_for_it():
    e = evaluator()
    assert e.observe(batch([0, 1, 2], [0, 1, 0]), classified([0, 2], [0, 0])).scored_rows == 2
    assert e.summary()["rows"]["waiting_labels"] == 1
    assert e.observe(None, classified([1], [1], shard=1)).scored_rows == 3


def test_shards_are_scored_together_in_row_order():
    error_N = np.repeat([0, 1], [600, 200])
    row_N = np.arange(800)
    e = evaluator()
    seen = e.observe(
        batch(row_N, np.zeros(800, dtype=np.int64)),
        classified(row_N[1::2], error_N[1::2], shard=1),
        classified(row_N[::2], error_N[::2], shard=0),
    )
    assert [alarm.row for alarm in seen.alarms] == Adwin(AdwinConfig()).update_many(error_N.astype(float)) != []


def test_an_alarm_names_the_row_of_the_stream_the_detector_and_what_it_watched():
    row_N = 5000 + 3 * np.arange(1000)
    error_N = np.repeat([0, 1], 500)
    e = evaluator(drift=DriftConfig(detectors=["window_mean", {"kind": "ddm", "warm_up_rows": 30}]))
    seen = e.observe(batch(row_N, np.zeros(1000, dtype=np.int64)), classified(row_N, error_N))
    assert seen.alarms[:2] == (
        Alarm(5000 + 3 * 500, "ddm", Signal.ERROR),
        Alarm(5000 + 3 * 505, "window_mean", Signal.SCORE),
    )
    assert e.summary()["drift"][0] == {"row": 6500, "detector": "ddm", "signal": "error", "action": "alert"}


def test_only_the_first_prediction_of_a_row_counts_even_after_its_label_came():
    e = evaluator()
    e.observe(batch(), classified([0, 1, 1], [0, 0, 1], version=1), classified([1], [1], version=2))
    assert e.observe(batch([0, 1], [0, 0]), classified([0], [1])).overall == 1.0
    assert e.observe(batch([1], [1]), classified([0, 1], [1, 1])).scored_rows == 2
    counts = e.summary()["rows"]
    assert (counts["tested"], counts["repeated_predictions"], counts["repeated_labels"]) == (2, 5, 1)
    assert counts["waiting_predictions"] == counts["waiting_labels"] == 0


@settings(max_examples=40, deadline=None)
@given(data=st.data(), total=st.integers(1, 60), delay=st.integers(0, 20))
def test_the_scores_are_the_same_whenever_shards_answer(data, total, delay):
    rng = np.random.default_rng(total)
    y_N, code_N = rng.integers(0, 3, total), rng.integers(-1, 3, total)
    e = evaluator()
    answered_in = np.array([data.draw(st.integers(0, 8)) for _ in range(total)])
    for call in range(9):
        labelled = np.arange(total)[np.arange(total) * 6 // total + delay % 3 == call]
        answered = np.flatnonzero(answered_in == call)
        e.observe(
            batch(labelled, y_N[labelled], classes=("a", "b", "c")),
            classified(answered, code_N[answered], shard=call % 2, classes=3),
        )
    summary = e.summary()
    assert summary["rows"]["scored"] == total
    assert summary["prequential"]["accuracy"] == pytest.approx((y_N == code_N).mean())


def test_what_waits_for_too_long_is_dropped_oldest_first_and_counted(monkeypatch, tmp_path):
    monkeypatch.setattr(prediction_join, "WAITING_ROWS", 10)
    e = evaluator(tmp_path / "p.parquet")
    e.observe(batch(), classified(np.arange(25), np.zeros(25)))
    e.observe(batch(np.arange(25), np.zeros(25, dtype=np.int64)))
    e.finish()
    counts = e.summary()["rows"]
    assert (counts["tested"], counts["scored"], counts["dropped_predictions"], counts["dropped_labels"]) == (25, 10, 15, 5)
    table = pq.read_table(tmp_path / "p.parquet")
    assert sorted(table["row"].to_pylist()) == list(range(25))
    assert table["label"].null_count == 15


def test_waiting_predictions_of_many_classes_are_bounded_by_their_bytes(monkeypatch):
    monkeypatch.setattr(prediction_join, "WAITING_BYTES", 100_000)
    e = evaluator()
    names = tuple(str(k) for k in range(1000))
    e.observe(batch(classes=names), classified(np.arange(100), np.arange(100), classes=1000))
    assert 20 <= e.summary()["rows"]["waiting_predictions"] <= 25


def test_a_prediction_for_a_row_long_done_with_is_dropped_rather_than_kept_for_ever(monkeypatch):
    monkeypatch.setattr(prediction_join, "REMEMBERED_ROWS", 10)
    e = evaluator()
    e.observe(batch(np.arange(100), np.zeros(100, dtype=np.int64)), classified(np.arange(100), np.zeros(100)))
    e.observe(None, classified([5, 95], [0, 0]))
    counts = e.summary()["rows"]
    assert (counts["dropped_predictions"], counts["repeated_predictions"], counts["waiting_predictions"]) == (1, 1, 0)


def test_the_file_has_every_prediction_once_with_classes_as_the_user_writes_them(tmp_path):
    path = tmp_path / "p.parquet"
    e = evaluator(path)
    e.observe(batch(classes=()), classified([0], [-1], version=0, classes=0))
    e.observe(batch([0, 1], [1, 0]), classified([2, 1], [1, 0], shard=3, version=4))
    e.finish()
    e.finish()
    assert pq.read_table(path).to_pylist() == [
        {"row": 0, "prediction": None, "confidence": None, "label": "dog", "version": 0, "shard": 0},
        {"row": 1, "prediction": "cat", "confidence": 0.75, "label": "cat", "version": 4, "shard": 3},
        {"row": 2, "prediction": "dog", "confidence": 0.75, "label": None, "version": 4, "shard": 3},
    ]


def test_the_accuracy_can_be_recomputed_from_the_file(tmp_path):
    rng = np.random.default_rng(0)
    e = evaluator(tmp_path / "p.parquet", label_type=LabelType.INTEGER)
    for start in range(0, 1000, 100):
        row_N = np.arange(start, start + 100)
        e.observe(
            batch(row_N, rng.integers(0, 2, 100), classes=(7, 9)), classified(row_N, rng.integers(0, 2, 100), version=start)
        )
    e.finish()
    table = pq.read_table(tmp_path / "p.parquet").to_pydict()
    right = [p == y for p, y in zip(table["prediction"], table["label"], strict=True)]
    assert set(table["label"]) == {7, 9}
    assert np.mean(right) == e.summary()["prequential"]["accuracy"]


def test_a_regression_is_scored_by_its_errors_and_its_file_has_no_confidence(tmp_path):
    e = evaluator(tmp_path / "p.parquet", REGRESSION, LabelType.INTEGER)
    seen = e.observe(batch([0, 1, 2], np.array([1.0, 2.0, 3.0]), classes=()), estimated([0, 1, 2], [1.5, 2.5, np.nan]))
    assert (seen.metric, seen.overall, seen.scored_rows) == ("mae", 0.5, 3)
    e.finish()
    table = pq.read_table(tmp_path / "p.parquet").to_pydict()
    assert table["prediction"] == [1.5, 2.5, None]
    assert table["label"] == [1.0, 2.0, 3.0]
    assert table["confidence"] == [None] * 3


def test_feedback_is_scored_and_its_file_tells_what_was_answered_by_whom(tmp_path):
    e = evaluator(tmp_path / "p.parquet", TaskConfig(kind=TaskKind.FEEDBACK))
    y_N = np.array([(1, np.nan, 1.0, -1), (0, 0.25, 0.5, 3)], FEEDBACK)
    e.observe(batch(), classified([2], [1], version=5))
    seen = e.observe(batch([0, 1], y_N), classified([0, 1], [1, 1], version=4))
    assert (seen.metric, seen.overall, seen.scored_rows) == ("score", 0.625, 2)
    e.finish()
    usual = {"prediction": "dog", "confidence": 0.75, "version": 4, "shard": 0}
    nothing = dict.fromkeys(["label", "answer", "score", "propensity", "answered_by", "probability"])
    assert pq.read_table(tmp_path / "p.parquet").to_pylist() == [
        {**nothing, **usual, "row": 0, "label": "dog", "probability": 0.75},
        {
            **usual,
            "row": 1,
            "label": None,
            "answer": "cat",
            "score": 0.25,
            "propensity": 0.5,
            "answered_by": 3,
            "probability": 0.25,
        },
        {**nothing, **usual, "row": 2, "version": 5},
    ]
    estimated = e.summary()["prequential"]["estimated_score"]
    assert estimated == pytest.approx((0.75 + 0.5 * 0.25) / (1 + 0.5))


def test_a_regression_whose_errors_grow_raises_an_alarm():
    rng = np.random.default_rng(1)
    y_N = rng.normal(100, 20, 4000)
    value_N = y_N + rng.normal(0, np.repeat([2.0, 6.0], 2000))
    e = evaluator(task=REGRESSION, label_type=LabelType.FLOAT)
    seen = e.observe(batch(np.arange(4000), y_N, classes=()), estimated(np.arange(4000), value_N))
    assert [2000 < alarm.row < 2200 for alarm in seen.alarms] == [True]


def test_the_summary_is_json_and_remembers_the_last_thousand_alarms(monkeypatch):
    e = evaluator(drift=DriftConfig(detectors=[{"kind": "window_mean", "window_rows": 1, "threshold": 0.5}]))
    row_N = np.arange(5000)
    e.observe(batch(row_N, np.zeros(5000, dtype=np.int64)), classified(row_N, row_N % 2))
    summary = json.loads(json.dumps(e.summary(), allow_nan=False))
    assert summary["drift_events"] > 1000
    assert len(summary["drift"]) == 1000
    assert summary["drift"][-1]["row"] >= 4996
    assert {"prequential", "recent", "role", "rows"} <= set(summary)


def test_a_class_code_nobody_has_seen_stops_the_run_with_its_reason():
    with pytest.raises(LearningError, match=r"shard 3 predicted class code 5 .* only 2 classes"):
        evaluator().observe(batch(), classified([0], [5], shard=3, classes=6))


def test_what_is_kept_does_not_hold_on_to_the_arrays_it_came_in():
    codes, row_N = np.zeros(3, dtype=np.int64), np.arange(3)
    answer = classified(row_N, codes)
    e = evaluator()
    e.observe(batch(), answer)
    answer.code_N[:] = 1  # the object store may reuse this memory
    assert e.observe(batch(np.arange(3), np.zeros(3, dtype=np.int64))).overall == 1.0


# --- past regimes

WIDE = Blueprint(
    Schema((Column("a", ColumnKind.NUMERIC),), "y", LabelType.STRING), TaskConfig(), ModelConfig(kind="linear"), 1, 1
)


def knows(version, sign):
    """Takes the second class where the feature times `sign` is above zero."""
    layout = layout_of({"layers.0.weight": (2, 1), "layers.0.bias": (2,)})
    flat_P = np.array([-sign, sign, 0, 0], np.float32)
    statistics = RunningStats.of(np.array([[-1.0], [1.0]]))
    none = RunningStats.empty(0)
    return ModelState(layout, flat_P, {}, {}, statistics, none, np.ones(2, np.int64), ("cat", "dog"), 10, version)


def judged_evaluator(**guards):
    promotion = PromotionConfig(policy="evidence", guards=guards, min_labels=20)
    e = Evaluator(TaskConfig(), DriftConfig(), LabelType.STRING, trial_of=(WIDE, promotion))
    e.begin()
    return e


def live(e, start, stop, sign, hit):
    """Rows whose class follows the feature's sign, predicted by the head with success where `hit`; the last observation."""
    seen = None
    for first in range(start, stop, 100):
        row_N = np.arange(first, first + 100)
        x_ND = np.where(row_N % 2, 1.0, -1.0)[:, None].astype(np.float32)
        y_N = (x_ND[:, 0] * sign > 0).astype(np.int64)
        made = RoundBatch(0, Rows(row_N, x_ND, None), Rows(row_N, x_ND, y_N), ("cat", "dog"))
        seen = e.observe(made, classified(row_N, y_N if hit else 1 - y_N))
    return seen


def through_two_regimes(e):
    live(e, 0, 4_000, sign=1, hit=True)
    e.recall(knows(1, 1))
    live(e, 4_000, 5_000, sign=-1, hit=False)
    return live(e, 5_000, 8_000, sign=-1, hit=True)


def test_drift_ends_a_regime_and_the_head_is_asked_what_it_remembers():
    e = judged_evaluator()
    assert through_two_regimes(e).regimes.count >= 1
    e.recall(knows(2, -1))
    found = e.summary()["regimes"]
    assert found["version"] == 2 and found["worst"] > 0.9
    assert found["past"][0]["best_version"] == 1 and found["past"][0]["latest"] < 0.1
    again = judged_evaluator()
    again.begin(unpack(pack(e.to_state())))
    assert again.summary()["regimes"] == found


@pytest.mark.parametrize("limit, promoted", [(None, [3]), (0.2, [])])
def test_what_a_shadow_has_forgotten_holds_its_promotion_back_where_that_is_wanted(limit, promoted):
    e = judged_evaluator(forgetting=limit)
    through_two_regimes(e)
    e.compare(True, knows(1, 1), knows(3, -1))
    seen = live(e, 8_000, 8_100, sign=-1, hit=True)
    made = [*seen.decisions, *live(e, 8_100, 8_200, sign=-1, hit=True).decisions]
    assert [decision.candidate for decision in made] == promoted
    assert seen.evidence["measured"] is None or seen.evidence["measured"]["forgetting"] > 0.2


def test_a_shadow_whose_replicas_are_slow_waits():
    e = judged_evaluator()
    e.compare(True, knows(1, 1), knows(3, -1))
    e.measure(Measurements(3, production_latency_ms=2.0, shadow_latency_ms=9.0))
    e.measure(Measurements(3, shadow_latency_ms=8.0))
    seen = live(e, 0, 200, sign=-1, hit=True)
    assert seen.decisions == () and any("it takes 8.0 ms, production 2.0 ms" in why for why in seen.evidence["reasons"])
    e.measure(Measurements(3, 2.0, 3.0))
    assert [d.candidate for d in live(e, 200, 300, sign=-1, hit=True).decisions] == [3]


# --- alarms before labels arrive, and what follows from alarms


def inputs(row_N, x_ND) -> RoundBatch:
    """A round of rows to predict, without any label."""
    return RoundBatch(
        0, Rows(np.asarray(row_N), x_ND.astype(np.float32), None), rows([], np.zeros(0, np.int64)), ("cat", "dog")
    )


def test_input_drift_alarms_while_no_label_has_come():
    rng = np.random.default_rng(0)
    e = evaluator(drift=DriftConfig(detectors=["ks_input", "psi_input", "adwin"]))
    seen = []
    for number in range(20):
        x_ND = rng.normal(2.0 if number >= 15 else 0.0, 1.0, (100, 3))
        seen += e.observe(inputs(np.arange(number * 100, number * 100 + 100), x_ND)).alarms
    assert {alarm.detector for alarm in seen} == {"ks_input", "psi_input"}
    assert all(1500 <= alarm.row < 1700 and alarm.signal is Signal.INPUTS for alarm in seen)
    assert e.summary()["rows"]["scored"] == 0


@pytest.mark.parametrize(
    "detector",
    [
        {"kind": "adwin"},
        {"kind": "page_hinkley", "direction": "up"},
        {"kind": "ddm"},
        {"kind": "window_mean", "threshold": "auto", "window_rows": 400},
        {"kind": "ks_input"},
    ],
    ids=lambda detector: detector["kind"],
)
def test_a_model_that_becomes_unsure_alarms_while_no_label_has_come(detector):
    drift = DriftConfig(detectors=[detector | {"signal": "predictions"}])
    e = evaluator(drift=drift)
    row_N = np.arange(6000)
    code_N = np.random.default_rng(1).integers(0, 2, 6000)
    sure = classified(row_N, code_N)
    probability_NK = sure.probability_NK.copy()
    probability_NK[4000:] = 0.5
    seen = e.observe(batch(), Predictions(0, 1, row_N, code_N, probability_NK, None))
    assert seen.alarms and all(4000 <= alarm.row < 5000 for alarm in seen.alarms)
    assert {alarm.signal for alarm in seen.alarms} == {Signal.PREDICTIONS}
    again = evaluator(drift=drift)
    back = again.observe(batch(), Predictions(0, 1, row_N, code_N, probability_NK[::-1].copy(), None))
    assert detector["kind"] == "ks_input" or not back.alarms, "a model that becomes sure is no reason for alarm"


def test_estimates_that_wander_off_alarm_while_no_label_has_come():
    e = evaluator(task=REGRESSION, drift=DriftConfig(detectors=[{"kind": "adwin", "signal": "predictions"}]))
    value_N = np.random.default_rng(2).normal(50.0, 5.0, 3000) + np.repeat([0.0, 10.0], 1500)
    seen = e.observe(batch(), estimated(np.arange(3000), value_N))
    assert seen.alarms and all(1500 <= alarm.row < 1700 for alarm in seen.alarms)


def test_the_loss_alarms_where_a_model_is_as_often_right_but_less_sure():
    e = evaluator(drift=DriftConfig(detectors=["adwin", {"kind": "adwin", "signal": "loss"}]))
    row_N, label_N = np.arange(4000), np.zeros(4000, np.int64)
    probability_NK = np.full((4000, 2), 0.5, np.float32)
    probability_NK[:2000] = [0.99, 0.01]
    seen = e.observe(batch(row_N, label_N), Predictions(0, 1, row_N, label_N, probability_NK, None))
    assert {alarm.signal for alarm in seen.alarms} == {Signal.LOSS} and seen.overall == 1.0


def test_what_was_done_about_an_alarm_is_in_the_report_and_the_order():
    e = evaluator(drift=DriftConfig(actions=["boost"]), update=UpdateConfig(policy=["on_drift"], warm_up_rows=100))
    row_N = np.arange(1000)
    seen, order = e.steer(batch(row_N, np.zeros(1000, np.int64), row_N), classified(row_N, np.repeat([0, 1], 500)))
    assert e.summary()["drift"][0]["action"] == "boost+update" and e.summary()["updates"] == {"on_drift": 1}
    assert (order.learning_rate_factor, order.learn_before_row) == (3.0, 1000)
    assert seen.alarms[0].evidence["before"] < 0.1 < seen.alarms[0].evidence["after"]
    again = evaluator(drift=DriftConfig(actions=["boost"]), update=UpdateConfig(policy=["on_drift"], warm_up_rows=100))
    again.begin(unpack(pack(e.to_state())))
    assert again.orders() == e.orders() == (order,)
    later = batch(np.arange(1000, 1100), np.zeros(100, np.int64), np.arange(1000, 1100))
    assert again.steer(later)[1] == e.steer(later)[1]


def test_labels_of_rows_that_wait_to_be_learned_are_scored():
    e = evaluator()
    waiting = RoundBatch(0, rows([0, 1]), rows([], np.zeros(0, np.int64)), ("cat", "dog"), labelled=rows([0, 1], [0, 1]))
    assert e.observe(waiting, classified([0, 1], [0, 0])).overall == 0.5


def test_a_state_of_an_earlier_release_is_gone_on_from():
    e = evaluator()
    e.observe(batch([0], [0], test_row_N=[0]), classified([0], [0]))
    state = unpack(pack(e.to_state()))
    for key in ("steering", "estimate_scale", "place"):
        del state[key]
    state["detectors"], state["alarms"], state["alarm_count"] = [[{"kind": "adwin"}, {}]], [[7, "adwin", "error"]], 1
    again = evaluator()
    again.begin(state)
    assert again.summary()["drift"] == [{"row": 7, "detector": "adwin", "signal": "error", "action": "none"}]
