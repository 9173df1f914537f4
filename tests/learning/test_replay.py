import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.learning.experience.part import ShardPart
from actors.learning.experience.sum_tree import SumTree
from actors.learning.part import pack, unpack
from actors.learning.replay import ReplayMemory

STRATEGIES = ["fifo", "reservoir", "class_balanced", "prioritized"]


def memory(strategy="fifo", rows=10, size=10**9, seed=0, shard=0, shards=1, **options):
    return ReplayMemory(strategy, rows, size, np.random.default_rng(seed), ShardPart(shard, shards), **options)


def offer(held, numbers, width=2, classes=None):
    """Rows whose features tell their number; the label is the number, or the number's class."""
    numbers = np.asarray(numbers)
    labels = numbers if classes is None else numbers % classes
    held.add(np.repeat(numbers[:, None], width, axis=1).astype(np.float32), labels.astype(np.int64))


def contents(held):
    return held.to_state(whole=True)["x"][:, 0].astype(int).tolist() if len(held) else []


def all_contents(shards):
    return [number for each in shards for number in contents(each)]


def chi_square(kept_N, expected, capacity):
    """Of inclusion counts: each row is in with the same probability, and the number in is fixed."""
    return ((kept_N - expected) ** 2 / (expected * (1 - capacity / len(kept_N)))).sum()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 25), min_size=1, max_size=8))
def test_fifo_keeps_the_latest_rows_however_they_arrive(batches):
    held, at = memory(rows=10), 0
    for size in batches:
        offer(held, range(at, at + size))
        at += size
    assert sorted(contents(held)) == list(range(max(0, at - 10), at))


