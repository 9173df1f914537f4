import json
import os
import pickle
import sqlite3
from collections import Counter
from contextlib import closing

import pytest
from clocks import Clock
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_records import START, example, label, served

from actors.errors import ConfigError, LearningError
from actors.feedback import (
    FeedbackConfig,
    FeedbackItem,
    FeedbackOutcome,
    OverloadedError,
    ServedPrediction,
    ShadowPrediction,
    TooFarBehindError,
)
from actors.journal import Journal, JournalBatch

ACCEPTED, DUPLICATE, UNKNOWN, CONFLICT, EXPIRED = FeedbackOutcome


@pytest.fixture
def clock():
    return Clock(START)


@pytest.fixture
def make(tmp_path, clock):
    """Opens the journal, closing the one that was open."""
    opened = []

    def make(**keys):
        for journal in opened:
            journal.close()
        opened[:] = [Journal(tmp_path / "journal.db", FeedbackConfig(**keys), clock)]
        return opened[0]

    yield make
    for journal in opened:
        journal.close()


@pytest.fixture
def traced(monkeypatch):
    """Every statement that SQLite runs for connections made from now on."""
    statements, connect = [], sqlite3.connect

    def tracing(*args, **keys):
        connection = connect(*args, **keys)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", tracing)
    return statements


def rows(tmp_path):
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM rows ORDER BY offset")]


def test_a_label_joins_its_prediction_as_it_was_served(make, tmp_path):
    journal = make()
    journal.apply(JournalBatch(served=[served(x=1.5)], shadow=[ShadowPrediction("a", "no", 0.6, 8)]))
    assert journal.apply(JournalBatch(feedback=[label(value="no", at=START + 9)])) == [ACCEPTED]
    assert rows(tmp_path) == [
        {
            "offset": 0,
            "features": '{"x": 1.5}',
            "label": '"no"',
            "score": None,
            "answer": '"yes"',
            "propensity": 0.75,
            "version": 7,
            "request_id": "a",
            "served_at": START,
            "received_at": START + 9,
            "shadow_answer": '"no"',
            "shadow_propensity": 0.6,
            "shadow_version": 8,
        }
    ]
    assert (journal.status.waiting_predictions, journal.status.rows, journal.status.waiting_rows) == (0, 1, 1)


def test_a_prediction_and_its_label_may_come_together_in_any_order(make):
    batch = JournalBatch(served=[served("a"), served("b")], feedback=[label("b"), label("a"), label("b"), label("b", "no")])
    assert make().apply(batch) == [ACCEPTED, ACCEPTED, DUPLICATE, CONFLICT]


def test_a_score_comes_with_the_answer_that_was_shown_and_its_probability(make, tmp_path):
    journal = make()
    journal.apply(JournalBatch(served=[served()]))
    score = FeedbackItem(START, "a", score=1)
    other = [FeedbackItem(START, "a", score=1.0), FeedbackItem(START, "a", score=0.5), label()]
    assert journal.apply(JournalBatch(feedback=[score, *other])) == [ACCEPTED, DUPLICATE, CONFLICT, CONFLICT]
    found = rows(tmp_path)[0]
    assert (found["label"], found["score"], found["answer"], found["propensity"]) == (None, 1.0, '"yes"', 0.75)


@pytest.mark.parametrize(
    ("first", "again", "outcome"),
    [
        (1, 1.0, DUPLICATE),
        (1.0, 1, DUPLICATE),
        (1, True, CONFLICT),
        (0, False, CONFLICT),
        (True, True, DUPLICATE),
        (1, "1", CONFLICT),
        ("a", "A", CONFLICT),
        (2**60, 2.0**60, DUPLICATE),
        (2**60 + 1, 2.0**60, CONFLICT),
        ([1, {"k": 2}], [1.0, {"k": 2.0}], DUPLICATE),
        ([1, {"k": 2}], [1, {"k": True}], CONFLICT),
        ([1], [1, 1], CONFLICT),
        ({"a": 1}, {"a": 1, "b": 2}, CONFLICT),
        ({}, [], CONFLICT),
        ("\ud800", "\ud800", DUPLICATE),
    ],
)
@pytest.mark.parametrize("is_known", [True, False])
def test_labels_are_compared_as_json_values(make, first, again, outcome, is_known):
    journal = make()
    batch = JournalBatch(served=[served()] if is_known else [], feedback=[label(value=first)])
    assert journal.apply(batch) == [ACCEPTED if is_known else UNKNOWN]
    assert journal.apply(JournalBatch(feedback=[label(value=again)])) == [outcome]


