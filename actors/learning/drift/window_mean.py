"""Two adjacent windows of the score: alarms when the newer mean has dropped below the older by more than a threshold.

The fixed-size form of the window comparison of Kifer, Ben-David and Gehrke, "Detecting Change in Data Streams",
VLDB 2004, section 3.
"""

from collections import deque
from typing import Any, ClassVar, Literal

import numpy as np

from actors.learning.drift.signal import Signal
from actors.learning.section import Section, setting


class WindowMeanConfig(Section):
    signal: ClassVar[Signal] = Signal.SCORE

    kind: Literal["window_mean"] = setting("window_mean", "Compares the mean score of the last rows with the rows before them.")
    window_rows: int = setting(100, "Rows in each of the two windows.", unit="rows", ge=1)
    threshold: float = setting(0.05, "Alarms when the mean score drops by more than this.", unit="score", gt=0)


class WindowMean:
    """Keeps 2 x `window_rows` values; starts again after an alarm; one-sided: a rising score never alarms.

    It has no statistics in it: at an accuracy of p the difference of two windows of W rows has a standard deviation
    of sqrt(2p(1-p)/W), 0.06 at p = 0.8 and W = 100. Raise the window or the threshold where that alarms too often.
    """

    def __init__(self, config: WindowMeanConfig) -> None:
        self._config = config
        self._forget()

    def _forget(self) -> None:
        self._older: deque[float] = deque()
        self._newer: deque[float] = deque()
        self._older_sum = self._newer_sum = 0.0

    def update_many(self, values_N: np.ndarray) -> list[int]:
        size, drop = self._config.window_rows, self._config.threshold * self._config.window_rows
        alarms: list[int] = []
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
            if len(self._older) == size and self._older_sum - self._newer_sum > drop:
                alarms.append(i)
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
    def from_state(cls, config: WindowMeanConfig, state: dict[str, Any]) -> "WindowMean":
        detector = cls(config)
        detector._older, detector._newer = deque(state["older"]), deque(state["newer"])
        detector._older_sum, detector._newer_sum = state["older_sum"], state["newer_sum"]
        return detector