@pytest.mark.parametrize("shards", [1, 4])
def test_shards_together_are_one_uniform_sample_however_uneven_the_batches_and_whatever_restarts(shards):
    rows, capacity, runs = 200, 20, 300
    kept_N = np.zeros(rows)
    for seed in range(runs):
        held = [memory("reservoir", capacity, seed=seed, shard=shard, shards=shards) for shard in range(shards)]
        for at, start in enumerate(range(0, rows, 30)):
            for each in held:
                offer(each, range(start, min(start + 30, rows)))
            if at == 3:  # one of them dies, and becomes what it was
                states = [unpack(pack(held[-1].to_state(whole=True)))]
                held[-1] = memory("reservoir", capacity, seed=10**6, shard=shards - 1, shards=shards)
                held[-1].restore([states])
        assert [len(each) for each in held] == [capacity // shards] * shards
        kept_N[all_contents(held)] += 1
    assert kept_N.sum() == runs * capacity
    # 0.999 quantile of chi-square with 199 degrees of freedom
    assert chi_square(kept_N, runs * capacity / rows, capacity) < 267


@pytest.mark.parametrize(("before", "after"), [((24, 4), (24, 3)), ((24, 2), (12, 4)), ((12, 3), (24, 2))])
def test_a_reservoir_stays_a_uniform_sample_when_shards_or_capacity_change(before, after):
    rows, runs = 160, 300
    kept_N, held_rows = np.zeros(rows), 0
    for seed in range(runs):
        old = [memory("reservoir", before[0], seed=seed, shard=shard, shards=before[1]) for shard in range(before[1])]
        for each in old:
            offer(each, range(0, 80))
        chains = [[each.to_state(whole=True)] for each in old]
        new = [memory("reservoir", after[0], seed=10**6 + seed, shard=shard, shards=after[1]) for shard in range(after[1])]
        for each in new:
            each.restore(chains)
            offer(each, range(80, 100))
            offer(each, range(100, 160))
        held = all_contents(new)
        assert len(set(held)) == len(held) <= after[0]
        held_rows += len(held)
        kept_N[held] += 1
    # A memory that was given more room fills it at the rate that it had, so how many it holds varies a little.
    assert chi_square(kept_N, held_rows / rows, after[0]) < 230  # 0.9998 quantile with 159 degrees of freedom


@pytest.mark.parametrize("strategy", ["fifo", "prioritized"])
@settings(deadline=None, max_examples=50)
@given(batches=st.lists(st.integers(1, 60), min_size=1, max_size=8), shards=st.integers(1, 4))
def test_shards_together_hold_the_latest_rows_exactly(strategy, batches, shards):
    held, at = [memory(strategy, 40, shard=shard, shards=shards) for shard in range(shards)], 0
    for size in batches:
        for each in held:
            offer(each, range(at, at + size))
        at += size
    assert sorted(all_contents(held)) == list(range(max(0, at - 40), at))


def test_every_class_gets_the_same_room_whenever_it_appears():
    held = memory("class_balanced", 60)
    rng = np.random.default_rng(1)
    sizes = []
    for classes in (1, 2, 3, 7):
        for _ in range(40):
            held.add(np.zeros((25, 2), np.float32), rng.integers(classes, size=25))
        sizes.append(np.bincount(held.to_state(whole=True)["y"]).tolist())
    assert sizes == [[60], [30, 30], [20, 20, 20], [9, 9, 9, 9, 8, 8, 8]]


def test_a_rare_class_keeps_all_its_rows_and_leaves_the_rest_of_its_room_to_the_others():
    held = memory("class_balanced", 60)
    labels = np.zeros(3000, np.int64)
    labels[::300] = 2
    labels[1::2] = 1
    for start in range(0, 3000, 70):
        held.add(np.arange(start, min(start + 70, 3000), dtype=np.float32)[:, None], labels[start : start + 70])
    assert np.bincount(held.to_state(whole=True)["y"]).tolist() == [25, 25, 10]
    assert set(range(0, 3000, 300)) <= set(contents(held))


@pytest.mark.parametrize("shards", [1, 4])
def test_within_a_class_every_row_is_kept_with_the_same_probability(shards):
    rows, capacity, runs = 240, 24, 300
    kept_N = np.zeros(rows)
    for seed in range(runs):
        held = [memory("class_balanced", capacity, seed=seed, shard=shard, shards=shards) for shard in range(shards)]
        for start in range(0, rows, 50):
            for each in held:
                offer(each, range(start, min(start + 50, rows)), classes=3)
        assert np.bincount(np.array(all_contents(held)) % 3).tolist() == [8, 8, 8]
        kept_N[all_contents(held)] += 1
    assert chi_square(kept_N, runs * capacity / rows, capacity) < 314  # 0.999 quantile with 239 degrees of freedom


@pytest.mark.parametrize("shards", [2, 3])
def test_a_stream_that_deals_its_classes_in_turn_gives_every_shard_all_of_them(shards):
    held = [memory("class_balanced", 36, shard=shard, shards=shards) for shard in range(shards)]
    for each in held:
        for start in range(0, 600, 60):
            offer(each, range(start, start + 60), classes=shards)
    assert all(len(np.unique(np.array(contents(each)) % shards)) == shards for each in held)


def test_rows_are_drawn_in_proportion_to_their_priority_and_weighted_back():
    held = memory("prioritized", 1000)
    offer(held, range(1000))
    drawn = held.sample(1000)
    assert sorted(drawn.slot_N) == list(range(1000)), "all rows have the same priority at first, each has its part of the sum"
    loss_N = np.where(drawn.number_N < 100, 2.0, 0.01).astype(np.float32)
    held.hear_losses(drawn.slot_N, drawn.number_N, loss_N)
    counts_N = np.bincount(np.concatenate([held.sample(500).number_N for _ in range(200)]), minlength=1000)
    high, low = 2.0**0.6, 0.01**0.6
    total = 100 * high + 900 * low
    np.testing.assert_allclose(counts_N[:100].mean(), 100_000 * high / total, rtol=0.01)
    np.testing.assert_allclose(counts_N[100:].mean(), 100_000 * low / total, rtol=0.05)
    assert counts_N[:100].min() > 0.85 * 100_000 * high / total
    again = held.sample(500)
    is_high_N = again.number_N < 100
    np.testing.assert_allclose(again.weight_N[~is_high_N], 1.0, rtol=1e-5)
    np.testing.assert_allclose(again.weight_N[is_high_N], (high / low) ** -0.4, rtol=1e-3)


def test_the_loss_of_a_row_that_has_given_way_changes_nothing():
    held = memory("prioritized", 10)
    offer(held, range(10))
    drawn = held.sample(10)
    offer(held, range(10, 20))
    held.hear_losses(drawn.slot_N, drawn.number_N, np.full(10, 1e-9))
    assert sorted(held.sample(10).number_N) == list(range(10, 20))


def test_logits_come_back_with_the_row_that_they_were_said_of():
    held = memory("reservoir", 30, logits=8)
    for start in range(0, 120, 20):
        numbers = np.arange(start, start + 20)
        offer(held, numbers)
        outputs = 2 if start < 60 else 3  # a class has come
        told = np.repeat(numbers[:, None], outputs, axis=1).astype(np.float32)[::-1]
        if start != 100:
            held.hear_logits(numbers[::-1], told)
    drawn = held.sample(30)
    number_N = drawn.x_ND[:, 0]
    known_N = number_N < 100
    assert known_N.any() and not known_N.all()
    np.testing.assert_array_equal(drawn.logits_NK[known_N, 0], number_N[known_N])
    assert np.isnan(drawn.logits_NK[~known_N]).all()
    assert np.isnan(drawn.logits_NK[number_N < 60, 2]).all()


@pytest.mark.parametrize("rows", [1, 7, 20, 50])
def test_no_row_is_drawn_again_before_all_others_have_been(rows):
    held = memory("reservoir", 20)
    offer(held, range(100))
    drawn = held.sample(rows).y_N
    counts = np.bincount(drawn, minlength=100)[contents(held)]
    assert len(drawn) == rows and counts.max() - counts.min() <= 1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_features_stay_with_their_labels(strategy):
    held = memory(strategy, 50)
    for start in range(0, 500, 37):
        offer(held, range(start, start + 37))
    drawn = held.sample(200)
    np.testing.assert_array_equal(drawn.x_ND[:, 0], drawn.y_N)
    np.testing.assert_array_equal(drawn.x_ND[:, 1], drawn.y_N)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_it_obeys_the_tighter_of_its_two_bounds(strategy):
    held = memory(strategy, rows=10**6, size=16_000)  # a row takes 24 bytes, and up to 5 beside
    for start in range(0, 20_000, 500):
        offer(held, range(start, start + 500), classes=5)
        assert held.nbytes <= 16_000
    assert 16_000 // 29 <= len(held) <= 16_000 // 24


def test_a_capacity_below_one_row_is_refused_with_the_key_to_turn():
    with pytest.raises(ValueError, match=r"replay\.capacity_bytes"):
        offer(memory(size=8), [1])


def test_an_empty_memory_gives_no_rows():
    drawn = memory().sample(5)
    assert len(drawn.x_ND) == len(drawn.y_N) == 0


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_restored_memory_continues_exactly(strategy):
    one, other = memory(strategy, 20, seed=1), memory(strategy, 20, seed=99)
    offer(one, range(70), classes=3)
    if strategy == "prioritized":
        drawn = one.sample(20)
        one.hear_losses(drawn.slot_N, drawn.number_N, drawn.x_ND[:, 0] / 100)
    other.restore([[one.to_state(whole=True)]])
    for held in (one, other):
        offer(held, range(70, 90), classes=3)
    assert contents(one) == contents(other)
    np.testing.assert_array_equal(one.sample(9).x_ND, other.sample(9).x_ND)


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(deadline=None, max_examples=50)
@given(batches=st.lists(st.integers(0, 30), min_size=1, max_size=10))
def test_changes_one_after_another_give_the_whole(strategy, batches):
    one, at, states = memory(strategy, 20, seed=1, logits=6), 0, []
    for size in batches:
        numbers = np.arange(at, at + size)
        offer(one, numbers, classes=3)
        one.hear_logits(numbers, np.ones((size, 2 + at // 40), np.float32))
        states.append(one.to_state(whole=not states))
        at += size
    other = memory(strategy, 20, seed=99, logits=6)
    offer(other, range(1_000, 1_005))
    other.restore([states])
    assert all(len(state.get("slots", ())) <= size for state, size in zip(states[1:], batches[1:], strict=True))
    assert contents(other) == contents(one) and other.seen == one.seen
    if len(one):
        np.testing.assert_array_equal(one.to_state(whole=True)["logits"], other.to_state(whole=True)["logits"])
    np.testing.assert_array_equal(one.sample(9).y_N, other.sample(9).y_N)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_memory_of_another_capacity_takes_the_rows_anew(strategy):
    one, other = memory(strategy, rows=20), memory(strategy, rows=8)
    offer(one, range(20), classes=2)
    other.restore([[one.to_state(whole=True)]])
    kept = sorted(contents(other))
    assert len(kept) == 8 and set(kept) <= set(range(20))
    if strategy in ("fifo", "prioritized"):
        assert kept == list(range(12, 20))
    if strategy == "class_balanced":
        assert sum(number % 2 for number in kept) == 4


@pytest.mark.parametrize(("rows", "shards"), [(5000, 1), (5000, 3), (7, 4)])
def test_the_shards_capacities_add_up(rows, shards):
    assert sum(ShardPart(shard, shards).capacity(rows) for shard in range(shards)) == rows


@pytest.mark.parametrize("slots", [1, 17, 5000])
def test_a_sum_tree_finds_what_a_search_in_the_cumulated_weights_finds(slots):
    rng = np.random.default_rng(0)
    tree, weights_C = SumTree(slots), np.zeros(slots, np.float32)
    for _ in range(5):
        slots_N = rng.integers(slots, size=300)
        new_N = rng.integers(1, 50, size=300).astype(np.float32)  # whole numbers, so that sums are exact
        tree.set(slots_N, new_N)
        np.put(weights_C, slots_N, new_N)
        points_R = (rng.integers(weights_C.sum(), size=500) + 0.5) / weights_C.sum()
        expected_R = np.searchsorted(np.cumsum(weights_C, dtype=float), points_R * weights_C.sum(), side="right")
        np.testing.assert_array_equal(tree.draw(points_R), expected_R)
