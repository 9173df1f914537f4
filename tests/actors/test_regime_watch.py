"""Past regimes, and versions that are scored on them: the scores of each kind of task."""

import numpy as np
import pytest

from actors.learning.consolidation import Contribution, consolidate
from actors.learning.labels import FEEDBACK
from actors.learning.learner import Learner
from actors.learning.models.config import ModelConfig
from actors.learning.optimizers import OptimizerConfig
from actors.learning.part import pack, unpack
from actors.learning.regime_memory import RegimesConfig
from actors.learning.schema import Column, ColumnKind, LabelType, Schema
from actors.learning.state import ModelState
from actors.learning.task import TaskConfig
from actors.records import Rows
from actors.regime_watch import RegimeWatch
from actors.release_desk import Blueprint

LINEAR = ModelConfig(kind="linear")
TASKS = {
    "classification": TaskConfig(classes=[0, 1]),
    "regression": TaskConfig(kind="regression"),
    "absolute": TaskConfig(kind="regression", loss="absolute"),
    "feedback": TaskConfig(kind="feedback", classes=[0, 1], exploration=0.1),
}


def rows(task, first, n, seed=0):
    draw = np.random.default_rng(seed)
    x_ND = draw.normal(size=(n, 3)).astype(np.float32)
    right_N = (x_ND[:, 0] > 0).astype(np.int64)
    y_N = right_N
    if task.kind == "regression":
        y_N = 1e3 * x_ND[:, 0].astype(np.float64)
    if task.kind == "feedback":
        given_N = draw.integers(0, 2, n)
        y_N = np.array([(g, float(g == r), 0.5, 1) for g, r in zip(given_N, right_N, strict=True)], FEEDBACK)
    return Rows(np.arange(first, first + n), x_ND, y_N)


def version(task, number, learned):
    learner = Learner(LINEAR, OptimizerConfig(learning_rate=0.05), task, 3, seed=1)
    known = rows(task, 0, max(learned, 1), seed=5)
    for start in range(0, learned, 20):
        learner.train(known.x_ND[start : start + 20], known.y_N[start : start + 20])
    base = ModelState.empty(3, 1 if task.kind == "regression" else 0)
    state = consolidate(base, [Contribution(base, 0, learner.change(classes=(0, 1)))], 1)
    return ModelState(**{**{f: getattr(state, f) for f in state.__slots__}, "version": number})


@pytest.mark.parametrize("name", TASKS)
def test_who_has_learned_more_scores_higher_and_who_knows_nothing_has_forgotten(name):
    task = TASKS[name]
    schema = Schema(tuple(Column(c, ColumnKind.NUMERIC) for c in "abc"), "y", LabelType.INTEGER)
    watch = RegimeWatch(Blueprint(schema, task, LINEAR, 3, 1), RegimesConfig(rows=128))
    assert not watch.saw(Rows.none(), [])
    assert watch.saw(rows(task, 0, 4_000), [4_000])
    assert watch.score(version(task, 2, 2_000)).forgetting is None
    again = RegimeWatch(Blueprint(schema, task, LINEAR, 3, 1), RegimesConfig(rows=128))
    again.restore(unpack(pack(watch.to_state())))
    lost = again.score(version(task, 3, 20))
    assert lost == watch.score(version(task, 3, 20)) and lost.forgetting > 0.01
    (good, at_good), (_, _) = again.scores(version(task, 2, 2_000))
    assert good.best == at_good and 0.3 < at_good <= 1.0
    assert again.scores(ModelState.empty(3, 1 if task.kind == "regression" else 0))[0][1] in (0.0, pytest.approx(0.5, abs=0.2))
