"""Labels as the compiled loops take them, and what an error in each kind of task is. Shapes: T labelled rows, K outputs."""

from dataclasses import dataclass

import numpy as np

from actors.learning.labels import LARGEST_WEIGHT, codes_of
from actors.learning.models.ensemble.compiled import compiled
from actors.learning.running_stats import RunningStats
from actors.learning.task import TaskConfig, TaskKind

CLASSES, SQUARED, ABSOLUTE, SCORES = 0, 1, 2, 3
"""What the outputs are: logits of classes, a value under one of two losses, or the logit of each answer's score."""


def aim_of(task: TaskConfig) -> int:
    match task.kind:
        case TaskKind.REGRESSION:
            return SQUARED if task.loss == "squared" else ABSOLUTE
        case TaskKind.FEEDBACK:
            return SCORES
        case _:
            return CLASSES


@dataclass(frozen=True, slots=True)
class Targets:
    """code_T int64: the class, or the answer that was given. value_T float32: the standardised label, or the answer's score,
    NaN where the answer is a label. weight_T float32: 1 / propensity, at most 10.
    """

    code_T: np.ndarray
    value_T: np.ndarray
    weight_T: np.ndarray

    def __len__(self) -> int:
        return len(self.code_T)

    @classmethod
    def none(cls) -> "Targets":
        return cls(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.float32))

    def at(self, at_N: np.ndarray) -> "Targets":
        return Targets(self.code_T[at_N], self.value_T[at_N], self.weight_T[at_N])

    def joined(self, other: "Targets", room: int | None = None) -> "Targets":
        """These, then the others; of all, the last `room`."""
        pairs = ((self.code_T, other.code_T), (self.value_T, other.value_T), (self.weight_T, other.weight_T))
        return Targets(*(np.concatenate(pair)[-room if room else None :] for pair in pairs))

    @classmethod
    def of(cls, y_T: np.ndarray, task: TaskConfig, target: RunningStats) -> "Targets":
        rows = len(y_T)
        one_T = np.ones(rows, np.float32)
        if task.kind is TaskKind.REGRESSION:
            return cls(np.zeros(rows, np.int64), target.standardise(y_T[:, None])[:, 0], one_T)
        code_T = np.array(codes_of(y_T))  # copied, as all that loops are given: a version's arrays may be read-only
        if task.kind is not TaskKind.FEEDBACK:
            return cls(code_T, np.full(rows, np.nan, np.float32), one_T)
        weight_T = np.minimum(LARGEST_WEIGHT, 1.0 / np.maximum(y_T["propensity"], 1e-6)).astype(np.float32)
        value_T = np.array(y_T["score"])
        return cls(code_T, value_T, np.where(np.isnan(value_T), one_T, weight_T).astype(np.float32))


@compiled
def softmax(logit_K: np.ndarray, known_K: np.ndarray, p_K: np.ndarray) -> None:
    """Over the classes that are known; the others get 0."""
    largest = np.float32(-np.inf)
    for k in range(len(p_K)):
        if known_K[k] and logit_K[k] > largest:
            largest = logit_K[k]
    total = np.float32(0)
    for k in range(len(p_K)):
        p_K[k] = np.exp(logit_K[k] - largest) if known_K[k] else np.float32(0)
        total += p_K[k]
    for k in range(len(p_K)):
        p_K[k] /= max(total, np.float32(1e-30))


@compiled
def answer(aim: int, out_K: np.ndarray, known_K: np.ndarray, p_K: np.ndarray) -> None:
    """Outputs as what an expert says: probabilities of the classes, the value, or the estimated score of each answer."""
    if aim == CLASSES:
        softmax(out_K, known_K, p_K)
    elif aim == SCORES:
        for k in range(len(p_K)):
            p_K[k] = np.float32(1) / (np.float32(1) + np.exp(-out_K[k]))
    else:
        p_K[0] = out_K[0]


@compiled
def error(aim: int, p_K: np.ndarray, known_K: np.ndarray, code: int, value: float, weight: float, error_K: np.ndarray) -> None:
    """The gradient of the loss by the outputs that gave `p_K`: log loss, squared, absolute, or log loss of the scores.

    A squared error counts as at most 3 deviations (Huber 1964): one freak label does not undo what thousands have taught.
    """
    if aim == CLASSES:
        for k in range(len(p_K)):
            error_K[k] = p_K[k]
        error_K[code] -= np.float32(1)
    elif aim == SCORES:
        for k in range(len(p_K)):
            if value != value:  # a label tells the score of every answer
                error_K[k] = p_K[k] - (np.float32(1) if k == code else np.float32(0))
            else:
                error_K[k] = weight * (p_K[k] - value) if k == code else np.float32(0)
    else:
        gap = p_K[0] - value
        limit = np.float32(3) if aim == SQUARED else np.float32(0.5)
        error_K[0] = min(max(gap, -limit), limit)
