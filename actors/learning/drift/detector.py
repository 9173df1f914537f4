"""What every drift detector of one number a row does, and the one place that makes them."""

from typing import Any, Protocol, assert_never

import numpy as np

from actors.learning.drift.adwin import Adwin, AdwinConfig
from actors.learning.drift.config import ScalarDetectorConfig
from actors.learning.drift.ddm import Ddm, DdmConfig
from actors.learning.drift.page_hinkley import PageHinkley, PageHinkleyConfig
from actors.learning.drift.river_detector import RiverConfig, RiverDetector
from actors.learning.drift.window_mean import WindowMean, WindowMeanConfig


class Detector(Protocol):
    """Watches one finite signal in row order; bounded memory; starts afresh after each alarm."""

    evidence: list[dict[str, float]]  # of each alarm of the last call: what it was raised on

    def update_many(self, values_N: np.ndarray) -> list[int]:
        """The indices into `values_N` at which it alarmed: the same as if they were fed one by one."""

    def to_state(self) -> dict[str, Any]:
        """All it knows; `make_detector` with it goes on as if nothing had happened."""


def make_detector(
    config: ScalarDetectorConfig, state: dict[str, Any] | None = None, rows_between_alarms: float | None = None
) -> Detector:
    """A fresh detector, or one that goes on from `state` (of a detector with the same config).

    What is not set by hand is as published, or, where the detector derives it as it goes, such that `rows_between_alarms` lie
    between two false alarms. Raises ConfigError for a detector of River's that cannot be had.
    """
    rows = rows_between_alarms
    match config:
        case AdwinConfig():
            return Adwin(config) if state is None else Adwin.from_state(config, state)
        case DdmConfig():
            return Ddm(config) if state is None else Ddm.from_state(config, state)
        case PageHinkleyConfig():
            return PageHinkley(config, rows) if state is None else PageHinkley.from_state(config, state, rows)
        case WindowMeanConfig():
            return WindowMean(config, rows) if state is None else WindowMean.from_state(config, state, rows)
        case RiverConfig():
            return RiverDetector(config) if state is None else RiverDetector.from_state(config, state)
    assert_never(config)