def test_a_label_that_overtakes_its_prediction_is_joined_when_that_comes(make, tmp_path):
    journal = make()
    assert journal.apply(JournalBatch(feedback=[label(at=START + 1)])) == [UNKNOWN]
    assert journal.status.waiting_labels == 1
    assert journal.apply(JournalBatch(served=[served(x=3)])) == []
    found = rows(tmp_path)[0]
    assert (found["features"], found["label"], found["received_at"], found["version"]) == ('{"x": 3}', '"yes"', START + 1, 7)
    assert journal.apply(JournalBatch(feedback=[label()])) == [DUPLICATE]
    assert (journal.status.waiting_labels, journal.status.waiting_predictions) == (0, 0)
    assert journal.status.outcomes == {"accepted": 1, "duplicate": 1, "unknown": 1, "conflict": 0, "expired": 0}


def test_an_example_is_a_row_at_once_and_is_recognised_by_the_id_that_it_brings(make, tmp_path):
    journal = make()
    batch = [example(x=1), example(x=1), example(request_id="mine", x=2), example(request_id="mine", x=2)]
    assert journal.apply(JournalBatch(feedback=batch)) == [ACCEPTED, ACCEPTED, ACCEPTED, DUPLICATE]
    assert journal.apply(JournalBatch(feedback=[example("no", "mine", x=2)])) == [CONFLICT]
    assert [row["features"] for row in rows(tmp_path)] == ['{"x": 1}', '{"x": 1}', '{"x": 2}']
    assert {row["version"] for row in rows(tmp_path)} == {None}


def test_an_example_with_the_id_of_a_prediction_is_a_label_for_what_was_served(make, tmp_path):
    journal = make()
    journal.apply(JournalBatch(served=[served(x=1)]))
    assert journal.apply(JournalBatch(feedback=[example(request_id="a", x=999)])) == [ACCEPTED]
    assert [(row["features"], row["version"]) for row in rows(tmp_path)] == [('{"x": 1}', 7)]


def test_of_two_predictions_with_one_id_the_first_stays(make, tmp_path):
    journal = make()
    journal.apply(JournalBatch(served=[served(x=1), served(x=2)]))
    journal.apply(JournalBatch(served=[served(x=3)]))
    assert journal.status.waiting_predictions == 1
    journal.apply(JournalBatch(feedback=[label()]))
    journal.apply(JournalBatch(served=[served(x=4)]))
    assert [row["features"] for row in rows(tmp_path)] == ['{"x": 1}']
    assert (journal.status.waiting_predictions, journal.status.dropped_predictions) == (0, 0)


def test_the_answer_of_the_shadow_may_come_after_the_label_but_not_before_its_request(make, tmp_path):
    journal = make()
    journal.apply(JournalBatch(shadow=[ShadowPrediction("a", "no", None, 8)]))
    assert journal.status.dropped_shadow_predictions == 1
    journal.apply(JournalBatch(served=[served()], feedback=[label()]))
    journal.apply(JournalBatch(shadow=[ShadowPrediction("a", "no", None, 8)]))
    assert [(row["shadow_answer"], row["shadow_version"]) for row in rows(tmp_path)] == [('"no"', 8)]
    assert journal.status.dropped_shadow_predictions == 1


