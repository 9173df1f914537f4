"""The memory of past regimes: what of them is kept, when one ends, and what a version has forgotten."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.learning.part import pack, unpack
from actors.learning.regime_memory import RegimeMemory, RegimesConfig


def add(memory, start, stop, label=0):
    row_N = np.arange(start, stop)
    memory.add(row_N, row_N[:, None].astype(np.float32), np.full(len(row_N), label))


def right_about(*labels):
    """A version that knows these labels and no others."""
    return lambda x_ND, y_N: float(np.isin(y_N, labels).mean())


def test_an_alarm_freezes_what_came_before_it_and_leaves_the_latest_rows_to_the_new_regime():
    memory = RegimeMemory(RegimesConfig(rows=64))
    add(memory, 0, 5_000, label=1)
    add(memory, 5_000, 5_400, label=2)
    assert memory.close(5_400)
    [past] = memory.to_json()["past"]
    assert (past["start"], past["stop"]) == (0, 4_400) and 40 < past["kept"] <= 64 and 4_000 < past["rows"] < 4_800
    assert memory.score(3, right_about(1)).forgetting is None, "nobody was scored before it"
    assert memory.to_json()["past"][0]["best"] == 1.0, "no row of the new regime is in the slice of the old"


def test_forgetting_is_how_far_a_version_lies_below_the_best_before_it():
    memory = RegimeMemory(RegimesConfig())
    add(memory, 0, 5_000, label=1)
    memory.score(1, right_about(1))  # while the regime lasts
    add(memory, 5_000, 6_000, label=2)
    memory.close(6_000)
    add(memory, 6_000, 10_000, label=2)
    memory.close(10_000)
    learned_both = memory.score(2, right_about(1, 2))
    assert (learned_both.count, learned_both.version, learned_both.forgetting) == (2, 2, 0.0)
    forgot = memory.score(3, right_about(2))
    assert forgot.worst > 0.9 and forgot.forgetting == pytest.approx(forgot.worst / 2)
    assert memory.score(3, right_about(2)) == forgot, "again is the same"
    assert memory.score(4, right_about(1, 2)).forgetting == 0.0
    assert [each["best_version"] for each in memory.to_json()["past"]] == [1, 2]


def test_a_regime_too_short_to_be_told_apart_goes_on():
    memory = RegimeMemory(RegimesConfig())
    assert not memory.close(0)
    add(memory, 0, 20)
    assert not memory.close(20) and memory.short == 1
    add(memory, 20, 2_000)
    assert memory.close(2_000) and memory.status().count == 1


def test_of_too_many_regimes_the_two_neighbours_with_the_fewest_rows_become_one():
    memory = RegimeMemory(RegimesConfig(count=3, rows=32))
    at = 0
    for label, rows in enumerate((9_000, 4_000, 4_500, 8_000)):
        add(memory, at, at + rows, label)
        at += rows
        memory.close(at)
        memory.validate()
    past = memory.to_json()["past"]
    assert len(past) == 3 and memory.merged == 1
    assert [each["kept"] <= 32 for each in past] == [True] * 3
    assert past[1]["start"] == past[0]["stop"] and past[1]["stop"] == past[2]["start"] and past[1]["rows"] > 7_000


def test_wide_rows_are_fewer():
    memory = RegimeMemory(RegimesConfig(count=1, bytes=2 * 4 * 1_000 * 50))
    memory.add(np.arange(500), np.zeros((500, 1_000), np.float32), np.zeros(500))
    assert memory.status().rows == 50


ROUNDS = st.lists(st.tuples(st.integers(1, 400), st.booleans(), st.booleans()), max_size=30)


@settings(max_examples=100, deadline=None)
@given(rounds=ROUNDS, cut=st.integers(1, 200))
def test_it_stays_within_its_bounds_and_does_not_care_how_rows_are_cut_or_whether_it_was_started_again(rounds, cut):
    config = RegimesConfig(count=2, rows=20)
    whole, parts = RegimeMemory(config), RegimeMemory(config)
    at = 0
    for version, (rows, is_alarm, is_scored) in enumerate(rounds):
        add(whole, at, at + rows, label=at % 3)
        for start in range(at, at + rows, cut):
            add(parts, start, min(start + cut, at + rows), label=at % 3)
        at += rows
        for memory in (whole, parts):
            if is_alarm:
                memory.close(at)
            if is_scored:
                memory.score(version, right_about(version % 3))
            memory.validate()
        again = RegimeMemory(config)
        again.restore(unpack(pack(parts.to_state())))
        parts = again
    assert parts.to_json() == whole.to_json()
    for one, other in zip(pack(whole.to_state()).arrays.values(), pack(parts.to_state()).arrays.values(), strict=True):
        np.testing.assert_array_equal(np.sort(one, axis=0), np.sort(other, axis=0))


@pytest.mark.parametrize("rows", [1_000, 50_000])
def test_the_sample_is_fair(rows):
    memory = RegimeMemory(RegimesConfig(rows=256))
    add(memory, 0, rows)
    memory.add(np.array([rows + 500]), np.zeros((1, 1), np.float32), np.zeros(1, np.int64))
    kept_N = memory.to_state()["present"]["row"]
    assert len(kept_N) == 256 and abs(kept_N.mean() / rows - 0.5) < 0.06
