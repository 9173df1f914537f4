"""Brings a regression's absolute errors to the 0-to-1 scale that the drift detectors' defaults assume."""

from math import sqrt

import numpy as np

WARM_UP_ROWS = 30


class ErrorScale:
    """Divides |error| by the standard deviation of the labels so far and cuts at 1, where a constant would do as well.

    The labels' spread (Welford's update) settles early and does not follow the model, so a change of the scaled error
    is a change of the model's error; dividing by the error's own mean would undo a drift while it lasts. The first 30
    labels set the scale and their rows give nothing. An estimate that is missing or not finite counts as 1.
    """

    def __init__(self) -> None:
        self._rows = 0
        self._mean = self._squares = 0.0

    def scale(self, error_N: np.ndarray, label_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The indices of the rows that can be judged (int64) and their scaled errors (float64, 0 to 1), in row order."""
        unit_N = np.array([self._unit_before(label) for label in label_N.tolist()])
        kept_N = np.flatnonzero(~np.isnan(unit_N))
        size_N = np.abs(np.asarray(error_N, dtype=np.float64)[kept_N])
        size_N[~np.isfinite(size_N)] = np.inf
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            scaled_N = np.minimum(size_N / unit_N[kept_N], 1.0)
        scaled_N[size_N == 0] = 0.0  # also where the labels have not varied at all
        return kept_N, scaled_N

    def to_state(self) -> dict[str, float]:
        return {"rows": self._rows, "mean": self._mean, "squares": self._squares}

    def restore(self, state: dict[str, float]) -> None:
        self._rows, self._mean, self._squares = int(state["rows"]), state["mean"], state["squares"]

    def _unit_before(self, label: float) -> float:
        unit = sqrt(self._squares / self._rows) if self._rows >= WARM_UP_ROWS else np.nan
        self._rows += 1
        deviation = label - self._mean
        self._mean += deviation / self._rows
        self._squares += deviation * (label - self._mean)
        return unit
