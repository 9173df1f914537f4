"""A replay shard: what it takes and draws, and how it becomes what it was after it died."""

import numpy as np
import pytest

from actors.errors import LostPlaceError
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
