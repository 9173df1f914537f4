"""ADWIN: a window that grows while its mean holds still, and alarms when two parts of it disagree.

Bifet and Gavalda, "Learning from Time-Changing Data with Adaptive Windowing", SDM 2007 (ADWIN2, section 3.2).
"""

from math import log, sqrt
from typing import Any, Literal

import numpy as np

from actors.learning.drift.signal import Direction, Signal
from actors.learning.section import Section, setting

PUBLISHED_DELTA = 0.002  # and River's


class AdwinConfig(Section):
    kind: Literal["adwin"] = setting("adwin", "Adaptive windowing: compares every older part of a window with the rest.")
    signal: Literal[Signal.ERROR, Signal.SCORE, Signal.LOSS, Signal.PREDICTIONS] = setting(Signal.ERROR, "What it watches.")
    delta: float | None = setting(
        None,
        "Bound on the chance of a false alarm at one look; smaller alarms later and more seldom. "
        "null: from drift.false_alarm_rows.",
        gt=0,
        lt=1,
    )
    clock: int = setting(32, "Looks for a change once in so many rows.", unit="rows", ge=1)
    max_buckets: int = setting(5, "Buckets of each size; more find a change's row more exactly and cost more.", ge=2)
    min_window_rows: int = setting(5, "Neither part of the window may be smaller than this.", unit="rows", ge=1)
    grace_rows: int = setting(10, "Looks for no change before so many rows.", unit="rows", ge=1)
    direction: Direction = setting(Direction.UP, "`up` alarms when the error rises; `both`, as published, also when it falls.")


class Adwin:
    """Sums of 2^level values each, at most `max_buckets` a level: O(log n) memory for a window of n values.

    As in River's ADWIN, the window starts again from nothing after a cut, where the paper drops its older part only:
    the rows of the alarms are River's, to the bit, for any stream. Nothing is ever removed from the middle, so the
    buckets need no variances of their own; the window's is kept with Welford's update.
    """

    def __init__(self, config: AdwinConfig) -> None:
        self._config, self._delta = config, PUBLISHED_DELTA if config.delta is None else config.delta
        self.evidence: list[dict[str, float]] = []
        self._forget()

    def _forget(self) -> None:
        self._levels: list[list[float]] = [[]]  # oldest sum first in each; level i holds sums of 2^i values
        self._width = 0
        self._total = 0.0
        self._squares = 0.0  # sum of squared deviations from the mean

    @property
    def width(self) -> int:
        """Values in the window."""
        return self._width

    def update_many(self, values_N: np.ndarray) -> list[int]:
        alarms: list[int] = []
        self.evidence = []
        clock = self._config.clock
        values: list[float] = np.asarray(values_N, dtype=np.float64).tolist()
        at = 0
        while at < len(values):
            stop = min(len(values), at + clock - self._width % clock)
            self._insert(values[at:stop])
            at = stop
            is_look = self._width % clock == 0 and self._width > self._config.grace_rows
            if is_look and (cut := self._cut()) is not None:
                self._forget()
                before, after = cut
                if self._config.direction in (Direction.BOTH, Direction.UP if after > before else Direction.DOWN):
                    alarms.append(at - 1)
                    self.evidence.append({"before": before, "after": after})
        return alarms

    def _insert(self, values: list[float]) -> None:
        width, total, squares, levels = self._width, self._total, self._squares, self._levels
        full, newest = self._config.max_buckets + 1, levels[0]
        for value in values:
            if width:
                deviation = value - total / width
                squares += width * deviation * deviation / (width + 1)
            width += 1
            total += value
            newest.append(value)
            if len(newest) == full:
                self._compress(full)
        self._width, self._total, self._squares = width, total, squares

    def _compress(self, full: int) -> None:
        levels = self._levels
        for i, level in enumerate(levels):
            if len(level) < full:
                return
            if i + 1 == len(levels):
                levels.append([])
            levels[i + 1].append(level[0] + level[1])
            del level[:2]

    def _cut(self) -> tuple[float, float] | None:
        """The means of the older and the newer part at the first cut, oldest first, whose bound is passed; None without one."""
        n, least = self._width, self._config.min_window_rows
        confidence = log(2 * log(n) / self._delta)
        variance, linear = self._squares / n, 2 / 3 * confidence
        older_n, newer_n, older, newer = 0, n, 0.0, self._total
        for i in range(len(self._levels) - 1, -1, -1):
            size = 1 << i
            for total in self._levels[i]:
                older_n += size
                newer_n -= size
                older += total
                newer -= total
                if newer_n < least:
                    return None
                if older_n < least:
                    continue
                gap = older / older_n - newer / newer_n
                m = 1.0 / (older_n - least + 1) + 1.0 / (newer_n - least + 1)
                distance = abs(gap)
                # the bound of eq. 3.1 has two terms; most cuts fail the cheap one
                if distance > linear * m and distance > sqrt(2 * m * variance * confidence) + linear * m:
                    return older / older_n, newer / newer_n
        return None

    def to_state(self) -> dict[str, Any]:
        return {
            "levels": [list(level) for level in self._levels],
            "width": self._width,
            "total": self._total,
            "squares": self._squares,
        }

    @classmethod
    def from_state(cls, config: AdwinConfig, state: dict[str, Any]) -> "Adwin":
        adwin = cls(config)
        adwin._levels = [list(level) for level in state["levels"]]
        adwin._width, adwin._total, adwin._squares = state["width"], state["total"], state["squares"]
        return adwin
