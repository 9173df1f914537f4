"""A detector of River's behind our interface: what it remembers, how it is restored, what is said where it cannot be had."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from actors.errors import ConfigError
from actors.learning.drift.adwin import AdwinConfig
from actors.learning.drift.config import DriftConfig
from actors.learning.drift.ddm import DdmConfig
from actors.learning.drift.detector import make_detector
from actors.learning.drift.monitor import DriftMonitor
from actors.learning.drift.page_hinkley import PageHinkleyConfig
from actors.learning.drift.river_detector import RiverConfig
from actors.learning.drift.signal import Direction
from actors.learning.part import pack, unpack

IS_INSTALLED = importlib.util.find_spec("river") is not None
WITHOUT = pytest.mark.skipif(IS_INSTALLED, reason="River is installed")
WITH = pytest.mark.skipif(not IS_INSTALLED, reason="River is not installed")

# A detector as River has them: it alarms when the mean of all it has seen exceeds `limit`, by then it wants `least` values.
STANDING_IN = """
class Mean:
    def __init__(self, limit=0.5, least=10):
        if limit <= 0:
            raise ValueError("limit must be positive")
        self._limit, self._least, self._sum, self._n = limit, least, 0.0, 0

    @property
    def drift_detected(self):
        return self._n >= self._least and self._sum / self._n > self._limit

    def update(self, x):
        self._sum, self._n = self._sum + x, self._n + 1


class Nothing:
    def update(self, x):
        pass
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A package `river` with one detector in it."""
    if IS_INSTALLED:
        pytest.skip("River itself is installed")
    (tmp_path / "river").mkdir()
    (tmp_path / "river/__init__.py").write_text("")
    (tmp_path / "river/drift.py").write_text(STANDING_IN)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "river"]:
        del sys.modules[name]


def mean(**settings) -> RiverConfig:
    return RiverConfig(detector="river.drift.Mean", **settings)


@WITHOUT
def test_without_river_it_is_said_what_to_install():
    with pytest.raises(
        ConfigError, match=r"'river.drift.KSWIN' cannot be used: River is not installed: pip install 'perennial"
    ):
        make_detector(RiverConfig())


@pytest.mark.parametrize("path", ["os.system", "riverside.drift.X", "river", "river.drift.X()"])
def test_nothing_but_river_can_be_named(path):
    with pytest.raises(ValueError, match="pattern"):
        RiverConfig(detector=path)


def test_what_river_does_not_have_or_takes_no_such_settings_is_refused(stand_in):
    for config, match in (
        (RiverConfig(detector="river.drift.Meen"), "has no attribute 'Meen'"),
        (RiverConfig(detector="river.nothing.X"), "No module named 'river.nothing'"),
        (mean(settings={"limit": -1}), "refuses its settings {'limit': -1}: limit must be positive"),
        (mean(settings={"limits": 1}), "unexpected keyword"),
        (RiverConfig(detector="river.drift.Nothing"), "is no drift detector"),
    ):
        with pytest.raises(ConfigError, match=match):
            make_detector(config)


def test_it_alarms_where_the_detector_does_and_starts_afresh(stand_in):
    values = np.repeat([0.0, 1.0], [20, 36])
    assert make_detector(mean(settings={"least": 5})).update_many(values) == [40, 45, 50, 55]


def test_it_remembers_no_more_than_its_memory_and_no_less_than_half(stand_in):
    config = mean(memory_rows=100)
    assert make_detector(config).update_many(np.repeat([0.0, 1.0], [900, 60])) == [950]
    everything = make_detector(mean(memory_rows=100_000))
    assert everything.update_many(np.repeat([0.0, 1.0], [900, 900])) == []


def test_restored_anywhere_it_goes_on_as_if_nothing_had_happened(stand_in):
    config, values = mean(memory_rows=100, settings={"limit": 0.4}), np.random.default_rng(0).random(2000) ** 2
    whole = make_detector(config).update_many(values)
    assert whole
    detector, found = make_detector(config), []
    for start in range(0, 2000, 37):
        found += [start + i for i in detector.update_many(values[start : start + 37])]
        detector = make_detector(config, unpack(pack(detector.to_state())))
    assert found == whole


def test_an_alarm_bears_the_detectors_path(stand_in):
    monitor = DriftMonitor(DriftConfig(detectors=[{"kind": "river", "detector": "river.drift.Mean"}]))
    error_N = np.ones(50)
    assert monitor.take_scores(np.arange(50), error_N, error_N)[0].detector == "river.drift.Mean"


@WITH
@pytest.mark.parametrize(
    "config",
    [
        RiverConfig(detector="river.drift.ADWIN"),
        RiverConfig(detector="river.drift.KSWIN", settings={"seed": 1, "alpha": 1e-4}),
        RiverConfig(detector="river.drift.PageHinkley", settings={"threshold": 20}, memory_rows=500),
        RiverConfig(detector="river.drift.binary.DDM"),
    ],
    ids=lambda config: config.detector,
)
def test_rivers_own_alarm_after_a_change_and_are_restored_exactly(config):
    values = (np.random.default_rng(3).random(3000) < np.repeat([0.1, 0.6], 1500)).astype(float)
    whole = make_detector(config).update_many(values)
    assert any(1500 <= row < 1800 for row in whole)
    detector, found = make_detector(config), []
    for start in range(0, 3000, 250):
        found += [start + i for i in detector.update_many(values[start : start + 250])]
        detector = make_detector(config, unpack(pack(detector.to_state())))
    assert found == whole


@WITH
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("ours", "rivers"),
    [
        (AdwinConfig(direction=Direction.BOTH), RiverConfig(detector="river.drift.ADWIN")),
        (PageHinkleyConfig(), RiverConfig(detector="river.drift.PageHinkley")),
        (DdmConfig(), RiverConfig(detector="river.drift.binary.DDM")),
    ],
    ids=lambda config: config.kind,
)
def test_our_own_alarm_at_the_very_rows_of_rivers(ours, rivers, seed):
    rng = np.random.default_rng(seed)
    level_N = np.repeat(rng.random(6), 1500) * 0.6
    values = (rng.random(9000) < level_N).astype(float)
    found = make_detector(ours).update_many(values)
    assert found == make_detector(rivers).update_many(values) and found