def test_the_oldest_predictions_give_way_and_are_counted(make):
    journal = make(keep_predictions=100)
    journal.apply(JournalBatch(served=[served(f"r{i}") for i in range(60)]))
    journal.apply(JournalBatch(served=[served(f"r{i}") for i in range(60, 170)]))
    assert (journal.status.waiting_predictions, journal.status.dropped_predictions) == (100, 70)
    assert journal.apply(JournalBatch(feedback=[label("r69"), label("r70")])) == [UNKNOWN, ACCEPTED]


def test_the_oldest_labels_give_way_and_count_as_expired(make):
    journal = make(keep_predictions=100)
    journal.apply(JournalBatch(feedback=[label(f"r{i}") for i in range(101)]))
    assert (journal.status.waiting_labels, journal.status.outcomes["expired"]) == (100, 1)
    journal.apply(JournalBatch(served=[served("r0"), served("r1")]))
    assert (journal.status.rows, journal.status.waiting_predictions) == (1, 1)


def test_what_waits_too_long_expires_and_is_counted(make, clock):
    journal = make(label_ttl_s=60)
    journal.apply(JournalBatch(served=[served("p0"), served("p1", at=START + 1)]))
    journal.apply(JournalBatch(feedback=[label("l0"), label("l1", at=START + 1)]))
    clock.now += 60.5
    journal.tidy()
    assert (journal.status.waiting_predictions, journal.status.dropped_predictions) == (1, 1)
    assert (journal.status.waiting_labels, journal.status.outcomes["expired"]) == (1, 1)
    assert journal.apply(JournalBatch(served=[served("l0"), served("l1")], feedback=[label("p0"), label("p1")])) == [
        UNKNOWN,
        ACCEPTED,
    ]


def test_much_that_has_expired_goes_part_by_part_until_none_is_left(make, clock):
    journal = make(label_ttl_s=60)
    journal.apply(JournalBatch(served=[served(f"r{i}") for i in range(12_000)]))
    clock.now += 61
    left = []
    while not left or left[-1]:
        journal.tidy()
        left.append(journal.status.waiting_predictions)
    assert left == [7_000, 2_000, 0]
    assert journal.status.dropped_predictions == 12_000


def test_tidying_up_is_not_done_more_often_than_every_second(make, clock, traced):
    journal = make()
    journal.tidy()
    for _ in range(20):
        clock.now += 0.25
        journal.apply(JournalBatch(served=[served()]))
    assert sum(statement.startswith("DELETE FROM labels") for statement in traced) == 6


def test_learned_rows_are_deleted_but_for_the_newest_and_the_first_thousand(make, tmp_path, clock):
    journal = make(keep_rows=50)
    journal.apply(JournalBatch(feedback=[example(request_id=f"r{i}") for i in range(1500)]))
    journal.learned(1300)
    clock.now += 1
    journal.tidy()
    assert [row["offset"] for row in rows(tmp_path)] == [*range(1000), *range(1250, 1500)]
    assert (journal.status.rows, journal.status.waiting_rows) == (1500, 200)
    assert journal.apply(JournalBatch(feedback=[example(request_id="r999"), example(request_id="r1249")])) == [
        DUPLICATE,
        ACCEPTED,
    ]
    assert rows(tmp_path)[-1]["offset"] == 1500


def test_learning_never_goes_back_and_never_beyond_the_rows(make):
    journal = make()
    journal.apply(JournalBatch(feedback=[example() for _ in range(10)]))
    for offset, waiting in [(4, 6), (2, 6), (7, 3), (99, 0)]:
        journal.learned(offset)
        assert journal.status.waiting_rows == waiting


