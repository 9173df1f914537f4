"""A replay shard: what it takes and draws, and how it becomes what it was after it died."""

import numpy as np
import pytest

from actors.errors import LostPlaceError
from actors.learning.order import Shrink
from actors.learning.part import pack, unpack
from actors.learning.replay import ReplayConfig
from actors.records import RoundBatch, Rows
from actors.replay_shard import ReplayShard

ROWS = 60


def a_shard() -> ReplayShard:
    return ReplayShard(ReplayConfig(capacity_rows=100, strategy="reservoir"), 0, seed=1)


def a_round(number: int) -> RoundBatch:
    row_N = np.arange(number * ROWS, (number + 1) * ROWS)
    x_ND = np.repeat(row_N[:, None], 2, axis=1).astype(np.float32)
    return RoundBatch(number, Rows(row_N, x_ND, None), Rows(row_N, x_ND, row_N % 2), (0, 1))


def drawn(shard: ReplayShard, number: int) -> list[float]:
    first, second, *_ = shard.add(a_round(number), ((0, 40), (50, 60)), (5, 7))
    return [*first.x_ND[:, 0], *second.x_ND[:, 0]]


def test_it_takes_the_rows_of_its_slices_and_draws_what_is_asked():
    shard = a_shard()
    assert shard.begin() == []
    first, second, held, nbytes = shard.add(a_round(0), ((0, 40), (50, 60)), (5, 7))
    assert held == 50 and nbytes > 0
    assert (len(first.y_N), len(second.y_N)) == (5, 7)
    assert not {*first.x_ND[:, 0], *second.x_ND[:, 0]} & set(range(40, 50))


def test_one_that_was_started_again_answers_nothing_before_it_is_told_what_it_was():
    blank = a_shard()
    for call in (lambda: drawn(blank, 3), lambda: blank.to_state(whole=False)):
        with pytest.raises(LostPlaceError, match="replay shard 0 has been started again"):
            call()


@pytest.mark.parametrize("durable", [None, 0, 2])
def test_one_that_died_draws_what_it_would_have_drawn(durable):
    lasting, states = a_shard(), []
    lasting.begin()
    samples = []
    for number in range(6):
        samples.append(drawn(lasting, number))
        if durable is not None and number <= durable:
            states.append(unpack(pack(lasting.to_state(whole=False))))
    again = a_shard()
    for _ in range(2):  # told twice, it is the same
        told = again.begin(states)
        if durable is not None:
            assert [x for sample in told for x in sample.x_ND[:, 0]] == samples[durable]
        first = 0 if durable is None else durable + 1
        assert [drawn(again, number) for number in range(first, 6)] == samples[first:]


@pytest.mark.parametrize("strategy", ["fifo", "reservoir"])
def test_a_memory_that_shrinks_holds_the_latest_rows_and_does_so_once(strategy):
    shard = ReplayShard(ReplayConfig(capacity_rows=1000, strategy=strategy, shards=2), 0, seed=1, recent_rows=50)
    shard.begin()
    for number in range(4):
        *_, held, _ = shard.add(a_round(number), ((0, ROWS),), ())
    assert held == 4 * ROWS
    sample, held, _ = shard.add(a_round(4), (), (400,), Shrink(230, 30))
    assert held == 15 and set(sample.x_ND[:, 0]) == set(range(4 * ROWS - 15, 4 * ROWS))
    *_, held, _ = shard.add(a_round(5), ((0, ROWS),), (), Shrink(230, 30))
    assert held == 15 + ROWS, "the order still stands, and has been obeyed"
    *_, held, _ = shard.add(a_round(6), (), (), Shrink(400, 50))
    assert held == 25


def test_a_memory_that_shrank_is_told_whole_and_goes_on_from_there():
    made = [ReplayShard(ReplayConfig(capacity_rows=100, strategy="reservoir"), 0, seed=1, recent_rows=20) for _ in range(2)]
    lasting, again = made
    lasting.begin()
    drawn(lasting, 0)
    states = [unpack(pack(lasting.to_state(whole=True)))]
    lasting.add(a_round(1), ((0, 40),), (5, 7), Shrink(60, 20))
    states.append(unpack(pack(lasting.to_state(whole=False))))
    assert states[-1]["whole"] and states[-1]["memory"]["held"] == 60
    again.begin(states[-1:])
    for shard in made:  # an order from before that still stands
        shard.add(a_round(2), ((0, 40),), (5, 7), Shrink(60, 20))
    assert [drawn(lasting, number) for number in (3, 4)] == [drawn(again, number) for number in (3, 4)]
