"""A replay shard: what it takes and draws, and how it becomes what it was after it died."""

import numpy as np
import pytest

from actors.errors import LostPlaceError
from actors.learning.order import Shrink
from actors.learning.part import pack, unpack
from actors.learning.replay import ReplayConfig
from actors.records import Echo, RoundBatch, Rows
from actors.replay_shard import ReplayShard

ROWS = 60


def a_shard(strategy="reservoir", shard=0, shards=1, logits=0) -> ReplayShard:
    return ReplayShard(ReplayConfig(capacity_rows=100, strategy=strategy, shards=shards), shard, seed=1, logits=logits)


def a_round(number: int) -> RoundBatch:
    row_N = np.arange(number * ROWS, (number + 1) * ROWS)
    x_ND = np.repeat(row_N[:, None], 2, axis=1).astype(np.float32)
    return RoundBatch(number, Rows(row_N, x_ND, None), Rows(row_N, x_ND, row_N % 2), (0, 1))


def drawn(shard: ReplayShard, number: int, *echoes: Echo | None) -> list[float]:
    first, second, *_ = shard.add(a_round(number), (5, 7), *echoes)
    return [*first.x_ND[:, 0], *second.x_ND[:, 0]]


def echo_of(shard: ReplayShard, number: int) -> Echo:
    """What a learner would tell of the first sample of a round, and of the round's own rows."""
    sample, rows = shard._samples[0], a_round(number).train
    loss_R = (sample.x_ND[:, 0] % 7).astype(np.float32)
    return Echo(0, sample.slot_N, sample.number_N, loss_R, rows.row_N, rows.x_ND)


def test_it_takes_the_rows_and_draws_what_is_asked():
    shard = a_shard()
    assert shard.begin() == []
    first, second, held, nbytes = shard.add(a_round(0), (5, 7))
    assert held == ROWS and nbytes > 0
    assert (len(first.y_N), len(second.y_N)) == (5, 7)


@pytest.mark.parametrize("strategy", ["fifo", "reservoir", "class_balanced", "prioritized"])
def test_shards_share_out_the_rows_among_them(strategy):
    shards = [a_shard(strategy, shard, 3) for shard in range(3)]
    for shard in shards:
        shard.begin()
    for number in range(4):
        held = [shard.add(a_round(number), ())[0] for shard in shards]
    assert sum(held) == 100 and max(held) - min(held) <= 1


@pytest.mark.parametrize("strategy", ["fifo", "reservoir", "class_balanced", "prioritized"])
def test_another_number_of_shards_shares_out_what_the_old_ones_held(strategy):
    old = [a_shard(strategy, shard, 2) for shard in range(2)]
    chains = []
    for shard in old:
        shard.begin()
        shard.add(a_round(0), (3,))
        chains.append([unpack(pack(shard.to_state(whole=True)))])
    new = [a_shard(strategy, shard, 3) for shard in range(3)]
    assert [shard.begin(chains) for shard in new] == [[], [], []]
    numbers = [x for shard in new for x in shard.to_state(whole=True)["memory"]["x"][:, 0]]
    assert sorted(numbers) == list(range(ROWS))


def test_one_that_was_started_again_answers_nothing_before_it_is_told_what_it_was():
    blank = a_shard()
    for call in (lambda: drawn(blank, 3), lambda: blank.to_state(whole=False)):
        with pytest.raises(LostPlaceError, match="replay shard 0 has been started again"):
            call()


@pytest.mark.parametrize("strategy", ["fifo", "reservoir", "class_balanced", "prioritized"])
@pytest.mark.parametrize("durable", [None, 0, 2])
def test_one_that_died_draws_what_it_would_have_drawn(strategy, durable):
    def learned(shard, number):
        return [echo_of(shard, number)] if strategy == "prioritized" else []

    lasting, states = a_shard(strategy), []
    lasting.begin()
    samples, echoes = [], [[]]
    for number in range(6):
        samples.append(drawn(lasting, number, *echoes[number]))
        echoes.append(learned(lasting, number))
        if durable is not None and number <= durable:
            states.append(unpack(pack(lasting.to_state(False, *echoes[-1]))))
    again = a_shard(strategy)
    for _ in range(2):  # told twice, it is the same
        told = again.begin([states] if states else ())
        if durable is not None:
            assert [x for sample in told for x in sample.x_ND[:, 0]] == samples[durable]
        first = 0 if durable is None else durable + 1
        assert [drawn(again, number, *echoes[number]) for number in range(first, 6)] == samples[first:]


@pytest.mark.parametrize("strategy", ["fifo", "reservoir", "class_balanced", "prioritized"])
def test_shards_whose_memory_shrinks_hold_the_latest_rows_together_and_do_so_once(strategy):
    config = ReplayConfig(capacity_rows=1000, strategy=strategy, shards=2)
    shards = [ReplayShard(config, shard, seed=1, recent_rows=50) for shard in range(2)]
    for shard in shards:
        shard.begin()
        for number in range(4):
            shard.add(a_round(number), ())

    def held(number, shrink):
        return sum(shard.add(a_round(number), (), shrink=shrink)[-2] for shard in shards)

    nothing = RoundBatch(9, Rows(np.zeros(0, np.int64), np.zeros((0, 2), np.float32), None), Rows.none(), (0, 1))
    samples = [shard.add(nothing, (400,), shrink=Shrink(230, 30)) for shard in shards]
    assert {x for sample, *_ in samples for x in sample.x_ND[:, 0]} == set(range(4 * ROWS - 30, 4 * ROWS))
    assert held(4, Shrink(230, 30)) == 30 + ROWS, "the order still stands, and has been obeyed"
    assert held(5, Shrink(400, 50)) == 50 + ROWS


def test_a_memory_that_shrank_is_told_whole_and_goes_on_from_there():
    made = [ReplayShard(ReplayConfig(capacity_rows=100, strategy="reservoir"), 0, seed=1, recent_rows=20) for _ in range(2)]
    lasting, again = made
    lasting.begin()
    drawn(lasting, 0)
    states = [unpack(pack(lasting.to_state(True)))]
    lasting.add(a_round(1), (5, 7), shrink=Shrink(60, 20))
    states.append(unpack(pack(lasting.to_state(False))))
    assert states[-1]["whole"]
    again.begin([states[-1:]])
    for shard in made:  # an order from before that still stands
        shard.add(a_round(2), (5, 7), shrink=Shrink(60, 20))
    assert [drawn(lasting, number) for number in (3, 4)] == [drawn(again, number) for number in (3, 4)]


def test_what_it_draws_does_not_depend_on_whether_its_state_was_asked_for():
    asked, left_alone = a_shard("prioritized", logits=2), a_shard("prioritized", logits=2)
    for shard in (asked, left_alone):
        shard.begin()
    echo = None
    for number in range(8):
        assert drawn(asked, number, echo) == drawn(left_alone, number, echo)
        echo = echo_of(asked, number)
        asked.to_state(number % 3 == 0, echo)


def test_the_outputs_that_a_learner_tells_of_come_back_with_the_rows():
    shard = a_shard(logits=2)
    shard.begin()
    shard.add(a_round(0), ())
    told = Echo(-1, *(np.zeros(0, np.int64),) * 3, a_round(0).train.row_N, a_round(0).train.x_ND + 0.5)
    sample, *_ = shard.add(a_round(1), (30,), told)
    is_old_N = sample.x_ND[:, 0] < ROWS
    np.testing.assert_array_equal(sample.logits_NK[is_old_N], sample.x_ND[is_old_N] + 0.5)
    assert np.isnan(sample.logits_NK[~is_old_N]).all()