def test_feedback_is_refused_while_too_many_rows_wait_to_be_learned(make, tmp_path):
    journal = make(max_waiting_rows=3)
    journal.apply(JournalBatch(feedback=[example(), example()]))
    with pytest.raises(TooFarBehindError, match=r"2 rows .* room for 1 of 3 \(max_waiting_rows\)"):
        journal.apply(JournalBatch(feedback=[example(), example()]))
    journal.apply(JournalBatch(feedback=[example()], served=[served()]))
    assert journal.room == 0
    journal.apply(JournalBatch(served=[served("b")]))
    with pytest.raises(TooFarBehindError):
        journal.apply(JournalBatch(feedback=[label()]))
    assert (len(rows(tmp_path)), journal.status.waiting_predictions) == (3, 2)
    journal.learned(1)
    assert journal.apply(JournalBatch(feedback=[label()])) == [ACCEPTED]


def test_everything_is_there_again_after_a_restart(make, tmp_path):
    journal = make()
    journal.apply(JournalBatch(served=[served("a"), served("b")], shadow=[ShadowPrediction("b", "no", 0.5, 8)]))
    journal.apply(JournalBatch(feedback=[label("a"), label("a"), label("a", "no"), label("c")], dropped_predictions=4))
    journal.learned(1)
    before = journal.status
    journal = make()
    assert journal.status == before
    assert before.dropped_predictions == 4
    assert journal.apply(JournalBatch(feedback=[label("a"), label("b"), label("c")], served=[served("c")])) == [
        DUPLICATE,
        ACCEPTED,
        DUPLICATE,
    ]
    assert [(row["offset"], row["request_id"]) for row in rows(tmp_path)] == [(0, "a"), (1, "c"), (2, "b")]
    assert rows(tmp_path)[2]["shadow_version"] == 8


def test_a_batch_is_one_transaction_with_the_disk_awaited_only_for_feedback_and_for_rows(make, traced):
    journal = make()
    journal.apply(JournalBatch(feedback=[label("early")]))
    traced.clear()
    durable = [False, True, True, False, True]
    journal.apply(JournalBatch(served=[served(f"r{i}") for i in range(50)]))
    journal.apply(JournalBatch(feedback=[label(f"r{i}") for i in range(50)]))
    journal.apply(JournalBatch(served=[served("x")], feedback=[label("x"), label("y")]))
    journal.apply(JournalBatch(served=[served("z")]))
    journal.apply(JournalBatch(served=[served("early")]))
    assert traced.count("COMMIT") == len(durable)
    modes, mode = [], "FULL"
    for statement in traced:
        mode = statement.partition("synchronous = ")[2] or mode
        if statement == "COMMIT":
            modes.append(mode == "FULL")
    assert modes == durable


def test_two_writers_in_a_row_do_not_undo_each_other(tmp_path, clock):
    """As when a process that is being replaced writes a last time."""
    old, new = (Journal(tmp_path / "journal.db", FeedbackConfig(), clock) for _ in range(2))
    for i in range(3):
        assert old.apply(JournalBatch(feedback=[example(request_id=f"old{i}")])) == [ACCEPTED]
        assert new.apply(JournalBatch(feedback=[example(request_id=f"new{i}"), label(f"old{i}")])) == [ACCEPTED, DUPLICATE]
    old.close()
    assert [row["offset"] for row in rows(tmp_path)] == list(range(6))
    assert new.status.outcomes["accepted"] == new.status.rows == 6
    new.close()


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        (FeedbackItem, {"received_at": 0.0, "request_id": "a"}),
        (FeedbackItem, {"received_at": 0.0, "label": 1}),
        (FeedbackItem, {"received_at": 0.0, "features": "{}", "score": 1.0}),
        (FeedbackItem, {"received_at": 0.0, "request_id": "\ud800", "label": 1}),
        (FeedbackItem, {"received_at": 0.0, "request_id": "a", "label": float("nan")}),
        (FeedbackItem, {"received_at": 0.0, "request_id": "a", "label": {1}}),
        (FeedbackItem, {"received_at": 0.0, "request_id": "a", "score": float("inf")}),
        (ShadowPrediction, {"request_id": "a", "prediction": float("inf"), "probability": None, "version": 1}),
        (ShadowPrediction, {"request_id": "a", "prediction": 1, "probability": float("nan"), "version": 1}),
    ],
)
def test_what_cannot_be_written_down_is_refused_before_it_can_spoil_a_batch(kind, keys):
    with pytest.raises(ValueError):
        kind(**keys)


