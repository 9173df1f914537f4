"""What an answer costs, 0 to 1, for each kind of task; what the two versions' answers are compared by.

A version that gives no answer, or one that is not finite, loses 1. Shapes: N rows, K classes.
"""

from math import exp, inf, isfinite

import numpy as np

from actors.learning.part import Tree


def zero_one_loss(label_N: np.ndarray, code_N: np.ndarray) -> np.ndarray:
    """Class codes; -1 for no answer."""
    loss_N: np.ndarray = (label_N != code_N).astype(np.float64)
    return loss_N


def expected_code(probability_NK: np.ndarray) -> np.ndarray:
    """One number that tells distributions apart better than the best class does: the gate's output of a classifier."""
    code_N: np.ndarray = (probability_NK * np.arange(1.0, probability_NK.shape[1] + 1)).sum(axis=1)
    return code_N


def feedback_loss(label_N: np.ndarray, probability_NK: np.ndarray, largest_weight: float) -> np.ndarray:
    """One minus the reward that a version would have earned, estimated from the score of the answer that was given.

    `label_N` is of dtype FEEDBACK. A score is weighted by how much more probable the version would have made that answer,
    at most `largest_weight`, and is divided by it so as to stay below 1. Number of classes / exploration is never exceeded
    and makes the estimate unbiased; anything smaller favours the version that gave the answers. A label needs no weight.
    """
    known_N = label_N["code"] < probability_NK.shape[1]
    probability_N = np.zeros(len(label_N))
    probability_N[known_N] = probability_NK[known_N, label_N["code"][known_N]]
    weight_N = np.minimum(probability_N / label_N["propensity"], largest_weight)
    earned_N = np.where(np.isnan(label_N["score"]), probability_N, weight_N * label_N["score"] / largest_weight)
    loss_N: np.ndarray = 1.0 - np.nan_to_num(earned_N, nan=0.0)
    return loss_N


class RelativeLoss:
    """A regression's error e as e / (e + s), or e^2 / (e^2 + s^2): half of the answers of production lose less than 1/2.

    s follows the median of production's absolute errors and takes account of a row only after it. So the losses have no
    unit, the smaller error always loses less, and no single error counts for more than 1.
    """

    _SLOWEST_STEP = 0.01  # of log s per row

    def __init__(self, power: int) -> None:
        """`power` is 1 for the absolute and 2 for the squared loss."""
        self._power = power
        self._rows = 0
        self._scale = 0.0

    def losses(self, production_error_N: np.ndarray, shadow_error_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Errors with or without sign, in row order. The very first row has no scale yet: a tie."""
        production_N, shadow_N = np.abs(production_error_N), np.abs(shadow_error_N)
        scale_N = np.array([self._scale_before(error) for error in production_N.tolist()])
        return self._loss(production_N, scale_N), self._loss(shadow_N, scale_N)

    def to_state(self) -> Tree:
        return {"rows": self._rows, "scale": self._scale}

    def restore(self, state: Tree) -> None:
        self._rows, self._scale = state["rows"], state["scale"]

    def _loss(self, error_N: np.ndarray, scale_N: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            loss_N: np.ndarray = 1.0 / (1.0 + (scale_N / error_N) ** self._power)
        loss_N[error_N == 0.0] = 0.0
        loss_N[~np.isfinite(error_N)] = 1.0
        return loss_N

    def _scale_before(self, error: float) -> float:
        scale = self._scale if self._rows else inf
        if isfinite(error):
            self._rows += 1
            step = max(self._SLOWEST_STEP, 1.0 / self._rows)
            self._scale = self._scale * exp(step if error > self._scale else -step) if self._scale else error
        return scale
