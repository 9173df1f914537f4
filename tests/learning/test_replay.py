import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.learning.replay import ReplayConfig, ReplayMemory


def memory(strategy="fifo", rows=10, size=10**9, seed=0):
    return ReplayMemory(strategy, rows, size, np.random.default_rng(seed))


def offer(held, numbers, width=2):
    numbers = np.asarray(numbers)
    held.add(np.repeat(numbers[:, None], width, axis=1).astype(np.float32), numbers.astype(np.int64))


def contents(held):
    return held.to_state(whole=True)["y"].tolist()


@given(st.lists(st.integers(1, 25), min_size=1, max_size=8))
def test_fifo_keeps_the_latest_rows_however_they_arrive(batches):
    held, at = memory(rows=10), 0
    for size in batches:
        offer(held, range(at, at + size))
        at += size
    assert sorted(contents(held)) == list(range(max(0, at - 10), at))


def test_reservoir_keeps_every_row_with_the_same_probability():
    rows, capacity, runs = 200, 20, 1500
    kept_N = np.zeros(rows)
    for seed in range(runs):
        held = memory("reservoir", capacity, seed=seed)
        for start in range(0, rows, 30):
            offer(held, range(start, min(start + 30, rows)))
        kept_N[contents(held)] += 1
    expected = runs * capacity / rows
    chi_square = ((kept_N - expected) ** 2 / (expected * (1 - capacity / rows))).sum()
    assert chi_square < 267  # 0.999 quantile of chi-square with 199 degrees of freedom


@pytest.mark.parametrize("strategy", ["fifo", "reservoir"])
def test_features_stay_with_their_labels(strategy):
    held = memory(strategy, 50)
    for start in range(0, 500, 37):
        offer(held, range(start, start + 37))
    x, y = held.sample(200)
    np.testing.assert_array_equal(x[:, 0], y)
    np.testing.assert_array_equal(x[:, 1], y)


@pytest.mark.parametrize("strategy", ["fifo", "reservoir"])
def test_it_obeys_the_tighter_of_its_two_bounds(strategy):
    held = memory(strategy, rows=10**6, size=16_000)  # a row takes 16 bytes
    for start in range(0, 20_000, 500):
        offer(held, range(start, start + 500))
        assert held.nbytes <= 16_000
    assert len(held) == 1000


def test_a_capacity_below_one_row_is_refused_with_the_key_to_turn():
    with pytest.raises(ValueError, match=r"replay\.capacity_bytes"):
        offer(memory(size=8), [1])


def test_an_empty_memory_gives_no_rows():
    x, y = memory().sample(5)
    assert len(x) == len(y) == 0


@pytest.mark.parametrize("strategy", ["fifo", "reservoir"])
def test_a_restored_memory_continues_exactly(strategy):
    one, other = memory(strategy, 20, seed=1), memory(strategy, 20, seed=99)
    offer(one, range(70))
    other.restore([one.to_state(whole=True)])
    for held in (one, other):
        offer(held, range(70, 90))
    assert contents(one) == contents(other)
    np.testing.assert_array_equal(one.sample(9)[1], other.sample(9)[1])


@pytest.mark.parametrize("strategy", ["fifo", "reservoir"])
@given(batches=st.lists(st.integers(0, 30), min_size=1, max_size=10))
def test_changes_one_after_another_give_the_whole(strategy, batches):
    one, at, states = memory(strategy, 20, seed=1), 0, []
    for size in batches:
        offer(one, range(at, at + size))
        states.append(one.to_state(whole=not states))
        at += size
    other = memory(strategy, 20, seed=99)
    offer(other, range(1_000, 1_005))
    other.restore(states)
    assert all(len(state["slots"]) <= size for state, size in zip(states[1:], batches[1:], strict=True))
    assert contents(other) == contents(one) and other.seen == one.seen
    np.testing.assert_array_equal(one.sample(9)[1], other.sample(9)[1])


def test_a_memory_of_another_capacity_takes_the_rows_anew():
    one, other = memory(rows=20), memory(rows=8)
    offer(one, range(20))
    other.restore([one.to_state(whole=True)])
    assert sorted(contents(other)) == list(range(12, 20))


@pytest.mark.parametrize(("rows", "shards"), [(5000, 1), (5000, 3), (7, 4)])
def test_the_shards_capacities_add_up(rows, shards):
    config = ReplayConfig(capacity_rows=rows, shards=shards)
    assert sum(config.capacity_of_shard(shard)[0] for shard in range(shards)) == rows