@pytest.mark.parametrize("kind", [OverloadedError, TooFarBehindError])
def test_refusals_survive_the_way_between_processes(kind):
    again = pickle.loads(pickle.dumps(kind("too much")))
    assert (type(again), str(again)) == (kind, "too much")


# --- a file that cannot be used


def test_a_full_disk_refuses_the_whole_batch_and_names_the_remedy(make, tmp_path, monkeypatch):
    connect, connections = sqlite3.connect, []

    def keeping(*args, **keys):
        connections.append(connect(*args, **keys))
        return connections[-1]

    monkeypatch.setattr(sqlite3, "connect", keeping)
    journal = make()
    journal.apply(JournalBatch(feedback=[example(request_id="first")]))
    pages = connections[0].execute("PRAGMA page_count").fetchone()[0]
    connections[0].execute(f"PRAGMA max_page_count = {pages + 5}")
    before = journal.status
    large = [example(request_id=f"r{i}", text="x" * 10_000) for i in range(10)]
    with pytest.raises(LearningError, match=r"journal\.db cannot be written: .*full.*make room on its disk"):
        journal.apply(JournalBatch(served=[served("p")], feedback=large))
    assert journal.status == before
    connections[0].execute("PRAGMA max_page_count = 1000000")
    assert journal.apply(JournalBatch(feedback=large)) == [ACCEPTED] * 10
    assert [row["offset"] for row in rows(tmp_path)] == list(range(11))


def test_a_damaged_journal_is_refused(make, tmp_path):
    journal = make()
    journal.apply(JournalBatch(feedback=[example(request_id=f"r{i}") for i in range(2000)]))
    journal.close()
    path = tmp_path / "journal.db"
    path.write_bytes(path.read_bytes()[:4096] + b"\x5a" * (path.stat().st_size - 4096))
    with pytest.raises(LearningError, match=r"journal\.db cannot be .*damaged: move it away"):
        make().apply(JournalBatch(feedback=[example(request_id="r5")]))


def test_a_file_that_is_no_journal_is_refused_and_left_as_it_is(make, tmp_path):
    path = tmp_path / "journal.db"
    path.write_bytes(b"something else entirely" * 100)
    with pytest.raises(ConfigError, match=r"journal\.db cannot be opened: .*name another path"):
        make()
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    content = path.read_bytes()
    with pytest.raises(ConfigError, match="no journal of this release"):
        make()
    assert path.read_bytes() == content


def test_a_place_where_no_journal_can_be_is_refused(tmp_path, clock):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "journal.db", tmp_path / "folder"):
        with pytest.raises(ConfigError, match=str(path)):
            Journal(path, FeedbackConfig(), clock)


def test_a_journal_that_is_taken_away_takes_nothing_more(make, tmp_path):
    journal = make()
    journal.apply(JournalBatch(feedback=[example()]))
    os.rename(tmp_path / "journal.db", tmp_path / "elsewhere.db")
    with pytest.raises(LearningError, match="has been taken away"):
        journal.apply(JournalBatch(feedback=[example()]))


# --- the rules, against a model of them


