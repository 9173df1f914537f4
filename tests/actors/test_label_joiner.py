import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from clocks import Clock
from journal_records import START, example, label, served
from waiting import wait_until

from actors.errors import LearningError
from actors.feedback import (
    FeedbackConfig,
    FeedbackItem,
    FeedbackOutcome,
    OverloadedError,
    ShadowPrediction,
    TooFarBehindError,
)
from actors.journal import Journal
from actors.label_joiner import LabelJoiner

ACCEPTED, DUPLICATE, UNKNOWN, CONFLICT, _ = FeedbackOutcome
ROOT = Path(__file__).parents[2]


@pytest.fixture
def clock():
    return Clock(START)


@pytest.fixture
def make(tmp_path, clock):
    made = []

    def make(queue_items=20_000, **keys):
        made.append(LabelJoiner(str(tmp_path / "journal.db"), FeedbackConfig(**keys), clock, queue_items))
        return made[-1]

    yield make
    for joiner in made:
        asyncio.run(joiner.close())


@pytest.fixture
def batches(monkeypatch):
    """What goes into each transaction."""
    found, apply = [], Journal.apply

    def noting(journal, batch):
        found.append(batch)
        return apply(journal, batch)

    monkeypatch.setattr(Journal, "apply", noting)
    return found


@contextmanager
def held(tmp_path):
    """Meanwhile nobody can write to the journal."""
    with closing(sqlite3.connect(tmp_path / "journal.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def request_ids(tmp_path):
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        rows = connection.execute("SELECT offset, request_id FROM rows ORDER BY offset").fetchall()
    assert [offset for offset, _ in rows] == list(range(len(rows)))
    return [request_id for _, request_id in rows]


def test_feedback_is_in_the_journal_when_its_outcome_is_told(make, tmp_path):
    async def scenario():
        joiner = make()
        await joiner.served([served("a"), ShadowPrediction("a", "no", 0.5, 4), served("b")])
        await joiner.shadow_served([ShadowPrediction("b", "no", 0.5, 4)])
        assert await joiner.feedback([label("a"), label("c"), label("a"), label("a", "no")]) == [
            ACCEPTED,
            UNKNOWN,
            DUPLICATE,
            CONFLICT,
        ]
        assert request_ids(tmp_path) == ["a"]
        await joiner.learned(1)
        return await joiner.status()

    status = asyncio.run(scenario())
    assert (status.waiting_predictions, status.waiting_labels, status.waiting_rows, status.rows) == (1, 1, 0, 1)
    assert status.outcomes == {"accepted": 1, "duplicate": 1, "unknown": 1, "conflict": 1, "expired": 0}


def test_calls_that_wait_share_a_transaction_and_each_gets_its_own_outcomes(make, tmp_path, batches):
    async def scenario():
        joiner = make()
        with held(tmp_path):
            first = asyncio.create_task(joiner.feedback([example(request_id="first")]))
            await asyncio.to_thread(wait_until, lambda: batches, 10, "the writer to take the first call")
            calls = [joiner.served([served("a"), served("b")])]
            calls += [joiner.feedback([label("b" if i == 7 else f"r{i}")] * (i % 3)) for i in range(100)]
            waiting = asyncio.gather(*calls)
            await asyncio.sleep(0)
        return await first, await waiting

    first, outcomes = asyncio.run(scenario())
    assert len(batches) == 2
    assert first == [ACCEPTED]
    assert outcomes[0] is None
    expected = [[[], [UNKNOWN], [UNKNOWN, DUPLICATE]][i % 3] for i in range(100)]
    expected[7] = [ACCEPTED]
    assert outcomes[1:] == expected
    assert request_ids(tmp_path) == ["first", "b"]


def test_the_callers_go_on_with_other_work_while_the_journal_is_written(make, tmp_path):
    async def scenario():
        joiner = make()
        with held(tmp_path):
            waiting = asyncio.create_task(joiner.feedback([example()]))
            for _ in range(100):
                await asyncio.sleep(0)
            assert not waiting.done()
            assert (await joiner.status()).rows == 0
        assert await waiting == [ACCEPTED]

    asyncio.run(scenario())


def test_beyond_its_bound_feedback_is_refused_and_predictions_are_dropped_and_counted(make, tmp_path, batches):
    async def scenario():
        joiner = make(queue_items=10)
        with held(tmp_path):
            first = asyncio.create_task(joiner.feedback([example()]))
            await asyncio.to_thread(wait_until, lambda: batches, 10, "the writer to take the first call")
            fits = [joiner.feedback([example()] * 4), joiner.served([served(f"p{i}") for i in range(4)])]
            waiting = asyncio.gather(*fits)
            await asyncio.sleep(0)
            with pytest.raises(OverloadedError, match=r"8 predictions .* 3 more would be too many \(at most 10 "):
                await joiner.feedback([example()] * 3)
            await joiner.served([served("q0"), ShadowPrediction("q0", "no", None, 2), served("q1")])
            status = await joiner.status()
            assert (status.dropped_predictions, status.dropped_shadow_predictions) == (2, 1)
            waiting = asyncio.gather(waiting, joiner.feedback([example()] * 2))
            await asyncio.sleep(0)
        await first
        assert (await waiting)[1] == [ACCEPTED] * 2
        await joiner.feedback([example()] * 10)
        return await joiner.status()

    status = asyncio.run(scenario())
    assert (status.rows, status.waiting_predictions, status.dropped_predictions) == (17, 4, 2)
    asyncio.run(make().close())
    assert asyncio.run(make().status()) == status


def test_large_features_fill_the_queue_before_its_number_of_items_does(make, tmp_path, batches):
    large = FeedbackItem(START, None, json.dumps({"text": "x" * (40 << 20)}), "yes")

    async def scenario():
        joiner = make()
        with held(tmp_path):
            first = asyncio.create_task(joiner.feedback([example()]))
            await asyncio.to_thread(wait_until, lambda: batches, 10, "the writer to take the first call")
            second = asyncio.create_task(joiner.feedback([large]))
            await asyncio.sleep(0)
            with pytest.raises(OverloadedError):
                await joiner.feedback([large])
        assert (await first, await second) == ([ACCEPTED], [ACCEPTED])

    asyncio.run(scenario())


def test_calls_that_find_no_room_are_refused_and_those_beside_them_are_not(make, tmp_path, batches):
    async def scenario():
        joiner = make(max_waiting_rows=10)
        with held(tmp_path):
            first = asyncio.create_task(joiner.feedback([example()]))
            await asyncio.to_thread(wait_until, lambda: batches, 10, "the writer to take the first call")
            calls = [joiner.feedback([example()] * n) for n in (5, 6, 4, 1)]
            waiting = asyncio.gather(*calls, joiner.served([served("a")]), return_exceptions=True)
            await asyncio.sleep(0)
        await first
        found = await waiting
        await joiner.learned(10)
        assert await joiner.feedback([label("a")]) == [ACCEPTED]
        return found

    found = asyncio.run(scenario())
    assert [type(each) for each in found] == [list, TooFarBehindError, list, TooFarBehindError, type(None)]
    assert len(request_ids(tmp_path)) == 11


def test_a_journal_that_cannot_be_written_fails_feedback_and_takes_it_again_when_it_can(make, tmp_path):
    path, away = tmp_path / "journal.db", tmp_path / "away.db"

    async def scenario():
        joiner = make()
        await joiner.feedback([example(request_id="a")])
        os.rename(path, away)
        found = await asyncio.gather(*(joiner.feedback([example(request_id="b")]) for _ in range(3)), return_exceptions=True)
        assert [type(each) for each in found] == [LearningError] * 3
        assert len({id(each) for each in found}) == 3
        with pytest.raises(LearningError, match="taken away"):
            await joiner.learned(1)
        await joiner.served([served("c")])
        assert (await joiner.status()).dropped_predictions == 1
        os.rename(away, path)
        assert await joiner.feedback([example(request_id="b")]) == [ACCEPTED]
        return await joiner.status()

    status = asyncio.run(scenario())
    assert (status.rows, status.dropped_predictions, status.waiting_rows) == (2, 1, 2)


def test_an_error_that_nobody_foresaw_leaves_no_caller_waiting(make, monkeypatch):
    joiner = make()
    apply = Journal.apply
    monkeypatch.setattr(Journal, "apply", lambda journal, batch: {}["no such key"])
    with pytest.raises(LearningError, match="KeyError"):
        asyncio.run(joiner.feedback([example()]))
    monkeypatch.setattr(Journal, "apply", apply)
    assert asyncio.run(joiner.feedback([example()])) == [ACCEPTED]


def test_what_is_due_is_done_while_nothing_arrives(make, clock):
    joiner = make(label_ttl_s=60)

    async def scenario():
        await joiner.served([served("a")])
        await joiner.feedback([label("b")])

    asyncio.run(scenario())
    clock.now += 61
    status = wait_until(
        lambda: (found := asyncio.run(joiner.status())).outcomes["expired"] and found, 10, "the label to expire"
    )
    assert (status.waiting_labels, status.waiting_predictions, status.dropped_predictions) == (0, 0, 1)


def test_a_caller_that_gives_up_does_not_disturb_the_others(make, tmp_path):
    async def scenario():
        joiner = make()
        with held(tmp_path):
            calls = [asyncio.create_task(joiner.feedback([example(request_id=f"r{i}")])) for i in range(3)]
            await asyncio.sleep(0)
            calls[1].cancel()
        assert await asyncio.gather(*calls[::2]) == [[ACCEPTED], [ACCEPTED]]

    asyncio.run(scenario())
    assert request_ids(tmp_path) == ["r0", "r1", "r2"]


def test_closing_writes_what_waits_and_takes_nothing_more(make, tmp_path):
    async def scenario():
        joiner = make()
        with held(tmp_path):
            waiting = asyncio.gather(*(joiner.feedback([example(request_id=f"r{i}")]) for i in range(50)))
            await asyncio.sleep(0)
            end = asyncio.create_task(joiner.close())
            await asyncio.sleep(0)
            with pytest.raises(LearningError, match="closed"):
                await joiner.feedback([example()])
        await end
        assert await waiting == [[ACCEPTED]] * 50

    asyncio.run(scenario())
    assert request_ids(tmp_path) == [f"r{i}" for i in range(50)]
    assert not (tmp_path / "journal.db-wal").exists()


# --- the process is killed

_POSTING = """
import asyncio, os, sys, time
from actors.feedback import FeedbackConfig, FeedbackItem, ServedPrediction
from actors.label_joiner import LabelJoiner

path, prefix = sys.argv[1:]

async def post(joiner, caller):
    for i in range(1_000_000):
        ids = [f"{prefix}-{caller}-{i}-{kind}" for kind in ("known", "early", "example")]
        await joiner.served([ServedPrediction(ids[0], '{"x": 1}', "yes", 0.5, 1, time.time())])
        items = [FeedbackItem(time.time(), name, label="yes") for name in ids[:2]]
        items.append(FeedbackItem(time.time(), ids[2], '{"x": 1}', "yes"))
        outcomes = await joiner.feedback(items)
        os.write(1, "".join(f"{name} {outcome}\\n" for name, outcome in zip(ids, outcomes)).encode())
        await joiner.served([ServedPrediction(ids[1], '{"x": 1}', "yes", 0.5, 1, time.time())])
        os.write(1, f"{ids[1]} joined\\n".encode())

async def main():
    joiner = LabelJoiner(path, FeedbackConfig(), time.time)
    await asyncio.gather(*(post(joiner, caller) for caller in range(8)))

asyncio.run(main())
"""


def test_whatever_was_told_before_the_process_was_killed_is_in_the_journal_exactly_once(tmp_path, clock):
    seed = random.Random(7)
    told: list[tuple[str, str]] = []  # (request id, what became of it)
    for kill in range(3):
        command = [sys.executable, "-c", _POSTING, str(tmp_path / "journal.db"), str(kill)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
            lines = [process.stdout.readline() for _ in range(seed.randrange(1, 150))]
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.readlines()
            assert process.wait() == -signal.SIGKILL
        told += [tuple(line.split()) for line in lines]
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        waiting = {name for (name,) in connection.execute("SELECT request_id FROM labels")}
    in_rows = request_ids(tmp_path)
    assert max(Counter(in_rows).values()) == 1
    joined = set(in_rows)
    assert told
    assert not waiting & joined
    for name, outcome in told:
        expected = {"known": "accepted", "example": "accepted", "early": "unknown"}[name.rpartition("-")[2]]
        assert outcome in (expected, "joined")
        assert name in (waiting if outcome == "unknown" and name in waiting else joined)
    journal = Journal(tmp_path / "journal.db", FeedbackConfig(), clock)
    assert journal.status.rows == journal.status.outcomes["accepted"] == len(in_rows)
    assert journal.status.waiting_labels == len(waiting)
    journal.close()
