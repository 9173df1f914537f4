"""Page-Hinkley: a cumulative sum of deviations from the running mean that forgets slowly.

Page, "Continuous Inspection Schemes", Biometrika 41, 1954; with the fading factor of Sebastiao and Fernandes,
"Supporting the Page-Hinkley Test with Empirical Mode Decomposition for Change Detection", ISMIS 2017.
"""

from typing import Any, ClassVar, Literal

import numpy as np

from actors.learning.drift.signal import Direction, Signal
from actors.learning.section import Section, setting


class PageHinkleyConfig(Section):
    signal: ClassVar[Signal] = Signal.ERROR

    kind: Literal["page_hinkley"] = setting("page_hinkley", "Page-Hinkley: adds up how far the error stays off its mean.")
    min_rows: int = setting(30, "Alarms not before so many rows.", unit="rows", ge=1)
    delta: float = setting(0.005, "Deviation a row is allowed for free.", ge=0)
    threshold: float = setting(50.0, "Alarms when the sum has moved this far from its extreme.", gt=0)
    alpha: float = setting(0.9999, "What is kept of the sum from one row to the next.", gt=0, le=1)
    direction: Direction = setting(Direction.BOTH, "`up` alarms only when the error rises, not when the model gets better.")


class PageHinkley:
    """Constant memory; starts again after an alarm. The rows of its alarms are River's."""

    def __init__(self, config: PageHinkleyConfig) -> None:
        self._config = config
        self._forget()

    def _forget(self) -> None:
        self._rows = 0
        self._mean = 0.0
        self._rise = self._fall = 0.0
        self._lowest_rise = self._highest_fall = 0.0  # set by the first row, whose deviation from its own mean is 0

    def update_many(self, values_N: np.ndarray) -> list[int]:
        config, alarms = self._config, []
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
            if self._rows >= config.min_rows and (
                (watches_rise and self._rise - self._lowest_rise > config.threshold)
                or (watches_fall and self._highest_fall - self._fall > config.threshold)
            ):
                alarms.append(i)
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
    def from_state(cls, config: PageHinkleyConfig, state: dict[str, Any]) -> "PageHinkley":
        detector = cls(config)
        detector._rows, detector._mean = state["rows"], state["mean"]
        detector._rise, detector._fall = state["rise"], state["fall"]
        detector._lowest_rise, detector._highest_fall = state["lowest_rise"], state["highest_fall"]
        return detector
