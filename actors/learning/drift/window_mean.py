"""Two adjacent windows of the score: alarms when the newer mean has dropped below the older by more than a threshold.

The fixed-size form of the window comparison of Kifer, Ben-David and Gehrke, "Detecting Change in Data Streams",
VLDB 2004, section 3.
"""

from collections import deque
from math import log, pi, sqrt
from typing import Any, Literal

import numpy as np
from pydantic import field_validator

from actors.learning.drift.signal import Signal
from actors.learning.section import Section, setting

_LOOKS = 14.0  # at windows so far apart that they tell something new, in the time of one
_DEFAULT_ROWS = 1e6


class WindowMeanConfig(Section):
    kind: Literal["window_mean"] = setting("window_mean", "Compares the mean score of the last rows with the rows before them.")
    signal: Literal[Signal.SCORE, Signal.LOSS, Signal.PREDICTIONS] = setting(
        Signal.SCORE,
        "What it watches, always as something that drops where the model gets worse: one minus the loss, or the doubt.",
    )
    window_rows: int = setting(100, "Rows in each of the two windows.", unit="rows", ge=1)
    threshold: float | Literal["auto"] = setting(
        0.05, "Alarms when the mean score drops by more than this; auto: from drift.false_alarm_rows.", unit="score"
    )

    @field_validator("threshold")
    @classmethod
    def _is_positive(cls, threshold: float | Literal["auto"]) -> float | Literal["auto"]:
        if threshold != "auto" and threshold <= 0:
            raise ValueError(f"a window_mean's threshold is {threshold}: give more than 0, or auto")
        return threshold


class WindowMean:
    """Keeps 2 x `window_rows` values; starts again after an alarm; one-sided: a rising score never alarms.

    A threshold in figures has no statistics in it: at an accuracy of p the difference of two windows of W rows has a standard
    deviation of sqrt(2p(1-p)/W), 0.06 at p = 0.8 and W = 100. With `auto` it follows the windows' spread, much as in
    Bernstein's inequality, so that `rows_between_alarms` lie between two false alarms or more.
    """

    def __init__(self, config: WindowMeanConfig, rows_between_alarms: float | None = None) -> None:
        self._config = config
        odds = log(max(20.0, _LOOKS * (rows_between_alarms or _DEFAULT_ROWS) / config.window_rows))
        self._log = odds - 0.5 * log(4 * pi * odds)  # the normal tail is lower than exp(-x) by this
        self.evidence: list[dict[str, float]] = []
        self._forget()

    def _drop(self) -> float:
        """The difference of the windows' sums that alarms."""
        size = self._config.window_rows
        if self._config.threshold != "auto":
            return self._config.threshold * size
        mean = min(1.0, max(0.0, (self._older_sum + self._newer_sum + 1.0) / (2 * size + 2)))
        return sqrt(4 * size * mean * (1 - mean) * self._log) + self._log / 3

    def _forget(self) -> None:
        self._older: deque[float] = deque()
        self._newer: deque[float] = deque()
        self._older_sum = self._newer_sum = 0.0

    def update_many(self, values_N: np.ndarray) -> list[int]:
        size, is_auto, drop = self._config.window_rows, self._config.threshold == "auto", self._drop()
        alarms: list[int] = []
        self.evidence = []
        values: list[float] = np.asarray(values_N, dtype=np.float64).tolist()
        for i, value in enumerate(values):
            self._newer.append(value)
            self._newer_sum += value
            if len(self._newer) <= size:
                continue
            middle = self._newer.popleft()
            self._newer_sum -= middle
            self._older.append(middle)
            self._older_sum += middle
            if len(self._older) > size:
                self._older_sum -= self._older.popleft()
            if len(self._older) == size and self._older_sum - self._newer_sum > (self._drop() if is_auto else drop):
                alarms.append(i)
                self.evidence.append({"before": self._older_sum / size, "after": self._newer_sum / size})
                self._forget()
        return alarms

    def to_state(self) -> dict[str, Any]:
        return {
            "older": list(self._older),
            "newer": list(self._newer),
            "older_sum": self._older_sum,
            "newer_sum": self._newer_sum,
        }

    @classmethod
    def from_state(
        cls, config: WindowMeanConfig, state: dict[str, Any], rows_between_alarms: float | None = None
    ) -> "WindowMean":
        detector = cls(config, rows_between_alarms)
        detector._older, detector._newer = deque(state["older"]), deque(state["newer"])
        detector._older_sum, detector._newer_sum = state["older_sum"], state["newer_sum"]
        return detector
