"""Production and the shadow on the rows of the stream: what each answers before the label comes, and what the gate decides.

Part of the evaluator. It predicts with the versions themselves, so both are scored on every labelled row, whether it came from
the source or over HTTP, and whether anybody asked the replicas for it or not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from actors.learning.gate.gate import Decision, Gate
from actors.learning.gate.losses import RelativeLoss, expected_code, feedback_loss, zero_one_loss
from actors.learning.gate.rows import PairedRows, VersionScores
from actors.learning.labels import codes_of
from actors.learning.model_kinds import Reader, make_reader
from actors.learning.part import Tree
from actors.learning.prequential import WINDOW_ROWS
from actors.learning.promotion import PromotionConfig
from actors.learning.state import ModelState
from actors.learning.task import TaskKind
from actors.prediction_join import Columns, PredictionJoin
from actors.records import Rows
from actors.release_desk import PRODUCTION, SHADOW, Blueprint

_ROLES = (PRODUCTION, SHADOW)


@dataclass(frozen=True, slots=True)
class Contender:
    version: int
    reader: Reader


class VersionTrial:
    """`pair` names who is compared; then for every round `predict`, `add_labels` and `judge`, in this order."""

    def __init__(self, blueprint: Blueprint, promotion: PromotionConfig) -> None:
        self._blueprint, self._kind = blueprint, blueprint.task.kind
        self._gate = Gate(promotion)
        self._contenders: dict[str, Contender] = {}
        self._is_judged = False
        self._join = PredictionJoin()
        self._relative = RelativeLoss(power=2 if blueprint.task.loss == "squared" else 1)
        self._messages = 0
        self._recent: dict[str, np.ndarray] = {
            role: np.empty(0) for role in _ROLES
        }  # a score of each row, as the metric is read

    def pair(self, production: ModelState | None, shadow: ModelState | None, *, is_judged: bool) -> None:
        """Who is compared from the next round on; None, or one version in both roles: nobody. `is_judged`: the gate decides."""
        self._is_judged = is_judged
        if production is None or shadow is None or production.version == shadow.version:
            self._contenders = {}
            return
        known = {contender.version: contender for contender in self._contenders.values()}
        states = {PRODUCTION: production, SHADOW: shadow}
        self._contenders = {role: known.get(state.version) or self._contender(state) for role, state in states.items()}
        if is_judged:
            self._gate.examine(production.version, shadow.version)

    def predict(self, rows: Rows) -> None:
        if not self._contenders or not len(rows):
            return
        columns: Columns = {"row": rows.row_N}
        for role, contender in self._contenders.items():
            answer = contender.reader.predict(rows.x_ND)
            columns[f"{role}.version"] = np.full(len(rows), contender.version)
            if answer.value_N is not None:
                columns[f"{role}.output"] = answer.value_N
                continue
            assert answer.code_N is not None and answer.probability_NK is not None
            columns[f"{role}.code"] = answer.code_N
            columns[f"{role}.output"] = np.where(answer.code_N >= 0, expected_code(answer.probability_NK), np.nan)
            if self._kind is TaskKind.FEEDBACK:
                columns[f"{role}.probability"] = answer.probability_NK
        self._join.add_predictions(columns)
        self._join.take_overflow()

    def add_labels(self, row_N: np.ndarray, y_N: np.ndarray) -> None:
        if self._contenders or self._join.waiting_predictions:
            self._join.add_labels(row_N, y_N)

    def judge(self) -> list[Decision]:
        """What the labels that have come decide."""
        joined = self._join.take()
        rows = len(joined["row"])
        if not rows:
            return []
        losses = self._losses(joined)
        versions_2N = np.stack([joined[f"{role}.version"] for role in _ROLES])
        bounds = [0, *(np.flatnonzero((np.diff(versions_2N, axis=1) != 0).any(axis=0)) + 1).tolist(), rows]
        decisions: list[Decision] = []
        for start, stop in pairwise(bounds):
            at = slice(start, stop)
            self._messages += 1
            if self._is_judged:
                one, other = (
                    VersionScores(int(joined[f"{role}.version"][start]), losses[role][at], joined[f"{role}.output"][at])
                    for role in _ROLES
                )
                decisions += self._gate.observe(PairedRows(self._messages, *self._labels(joined["label"][at]), one, other))
        return decisions

    def evidence(self) -> dict[str, Any] | None:
        """The gate's status; None while it does not decide."""
        return self._gate.status() if self._is_judged else None

    def scores(self) -> Mapping[str, float]:
        """Of each role over the last 1,000 rows on which the two were compared."""
        return {role: float(recent.mean()) for role, recent in self._recent.items() if len(recent)}

    def to_state(self) -> Tree:
        return {
            "gate": self._gate.to_state(),
            "join": self._join.to_state(),
            "relative": self._relative.to_state(),
            "messages": self._messages,
            "recent": dict(self._recent),
        }

    def restore(self, state: Tree) -> None:
        """Goes on from `state`; who is compared has to be said again."""
        self._gate.restore(state["gate"])
        self._join.restore(state["join"])
        self._relative.restore(state["relative"])
        self._messages, self._recent = state["messages"], dict(state["recent"])

    def _contender(self, state: ModelState) -> Contender:
        b = self._blueprint
        reader = make_reader(b.model, b.task, b.inputs, seed=b.seed, initial=b.initial)
        reader.load(state)
        return Contender(state.version, reader)

    def _labels(self, label_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As numbers, and the class that each row counts for."""
        if self._kind is TaskKind.REGRESSION:
            return label_N, np.full(len(label_N), -1)
        code_N = codes_of(label_N)
        return code_N.astype(np.float64), code_N

    def _losses(self, joined: Columns) -> dict[str, np.ndarray]:
        """0 to 1, by role; notes the scores on the way."""
        label_N = joined["label"]
        if self._kind is TaskKind.REGRESSION:
            error = {role: joined[f"{role}.output"] - label_N for role in _ROLES}
            self._note({role: np.abs(error_N) for role, error_N in error.items()})
            return dict(zip(_ROLES, self._relative.losses(*(error[role] for role in _ROLES)), strict=True))
        if self._kind is TaskKind.FEEDBACK:
            classes = joined[f"{PRODUCTION}.probability"].shape[1]
            largest = max(1.0, classes / max(self._blueprint.task.exploration, 1e-2))
            found = {role: feedback_loss(label_N, joined[f"{role}.probability"], largest) for role in _ROLES}
        else:
            found = {role: zero_one_loss(label_N, joined[f"{role}.code"]) for role in _ROLES}
        self._note({role: 1.0 - loss_N for role, loss_N in found.items()})
        return found

    def _note(self, scores: Mapping[str, np.ndarray]) -> None:
        for role, score_N in scores.items():
            finite_N = score_N[np.isfinite(score_N)]
            self._recent[role] = np.concatenate([self._recent[role], finite_N])[-WINDOW_ROWS:].copy()
