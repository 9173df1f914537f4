"""DDM: alarms when the error rate has risen three standard deviations above the best it has been.

Gama, Medas, Castillo and Rodrigues, "Learning with Drift Detection", SBIA 2004.
"""

from math import sqrt
from typing import Any, Literal

import numpy as np

from actors.learning.drift.signal import Signal
from actors.learning.section import Section, setting

PUBLISHED_WARM_UP_ROWS, PUBLISHED_THRESHOLD = 30, 3.0


class DdmConfig(Section):
    kind: Literal["ddm"] = setting("ddm", "Drift detection method: the error rate against the lowest it has been.")
    signal: Literal[Signal.ERROR, Signal.LOSS, Signal.PREDICTIONS] = setting(Signal.ERROR, "What it watches.")
    warm_up_rows: int | None = setting(
        None, "Alarms not before so many rows; null: from drift.false_alarm_rows.", unit="rows", ge=1
    )
    threshold: float | None = setting(
        None,
        "Alarms so many standard deviations above the lowest error rate; null: from drift.false_alarm_rows.",
        gt=0,
    )


class Ddm:
    """Constant memory; one-sided: a falling error never alarms. Starts again after an alarm, at River's rows.

    For values between 0 and 1 that are not all 0 or 1 (scaled regression errors) the binomial standard deviation is an
    upper bound, so it alarms later, never more often.
    """

    def __init__(self, config: DdmConfig) -> None:
        self._warm_up = PUBLISHED_WARM_UP_ROWS if config.warm_up_rows is None else config.warm_up_rows
        self._threshold = PUBLISHED_THRESHOLD if config.threshold is None else config.threshold
        self.evidence: list[dict[str, float]] = []
        self._forget()

    def _forget(self) -> None:
        self._rows = 0
        self._rate = 0.0
        self._best: tuple[float, float] | None = None  # rate and standard deviation where their sum was lowest

    def update_many(self, values_N: np.ndarray) -> list[int]:
        warm_up, threshold = self._warm_up, self._threshold
        alarms: list[int] = []
        self.evidence = []
        values: list[float] = np.asarray(values_N, dtype=np.float64).tolist()
        for i, value in enumerate(values):
            self._rows += 1
            self._rate += (1.0 / self._rows) * (value - self._rate)
            if self._rows <= warm_up:
                continue
            rate = self._rate
            deviation = sqrt(max(rate * (1 - rate), 0.0) / self._rows)
            if self._best is None or rate + deviation <= self._best[0] + self._best[1]:
                self._best = (rate, deviation)
            if rate + deviation > self._best[0] + threshold * self._best[1]:
                alarms.append(i)
                self.evidence.append({"before": self._best[0], "after": rate})
                self._forget()
        return alarms

    def to_state(self) -> dict[str, Any]:
        return {"rows": self._rows, "rate": self._rate, "best": list(self._best) if self._best else None}

    @classmethod
    def from_state(cls, config: DdmConfig, state: dict[str, Any]) -> "Ddm":
        detector = cls(config)
        detector._rows, detector._rate = state["rows"], state["rate"]
        detector._best = (state["best"][0], state["best"][1]) if state["best"] else None
        return detector
