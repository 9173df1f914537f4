"""The drift detectors: where they alarm, that they do so however they are fed, and that they can be saved."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from actors.learning.drift.adwin import Adwin, AdwinConfig
from actors.learning.drift.config import DriftConfig
from actors.learning.drift.ddm import DdmConfig
from actors.learning.drift.detector import make_detector
from actors.learning.drift.error_scale import ErrorScale
from actors.learning.drift.page_hinkley import PageHinkleyConfig
from actors.learning.drift.signal import Direction
from actors.learning.drift.window_mean import WindowMeanConfig

TWO_SIDED_ADWIN = AdwinConfig(direction=Direction.BOTH)
EAGER_ADWIN = AdwinConfig(direction=Direction.BOTH, delta=0.05, clock=1, max_buckets=3, min_window_rows=10, grace_rows=30)
RISING_PAGE_HINKLEY = PageHinkleyConfig(direction=Direction.UP, threshold=20, min_rows=100, alpha=0.999)
CONFIGS = [TWO_SIDED_ADWIN, EAGER_ADWIN, PageHinkleyConfig(), RISING_PAGE_HINKLEY, DdmConfig(), WindowMeanConfig()]
EVERY_DETECTOR = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)


def shifting(kind: str, seed: int) -> np.ndarray:
    """6,000 errors whose mean changes at 1,500, 3,000 and 4,500."""
    rng = np.random.default_rng(seed)
    level = np.repeat([0.1, 0.35, 0.15, 0.5], 1500)
    if kind == "bits":
        return (rng.random(6000) < level).astype(float)
    return np.clip(level + rng.normal(0, 0.15, 6000), 0, 1)


# The rows at which the detectors of River 0.26.1 alarm on the same streams.
RIVER = {
    ("bits", 0): ([1567, 3135, 4607], [1543, 3064, 4575], [1635, 3030, 4649], [1504, 4577, 5844], [1527, 4714]),
    ("bits", 1): ([1567, 3199, 4575], [1540, 3084, 4556], [1658, 3275, 4644], [1540, 4557], [39, 263, 1544, 4740]),
    ("bits", 2): ([1535, 3231, 4607], [1520, 3160, 4565], [1641, 3225, 4654], [1511, 4581, 5501], [89, 1524, 4718]),
    ("reals", 0): ([1567, 3103, 4543], [1531, 3059, 4526], [1723, 3347, 4653], [1563, 4561], [1599, 4696]),
    ("reals", 1): ([1567, 3071, 4543], [1526, 3042, 4520], [1724, 3292, 4654], [1567, 4554], [1704, 4700]),
    ("reals", 2): ([1567, 3071, 4543], [1532, 3042, 4525], [1737, 3320, 4667], [1580, 4566], [1607, 4707]),
}


@pytest.mark.parametrize("stream", RIVER, ids=str)
def test_alarms_come_at_the_rows_where_river_raises_them(stream):
    found = tuple(make_detector(config).update_many(shifting(*stream)) for config in CONFIGS[:5])
    assert found == RIVER[stream]


@EVERY_DETECTOR
@settings(max_examples=10)
@given(cuts=st.lists(st.integers(0, 6000), max_size=8), kind=st.sampled_from(["bits", "reals"]), seed=st.integers(0, 50))
def test_feeding_in_any_pieces_and_restoring_between_them_changes_nothing(config, cuts, kind, seed):
    values = shifting(kind, seed)
    whole = make_detector(config).update_many(values)
    detector, found, start = make_detector(config), [], 0
    for stop in [*sorted(cuts), 6000]:
        found += [start + i for i in detector.update_many(values[start:stop])]
        detector = make_detector(config, json.loads(json.dumps(detector.to_state(), allow_nan=False)))
        start = stop
    assert found == whole


@EVERY_DETECTOR
def test_feeding_one_by_one_is_the_same_as_all_at_once(config):
    values = shifting("bits", 3)
    detector = make_detector(config)
    assert [i for i in range(6000) if detector.update_many(values[i : i + 1])] == make_detector(config).update_many(values)


@EVERY_DETECTOR
def test_an_error_that_leaps_up_is_noticed_soon(config):
    error = np.repeat([0.05, 0.7], 2000) > np.random.default_rng(4).random(4000)
    alarms = make_detector(config).update_many(1.0 - error if config.kind == "window_mean" else error)
    assert any(2000 <= row < 2300 for row in alarms)


@pytest.mark.parametrize(
    "config",
    [
        AdwinConfig(direction=Direction.UP),
        PageHinkleyConfig(direction=Direction.UP),
        DdmConfig(warm_up_rows=300),
        WindowMeanConfig(threshold=0.25),
    ],
    ids=lambda config: config.kind,
)
def test_a_one_sided_detector_keeps_quiet_when_the_error_falls(config):
    error = np.repeat([0.7, 0.05], 2000) > np.random.default_rng(5).random(4000)
    assert make_detector(config).update_many(1.0 - error if config.kind == "window_mean" else error) == []


def test_adwin_told_to_watch_one_direction_still_forgets_the_rows_before_the_other():
    error = (np.repeat([0.7, 0.05], 2000) > np.random.default_rng(5).random(4000)).astype(float)
    detector = Adwin(AdwinConfig(direction=Direction.UP))
    detector.update_many(error)
    assert detector.width <= 2000


@EVERY_DETECTOR
@pytest.mark.parametrize("value", [0.0, 1.0, 0.3])
def test_a_constant_error_never_alarms(config, value):
    assert make_detector(config).update_many(np.full(5000, value)) == []


def test_adwin_holds_a_long_quiet_window_in_a_few_buckets():
    detector = Adwin(TWO_SIDED_ADWIN)
    detector.update_many((np.random.default_rng(1).random(200_000) < 0.2).astype(float))
    assert detector.width > 100_000
    assert sum(len(level) for level in detector.to_state()["levels"]) <= 6 * 18


def test_window_mean_alarms_at_the_first_row_whose_two_windows_differ_by_more_than_the_threshold():
    score = np.repeat([1.0, 0.0], [300, 100])
    assert make_detector(WindowMeanConfig(threshold=0.055)).update_many(score) == [305]


def test_the_default_is_one_adwin_and_a_kind_alone_means_its_defaults():
    assert DriftConfig().detectors == (AdwinConfig(),)
    assert DriftConfig.model_validate({"detectors": ["ddm", {"kind": "window_mean", "window_rows": 50}]}).detectors == (
        DdmConfig(),
        WindowMeanConfig(window_rows=50),
    )


@pytest.mark.parametrize(
    "detectors",
    [
        [{"kind": "adwin", "dleta": 0.1}],
        [{"kind": "ddm", "clock": 32}],
        [{"kind": "adwind"}],
        [{"delta": 0.1}],
        [{"kind": "adwin", "delta": 0}],
    ],
)
def test_a_detector_with_a_wrong_key_kind_or_value_is_refused(detectors):
    with pytest.raises(ValidationError):
        DriftConfig.model_validate({"detectors": detectors})


def test_regression_errors_are_scaled_by_the_spread_of_the_labels_whatever_these_are_measured_in():
    rng = np.random.default_rng(2)
    label, error = rng.normal(50, 4, 3000), rng.normal(0, 1, 3000)
    row, scaled = ErrorScale().scale(error, label)
    thousandfold_row, thousandfold = ErrorScale().scale(error * 1000, label * 1000)
    assert row.tolist() == thousandfold_row.tolist() == list(range(30, 3000))
    assert scaled == pytest.approx(thousandfold)
    assert scaled[1000:] == pytest.approx(np.abs(error[1030:]) / 4, rel=0.1)
    assert scaled.max() <= 1


def test_an_estimate_that_is_not_a_number_counts_as_the_largest_error():
    label = np.tile([-1.0, 1.0], 17)
    row, scaled = ErrorScale().scale(np.concatenate([np.ones(30), [np.nan, np.inf, 0.25, 0.0]]), label)
    assert row.tolist() == [30, 31, 32, 33]
    assert scaled == pytest.approx([1.0, 1.0, 0.25, 0.0])


def test_labels_that_never_vary_make_every_error_the_largest():
    assert ErrorScale().scale(np.array([0.0] * 31 + [0.1]), np.full(32, 7.0))[1].tolist() == [0.0, 1.0]


def test_errors_scale_alike_in_any_pieces():
    error, label = np.random.default_rng(6).exponential(2.0, (2, 500))
    whole = ErrorScale().scale(error, label)[1]
    pieces = ErrorScale()
    cuts = [7, 31, 200]
    found = [pieces.scale(*parts)[1] for parts in zip(np.split(error, cuts), np.split(label, cuts), strict=True)]
    assert np.concatenate(found).tolist() == whole.tolist()
