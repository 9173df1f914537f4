import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.learning.dealing import deal, offsets_of
from actors.learning.lineage import OffsetRange, OffsetSet

ranges = st.lists(
    st.builds(lambda p, a, n: OffsetRange(p, a, a + n), st.sampled_from("ab"), st.integers(0, 60), st.integers(1, 20)),
    max_size=12,
)


def members(offsets):
    return {(o.partition, i) for o in offsets for i in range(o.start, o.stop)}


@given(ranges)
def test_an_offset_set_holds_exactly_what_was_added_and_tells_what_was_there(added):
    held, expected = OffsetSet(), set()
    for offsets in added:
        new = members([offsets])
        assert held.overlap(offsets) == len(new & expected)
        assert held.add(offsets) == len(new & expected)
        expected |= new
    assert members(held.ranges()) == expected and len(held) == len(expected)
    ordered = held.ranges()
    for left, right in itertools.pairwise(ordered):
        assert left.partition != right.partition or left.stop < right.start, "neighbours must coalesce"


@given(ranges, ranges)
def test_missing_is_the_difference_of_the_sets(read, learned):
    whole, held = OffsetSet(read), OffsetSet(learned)
    assert members(held.missing_from(whole)) == members(read) - members(learned)


def test_an_empty_range_is_refused():
    with pytest.raises(ValueError, match="start < stop"):
        OffsetRange("a", 5, 5)


@given(st.integers(0, 500), st.integers(1, 5), st.sampled_from([1, 7, 32, 100]))
def test_dealing_gives_every_row_to_one_shard_in_stream_order(rows, shards, micro_batch):
    hands = deal(rows, shards, micro_batch)
    dealt = sorted(at for hand in hands for start, stop in hand for at in range(start, stop))
    assert dealt == list(range(rows))
    for hand in hands:
        assert hand == sorted(hand) and all(stop - start <= micro_batch for start, stop in hand)


@given(st.integers(1, 4), st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 40)), min_size=1, max_size=6))
def test_the_offsets_of_all_hands_are_the_offsets_of_the_rows(shards, runs):
    at, spans = {"a": 0, "b": 0}, []
    for partition, length in runs:
        start = at[partition] + 3  # a quarantined gap before each run
        spans.append(OffsetRange(partition, start, start + length))
        at[partition] = start + length
    rows = sum(map(len, spans))
    found = OffsetSet()
    for hand in deal(rows, shards, 8):
        for offsets in offsets_of(hand, spans):
            assert found.add(offsets) == 0
    assert found.ranges() == OffsetSet(spans).ranges()