class Model:
    """What the journal should do, without a file."""

    def __init__(self, keep_predictions, label_ttl_s):
        self.keep, self.ttl = keep_predictions, label_ttl_s
        self.served, self.labels, self.rows, self.joined = {}, {}, [], {}
        self.counts, self.dropped, self.tidied = Counter(), 0, START

    def apply(self, served, feedback, now):
        if now >= self.tidied:
            self.tidied = now + 1
            old = [key for key, (_, at) in self.served.items() if at < now - self.ttl]
            self.dropped += sum(self.served.pop(key) is not None for key in old)
            old = [key for key, (_, at) in self.labels.items() if at < now - self.ttl]
            self.counts[EXPIRED] += sum(self.labels.pop(key) is not None for key in old)
        for each in served:
            if each.request_id in self.labels:
                self.join(each.request_id, each.features, self.labels.pop(each.request_id)[0])
                self.counts[ACCEPTED] += 1
            elif each.request_id not in self.joined:
                self.served.setdefault(each.request_id, (each.features, each.served_at))
        outcomes = [self.take(item) for item in feedback]
        self.counts.update(outcomes)
        while len(self.served) > self.keep:
            self.served.pop(next(iter(self.served)))
            self.dropped += 1
        while len(self.labels) > self.keep:
            self.labels.pop(next(iter(self.labels)))
            self.counts[EXPIRED] += 1
        return outcomes

    def take(self, item):
        key, said = item.request_id, (type(item.label) is bool, item.label, item.score)
        before = self.joined.get(key) or (self.labels[key][0] if key in self.labels else None)
        if key is not None and before:
            if before != said:
                return CONFLICT
            if item.features is None or key not in self.labels:
                return DUPLICATE
            del self.labels[key]
        if key in self.served:
            self.join(key, self.served.pop(key)[0], said)
            return ACCEPTED
        if item.features is not None and item.label is not None:
            self.join(key, item.features, said)
            return ACCEPTED
        self.labels[key] = (said, item.received_at)
        return UNKNOWN

    def join(self, key, features, said):
        self.rows.append((key, features, said[1:]))
        if key is not None:
            self.joined[key] = said


IDS = st.sampled_from("abcdef")
LABELS = st.sampled_from([1, 1.0, True, "a", 0])
FEATURES = st.integers(0, 3).map(lambda x: json.dumps({"x": x}))
SERVED = st.builds(ServedPrediction, IDS, FEATURES, LABELS, st.none(), st.just(1), st.just(START))
ITEMS = st.one_of(
    st.builds(FeedbackItem, st.just(START), IDS, st.none(), LABELS),
    st.builds(FeedbackItem, st.just(START), IDS, st.none(), st.none(), st.sampled_from([0.0, 1.0])),
    st.builds(FeedbackItem, st.just(START), st.none() | IDS, FEATURES, LABELS),
)
STEPS = st.tuples(st.lists(SERVED, max_size=4), st.lists(ITEMS, max_size=5), st.sampled_from([0, 0, 3, 7]), st.booleans())


@settings(max_examples=80, deadline=None)
@given(steps=st.lists(STEPS, min_size=1, max_size=12), keep=st.integers(1, 4))
def test_whatever_comes_the_journal_does_what_its_rules_say(tmp_path_factory, steps, keep):
    folder = tmp_path_factory.mktemp("journal")
    clock, config, model = Clock(START), FeedbackConfig(keep_predictions=keep, label_ttl_s=10), Model(keep, 10)
    journal = Journal(folder / "journal.db", config, clock)
    for predictions, items, passed_s, is_restarted in steps:
        clock.now += passed_s
        if is_restarted:
            journal.close()
            journal = Journal(folder / "journal.db", config, clock)
            model.tidied = clock.now
        predictions = [ServedPrediction(p.request_id, p.features, p.prediction, None, 1, clock.now) for p in predictions]
        items = [FeedbackItem(clock.now, i.request_id, i.features, i.label, i.score) for i in items]
        assert journal.apply(JournalBatch(predictions, (), items)) == model.apply(predictions, items, clock.now)
        status = journal.status
        assert (status.waiting_predictions, status.waiting_labels) == (len(model.served), len(model.labels))
        assert status.dropped_predictions == model.dropped
        assert status.outcomes == {outcome.value: model.counts[outcome] for outcome in FeedbackOutcome}
        assert status.outcomes["accepted"] == status.rows
    journal.close()
    found = [
        (row["request_id"], row["features"], (None if row["label"] is None else json.loads(row["label"]), row["score"]))
        for row in rows(folder)
    ]
    assert found == model.rows
    assert [row["offset"] for row in rows(folder)] == list(range(len(found)))
