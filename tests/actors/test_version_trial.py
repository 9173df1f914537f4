"""Production and the shadow on the same rows: what the gate gets to see of them."""

import numpy as np
import pytest

from actors.learning.consolidation import Contribution, consolidate
from actors.learning.gate.gate import Verdict
from actors.learning.labels import FEEDBACK
from actors.learning.learner import Learner
from actors.learning.models.config import ModelConfig
from actors.learning.optimizers import OptimizerConfig
from actors.learning.part import pack, unpack
from actors.learning.promotion import PromotionConfig
from actors.learning.schema import Column, ColumnKind, LabelType, Schema
from actors.learning.state import ModelState
from actors.learning.task import TaskConfig
from actors.records import Rows
from actors.release_desk import Blueprint
from actors.version_trial import VersionTrial

INPUTS = 3
LINEAR = ModelConfig(kind="linear")
TASKS = {
    "classification": TaskConfig(classes=[0, 1]),
    "regression": TaskConfig(kind="regression"),
    "feedback": TaskConfig(kind="feedback", classes=[0, 1], exploration=0.5),
}


def rows(kind, n, seed):
    draw = np.random.default_rng(seed)
    x_ND = draw.normal(size=(n, INPUTS)).astype(np.float32)
    if kind == "regression":
        return x_ND, x_ND[:, 0].astype(np.float64)
    right_N = (x_ND[:, 0] > 0).astype(np.int64)
    if kind == "classification":
        return x_ND, right_N
    given_N = draw.integers(0, 2, n)
    return x_ND, np.array([(g, float(g == r), 0.5, 1) for g, r in zip(given_N, right_N, strict=True)], FEEDBACK)


def version(kind, number, learned):
    """What has learned so many rows."""
    task = TASKS[kind]
    learner = Learner(LINEAR, OptimizerConfig(learning_rate=0.05), task, INPUTS, seed=1)
    x_ND, y_N = rows(kind, learned, seed=9)
    for start in range(0, learned, 10):
        learner.train(x_ND[start : start + 10], y_N[start : start + 10])
    base = ModelState.empty(INPUTS, 1 if kind == "regression" else 0)
    state = consolidate(base, [Contribution(base, 0, learner.change(classes=(0, 1)))], 1)
    return ModelState(**{**{f: getattr(state, f) for f in state.__slots__}, "version": number})


def a_trial(kind):
    schema = Schema(tuple(Column(name, ColumnKind.NUMERIC) for name in "abc"), "y", LabelType.INTEGER)
    return VersionTrial(Blueprint(schema, TASKS[kind], LINEAR, INPUTS, 1), PromotionConfig(min_labels=50))


def play(trial, kind, rounds, first=0, delay=0):
    """Rounds of 40 rows, their labels `delay` rounds later; every decision."""
    made, waiting = [], []
    for at in range(first, first + rounds):
        x_ND, y_N = rows(kind, 40, seed=100 + at)
        row_N = np.arange(40 * at, 40 * at + 40)
        trial.predict(Rows(row_N, x_ND, None))
        waiting.append((row_N, y_N))
        if len(waiting) > delay:
            trial.add_labels(*waiting.pop(0))
        made += trial.judge()
    return made


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("delay", [0, 3])
def test_a_shadow_that_answers_better_is_promoted(kind, delay):
    trial = a_trial(kind)
    trial.pair(version(kind, 4, 10), version(kind, 7, 2_000), is_judged=True)
    [made] = play(trial, kind, 60, delay=delay)
    assert (made.verdict, made.candidate, made.incumbent) == (Verdict.PROMOTE, 7, 4)
    assert trial.evidence()["phase"] == "watching"
    better, worse = ("shadow", "production") if kind != "regression" else ("production", "shadow")  # an error is better small
    assert trial.scores()[better] > trial.scores()[worse]


def test_a_better_version_that_was_replaced_is_gone_back_to():
    trial = a_trial("classification")
    good, bad = version("classification", 4, 2_000), version("classification", 7, 10)
    trial.pair(bad, good, is_judged=True)
    assert [each.verdict for each in play(trial, "classification", 40)] == [Verdict.PROMOTE]
    trial.pair(good, bad, is_judged=True)
    assert play(trial, "classification", 20, first=40) == []
    assert trial.evidence()["last"]["verdict"] == "promote"


def test_nobody_is_judged_where_the_gate_does_not_decide_and_both_are_scored():
    trial = a_trial("classification")
    trial.pair(version("classification", 4, 10), version("classification", 7, 2_000), is_judged=False)
    assert play(trial, "classification", 30) == []
    assert trial.evidence() is None and trial.scores()["shadow"] > 0.9


def test_one_version_in_both_roles_is_not_compared():
    trial = a_trial("classification")
    state = version("classification", 4, 10)
    trial.pair(state, state, is_judged=True)
    assert play(trial, "classification", 5) == [] and trial.scores() == {}


@pytest.mark.parametrize("kind", TASKS)
def test_started_again_it_decides_at_the_same_row(kind):
    pair = version(kind, 4, 10), version(kind, 7, 60)
    whole = a_trial(kind)
    whole.pair(*pair, is_judged=True)
    expected = play(whole, kind, 40)
    first, again = a_trial(kind), a_trial(kind)
    first.pair(*pair, is_judged=True)
    early = play(first, kind, 1)
    again.restore(unpack(pack(first.to_state())))
    again.pair(*pair, is_judged=True)
    late = play(again, kind, 39, first=1)
    assert [(d.verdict, d.labels, d.e_value) for d in early + late] == [(d.verdict, d.labels, d.e_value) for d in expected]
    assert expected
