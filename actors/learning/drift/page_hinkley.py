"""Page-Hinkley: a cumulative sum of deviations from the running mean that forgets slowly.

Page, "Continuous Inspection Schemes", Biometrika 41, 1954; with the fading factor of Sebastiao and Fernandes,
"Supporting the Page-Hinkley Test with Empirical Mode Decomposition for Change Detection", ISMIS 2017.
"""

from math import log, sqrt
from typing import Any, Literal

import numpy as np

from actors.learning.drift.signal import Direction, Signal
from actors.learning.section import Section, setting

PUBLISHED_THRESHOLD = 50.0


class PageHinkleyConfig(Section):
    kind: Literal["page_hinkley"] = setting("page_hinkley", "Page-Hinkley: adds up how far the error stays off its mean.")
    signal: Literal[Signal.ERROR, Signal.SCORE, Signal.LOSS, Signal.PREDICTIONS] = setting(Signal.ERROR, "What it watches.")
    min_rows: int = setting(30, "Alarms not before so many rows.", unit="rows", ge=1)
    delta: float = setting(0.005, "Deviation a row is allowed for free.", ge=0)
    threshold: float | None = setting(
        None, "Alarms when the sum has moved this far from its extreme; null: from drift.false_alarm_rows.", gt=0
    )
    alpha: float = setting(0.9999, "What is kept of the sum from one row to the next.", gt=0, le=1)
    direction: Direction = setting(Direction.BOTH, "`up` alarms only when the error rises, not when the model gets better.")


class PageHinkley:
    """Constant memory; starts again after an alarm. The rows of its alarms are River's.

    Where no threshold is set by hand and `rows_between_alarms` is given, the threshold follows the spread that a signal of 0
    and 1 with this mean has. The faded sum of a still signal is an Ornstein-Uhlenbeck process with 1 / (1 - alpha) rows of
    memory, of which the alarm looks at the range: over K memories that is about 2 sqrt(2 log K) standard deviations. Without
    fading it is a random walk with a drift (Siegmund, "Sequential Analysis", 1985, section 2).
    """

    def __init__(self, config: PageHinkleyConfig, rows_between_alarms: float | None = None) -> None:
        self._config = config
        self._rows_between = None if config.threshold is not None else rows_between_alarms
        self._threshold = PUBLISHED_THRESHOLD if config.threshold is None else config.threshold
        self.evidence: list[dict[str, float]] = []
        self._forget()

    def _limit(self) -> float:
        """The threshold at this row."""
        if self._rows_between is None:
            return self._threshold
        mean = min(1.0, max(0.0, (self._rows * self._mean + 1.0) / (self._rows + 2)))
        spread, alpha, free = sqrt(mean * (1.0 - mean)), self._config.alpha, self._config.delta
        rows = self._rows_between * (2 if self._config.direction is Direction.BOTH else 1)
        if alpha < 1:
            memories = rows * (1 - alpha)
            return spread / sqrt(2 * (1 - alpha)) * (2 * sqrt(2 * log(memories + 1)) - 0.6 if memories > 1 else 2.0)
        if free > 0:
            return spread**2 / (2 * free) * log(1 + 2 * rows * free**2 / spread**2) + spread
        return spread * sqrt(rows)

    def _forget(self) -> None:
        self._rows = 0
        self._mean = 0.0
        self._rise = self._fall = 0.0
        self._lowest_rise = self._highest_fall = 0.0  # set by the first row, whose deviation from its own mean is 0

    def update_many(self, values_N: np.ndarray) -> list[int]:
        config, alarms = self._config, list[int]()
        self.evidence = []
        limit = self._threshold
        watches_rise, watches_fall = config.direction is not Direction.DOWN, config.direction is not Direction.UP
        values: list[float] = np.asarray(values_N, dtype=np.float64).tolist()
        for i, value in enumerate(values):
            self._rows += 1
            self._mean += (1.0 / self._rows) * (value - self._mean)
            deviation = value - self._mean
            self._rise = config.alpha * self._rise + deviation - config.delta
            self._fall = config.alpha * self._fall + deviation + config.delta
            if self._rise < self._lowest_rise or self._rows == 1:
                self._lowest_rise = self._rise
            if self._fall > self._highest_fall or self._rows == 1:
                self._highest_fall = self._fall
            if self._rows < config.min_rows:
                continue
            if self._rows_between is not None:
                limit = self._limit()
            rise, fall = self._rise - self._lowest_rise, self._highest_fall - self._fall
            if (watches_rise and rise > limit) or (watches_fall and fall > limit):
                alarms.append(i)
                self.evidence.append({"mean": self._mean, "sum": rise if watches_rise and rise > limit else -fall})
                self._forget()
        return alarms

    def to_state(self) -> dict[str, Any]:
        return {
            "rows": self._rows,
            "mean": self._mean,
            "rise": self._rise,
            "fall": self._fall,
            "lowest_rise": self._lowest_rise,
            "highest_fall": self._highest_fall,
        }

    @classmethod
    def from_state(
        cls, config: PageHinkleyConfig, state: dict[str, Any], rows_between_alarms: float | None = None
    ) -> "PageHinkley":
        detector = cls(config, rows_between_alarms)
        detector._rows, detector._mean = state["rows"], state["mean"]
        detector._rise, detector._fall = state["rise"], state["fall"]
        detector._lowest_rise, detector._highest_fall = state["lowest_rise"], state["highest_fall"]
        return detector
