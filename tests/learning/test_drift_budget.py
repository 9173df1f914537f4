"""The budget of false alarms: what detectors' settings leave open keeps it, whatever the error is."""

import numpy as np
import pytest

from actors.learning.drift.adwin import AdwinConfig
from actors.learning.drift.budget import within_budget
from actors.learning.drift.config import DriftConfig
from actors.learning.drift.ddm import DdmConfig
from actors.learning.drift.detector import make_detector
from actors.learning.drift.monitor import DriftMonitor
from actors.learning.drift.page_hinkley import PageHinkleyConfig
from actors.learning.drift.signal import Direction
from actors.learning.drift.window_mean import WindowMeanConfig

CONFIGS = [
    AdwinConfig(),
    AdwinConfig(direction=Direction.BOTH),
    DdmConfig(),
    PageHinkleyConfig(),
    PageHinkleyConfig(direction=Direction.UP),
    WindowMeanConfig(threshold="auto"),
]
EVERY_DETECTOR = pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.kind} {getattr(c, 'direction', '')}")


@EVERY_DETECTOR
@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_false_alarms_are_no_more_than_the_budget_allows(config, rate):
    budget, rows, runs = 20_000, 100_000, 3
    rng = np.random.default_rng(11)
    alarms = 0
    for _ in range(runs):
        detector = make_detector(within_budget(config, budget), rows_between_alarms=budget)
        error_N = (rng.random(rows) < rate).astype(float)
        alarms += len(detector.update_many(1.0 - error_N if config.kind == "window_mean" else error_N))
    assert alarms <= runs * rows / budget


@EVERY_DETECTOR
def test_an_error_that_leaps_up_is_noticed_soon_all_the_same(config):
    rng = np.random.default_rng(12)
    error_N = (rng.random(8000) < np.repeat([0.1, 0.5], [5000, 3000])).astype(float)
    detector = make_detector(within_budget(config, 1_000_000), rows_between_alarms=1_000_000)
    alarms = detector.update_many(1.0 - error_N if config.kind == "window_mean" else error_N)
    assert alarms and 5000 <= alarms[0] < 5600


def test_what_is_set_by_hand_stays():
    by_hand = [AdwinConfig(delta=0.1), DdmConfig(threshold=2, warm_up_rows=9), WindowMeanConfig()]
    assert [within_budget(config, 1e6) for config in by_hand] == by_hand
    assert within_budget(DdmConfig(threshold=2), 1e6) == DdmConfig(threshold=2, warm_up_rows=300)


def test_the_budget_is_shared_by_all_detectors():
    error_N = (np.random.default_rng(13).random(200_000) < 0.3).astype(float)
    row_N = np.arange(len(error_N))
    detectors = [{"kind": "adwin", "clock": clock} for clock in (16, 32, 64, 128)] + ["page_hinkley", "ddm"]
    monitor = DriftMonitor(DriftConfig(detectors=detectors, false_alarm_rows=20_000))
    assert len(monitor.take_scores(row_N, error_N, error_N)) <= 10
