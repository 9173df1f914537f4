"""From predictions and labels to the numbers from 0 to 1 that the detectors watch."""

import numpy as np

from actors.learning.part import Tree

LARGEST_LOSS = 5.0  # the log loss of a true class that was given 0.7 %; beyond it a row is simply wrong
REFERENCE_ESTIMATES = 200


def log_losses(label_N: np.ndarray, probability_NK: np.ndarray) -> np.ndarray:
    """Of the true class, cut at 5 and divided by it: float64, 0 to 1. A class the model did not know, or NaN, counts as 1."""
    probability_N = np.zeros(len(label_N))
    known_N = (label_N >= 0) & (label_N < probability_NK.shape[1])
    probability_N[known_N] = np.nan_to_num(probability_NK[known_N, label_N[known_N]], nan=0.0)
    with np.errstate(divide="ignore"):
        loss_N: np.ndarray = np.clip(-np.log(probability_N) / LARGEST_LOSS, 0.0, 1.0)
    return loss_N


def doubts(code_N: np.ndarray, probability_NK: np.ndarray) -> np.ndarray:
    """One minus the probability of the answer; 1 where there is none."""
    sure_N = probability_NK.max(axis=1, initial=0.0).astype(np.float64)
    doubt_N: np.ndarray = np.clip(1.0 - np.where((code_N >= 0) & np.isfinite(sure_N), sure_N, 0.0), 0.0, 1.0)
    return doubt_N


class EstimateScale:
    """Where a regression's estimate lies among its first 200: 0.5 at their mean, 0 and 1 three standard deviations away.

    The first 200 give nothing. An estimate that is not a number counts as 1.
    """

    def __init__(self) -> None:
        self._first = np.empty(0)
        self._mean = self._spread = np.nan

    def scale(self, value_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The indices of the rows that can be placed (int64) and their places (float64)."""
        value_N = np.asarray(value_N, dtype=np.float64)
        missing = min(len(value_N), REFERENCE_ESTIMATES - len(self._first))
        if missing:
            self._first = np.concatenate([self._first, value_N[:missing]])
            if len(self._first) == REFERENCE_ESTIMATES:
                finite = self._first[np.isfinite(self._first)]
                self._mean, self._spread = (float(finite.mean()), float(finite.std())) if len(finite) else (0.0, 0.0)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            place_N = 0.5 + (value_N[missing:] - self._mean) / (6.0 * self._spread)
        place_N[value_N[missing:] == self._mean] = 0.5  # also where they have not varied at all
        return np.arange(missing, len(value_N)), np.clip(np.nan_to_num(place_N, nan=1.0), 0.0, 1.0)

    def to_state(self) -> Tree:
        return {"first": self._first}

    def restore(self, state: Tree) -> None:
        self._first = np.empty(0)
        self.scale(state["first"])
