"""Past regimes of the stream, and what versions have forgotten of them: the regime memory with versions to read.

Part of the evaluator, which tells it of labelled rows and of drift alarms. Versions are scored now and then, not every round.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from actors.learning.gate.losses import feedback_loss
from actors.learning.labels import codes_of
from actors.learning.model_kinds import Reader, make_reader
from actors.learning.part import Tree
from actors.learning.regime_memory import Regime, RegimeMemory, RegimesConfig, RegimeStatus
from actors.learning.state import ModelState
from actors.learning.task import TaskKind
from actors.records import Rows
from actors.release_desk import Blueprint


class RegimeWatch:
    def __init__(self, blueprint: Blueprint, config: RegimesConfig) -> None:
        self._blueprint, self._task = blueprint, blueprint.task
        self._memory = RegimeMemory(config)
        self._reader: Reader | None = None

    def saw(self, labelled: Rows, alarms: Iterable[int]) -> bool:
        """Labelled rows, and the rows of the stream at which drift was noticed. Whether a regime has ended."""
        if labelled.y_N is not None:
            self._memory.add(labelled.row_N, labelled.x_ND, labelled.y_N)
        return any([self._memory.close(row) for row in alarms])

    def score(self, state: ModelState) -> RegimeStatus:
        self._read(state)
        return self._memory.score(state.version, self._score)

    def scores(self, state: ModelState) -> list[tuple[Regime, float]]:
        """On every regime, the present one last; nothing of it is remembered."""
        self._read(state)
        return self._memory.scores(self._score)

    def _read(self, state: ModelState) -> None:
        b = self._blueprint
        if self._reader is None:
            self._reader = make_reader(b.model, b.task, b.inputs, seed=b.seed, initial=b.initial)
        self._reader.load(state)

    def status(self) -> RegimeStatus:
        return self._memory.status()

    def to_json(self) -> dict[str, Any]:
        return self._memory.to_json()

    def to_state(self) -> Tree:
        return self._memory.to_state()

    def restore(self, state: Tree) -> None:
        self._memory.restore(state)

    def _score(self, x_ND: np.ndarray, y_N: np.ndarray) -> float:
        """0 to 1: accuracy; or the reward that would have been earned; or the share of the label's spread that is explained."""
        assert self._reader is not None
        answer = self._reader.predict(x_ND)
        if answer.value_N is not None:
            return _explained(answer.value_N, y_N, power=2 if self._task.loss == "squared" else 1)
        assert answer.code_N is not None and answer.probability_NK is not None
        if self._task.kind is TaskKind.FEEDBACK:
            return 1.0 - float(feedback_loss(y_N, answer.probability_NK, largest_weight=1.0).mean())
        return float((answer.code_N == codes_of(y_N)).mean())


def _explained(value_N: np.ndarray, y_N: np.ndarray, power: int) -> float:
    centre = y_N.mean() if power == 2 else np.median(y_N)
    spread = float((np.abs(y_N - centre) ** power).sum())
    missed = float((np.abs(value_N - y_N) ** power).sum())
    if not np.isfinite(missed):
        return 0.0
    return float(np.clip(1.0 - missed / spread, 0.0, 1.0)) if spread else float(missed == 0.0)
