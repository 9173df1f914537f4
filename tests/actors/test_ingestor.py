"""Rounds from a stream: every row once, labels no sooner than allowed, and a restart that neither skips nor repeats."""

import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from clocks import Clock

from actors.errors import InputUnusableError, LearningError, LostPlaceError
from actors.feedback import FeedbackConfig, FeedbackItem
from actors.ingestor import Ingestor
from actors.journal import Journal, JournalBatch
from actors.learner_config import LearnersConfig
from actors.learning.lineage import OffsetRange, OffsetSet
from actors.learning.order import Order, SetAside
from actors.learning.part import pack, unpack
from actors.learning.task import TaskConfig
from actors.records import StreamPosition
from actors.sources.config import StreamConfig


def ingestor(tmp_path, stream, *, position=None, number=0, task=None, clock=None, shards=2, round_rows=50, journal=None):
    clock = clock or Clock()
    learners = LearnersConfig(shards=shards, round_rows=round_rows)
    storage = str(tmp_path / "storage")
    each = Ingestor(stream, task or TaskConfig(), learners, 1, storage, journal, True, clock, clock, clock.wait)
    if position is not None:
        each.resume(position, number)
    return each


def csv_stream(tmp_path, rows, bad=(), **settings):
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "class"])
        for row in range(rows):
            writer.writerow([row, "nan" if row in bad else row * 2, "even" if row % 2 == 0 else "odd"])
    return StreamConfig(kind="files", path=str(path), **settings)


def rounds_of(each, first=0):
    number = first
    while True:
        batch, header = each.next_round(number)
        yield batch, header
        if header.is_last:
            return
        number += 1


@pytest.mark.parametrize("delay", [0, 1, 30, 100, 137, 500])
def test_every_row_is_tested_once_and_trained_once_in_order_whatever_the_delay(tmp_path, delay):
    rounds = list(rounds_of(ingestor(tmp_path, csv_stream(tmp_path, 333, label_delay_rows=delay))))
    for part in ("test", "train"):
        rows = np.concatenate([getattr(batch, part).row_N for batch, _ in rounds])
        assert rows.tolist() == list(range(333))
    trained = OffsetSet(span for _, header in rounds for span in header.train_spans)
    assert len(trained) == 333 and trained.missing_from(OffsetSet(o for _, h in rounds for o in h.read)) == ()


@pytest.mark.parametrize("delay", [1, 30, 100, 137])
def test_a_label_is_not_in_a_round_before_rows_that_lie_the_delay_behind_it_were_tested(tmp_path, delay):
    tested = 0
    for batch, _ in rounds_of(ingestor(tmp_path, csv_stream(tmp_path, 333, label_delay_rows=delay))):
        tested = int(batch.test.row_N[-1]) + 1 if len(batch.test) else tested
        if tested < 333 and len(batch.train):
            assert batch.train.row_N[-1] < tested - delay
        assert batch.test.y_N is None


def test_a_class_gets_its_code_only_when_its_label_becomes_visible(tmp_path):
    seen = [batch.classes for batch, _ in rounds_of(ingestor(tmp_path, csv_stream(tmp_path, 333, label_delay_rows=150)))]
    assert seen[0] == () and seen[-1] == ("even", "odd")


def test_without_delay_test_and_train_share_their_arrays(tmp_path):
    batch, _ = ingestor(tmp_path, csv_stream(tmp_path, 100)).next_round(0)
    assert batch.test.x_ND is batch.train.x_ND


def test_bad_rows_are_set_aside_and_everything_adds_up(tmp_path):
    bad = {0, 7, 8, 9, 150, 332}
    each = ingestor(tmp_path, csv_stream(tmp_path, 333, bad))
    rounds = list(rounds_of(each))
    trained = OffsetSet(span for _, header in rounds for span in header.train_spans)
    quarantined = OffsetSet(o for _, header in rounds for o in header.quarantined)
    assert {i for o in quarantined.ranges() for i in range(o.start, o.stop)} == bad
    assert len(trained) == 333 - len(bad)
    assert len(OffsetSet(o for _, header in rounds for o in header.read)) == 333
    assert each.finish() == {"not_finite": len(bad)}
    parts = sorted((tmp_path / "storage" / "quarantine").glob("*.parquet"))
    assert sorted(pq.read_table(parts)["offset"].to_pylist()) == sorted(bad)


@pytest.mark.parametrize("delay", [0, 40])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_another_ingestor_goes_on_exactly_where_one_stopped(tmp_path, delay, after):
    stream = csv_stream(tmp_path, 333, {3, 99, 100, 101, 230}, label_delay_rows=delay)
    whole = list(rounds_of(ingestor(tmp_path, stream)))
    position = whole[after][1].position
    rest = list(rounds_of(ingestor(tmp_path, stream, position=position, number=after + 1), first=after + 1))
    for part in ("test", "train"):
        expected = np.concatenate([getattr(batch, part).row_N for batch, _ in whole[after + 1 :]])
        found = np.concatenate([getattr(batch, part).row_N for batch, _ in rest])
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        np.concatenate([batch.train.y_N for batch, _ in rest]),
        np.concatenate([batch.train.y_N for batch, _ in whole[after + 1 :]]),
    )
    for kind in ("read", "quarantined"):
        expected = OffsetSet(o for _, header in whole[after + 1 :] for o in getattr(header, kind)).ranges()
        assert OffsetSet(o for _, header in rest for o in getattr(header, kind)).ranges() == expected
    assert rest[-1][1].position == whole[-1][1].position


@pytest.fixture
def journal(tmp_path):
    """Feedback that came in beside the stream; every fifth row of it is bad."""
    path = tmp_path / "journal.sqlite"
    written = Journal(path, FeedbackConfig(), lambda: 0.0)
    rows = [{"a": -1 - i, "b": "bad" if i % 5 == 0 else 0.5} for i in range(120)]
    written.apply(JournalBatch(feedback=[FeedbackItem(0.0, features=json.dumps(row), label="odd") for row in rows]))
    written.close()
    return path


@pytest.mark.parametrize("delay", [0, 40, 150])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_feedback_is_part_of_the_stream_and_a_restart_keeps_the_numbers_of_its_rows(tmp_path, journal, delay, after):
    stream = csv_stream(tmp_path, 333, {3, 99, 230}, label_delay_rows=delay)
    before = list(rounds_of(ingestor(tmp_path, stream, journal=journal)))[: after + 1]
    again = ingestor(tmp_path, stream, journal=journal, position=before[-1][1].position, number=after + 1)
    rounds = [*before, *rounds_of(again, first=after + 1)]
    told = {}
    for part in ("test", "train"):
        found = [(int(row), float(x[0])) for batch, _ in rounds for row, x in zip(*rows_of(batch, part), strict=True)]
        assert len(found) == 330 + 96, "each good row once"
        assert len({row for row, _ in found}) == len({a for _, a in found}) == len(found)
        told[part] = dict(found)
    assert told["test"] == told["train"], "a row is learned under the number under which it was predicted"
    trained = OffsetSet(span for _, header in rounds for span in header.train_spans)
    quarantined = OffsetSet(o for _, header in rounds for o in header.quarantined)
    read = OffsetSet(o for _, header in rounds for o in header.read)
    assert (len(read), len(trained), len(quarantined)) == (333 + 120, 330 + 96, 3 + 24)
    assert again.finish() == {"not_finite": 3, "wrong_type": 24}


def rows_of(batch, part):
    rows = getattr(batch, part)
    return rows.row_N, rows.x_ND


def test_a_fresh_start_learns_what_the_journal_has_kept(tmp_path):
    path = tmp_path / "journal.sqlite"
    written = Journal(path, FeedbackConfig(keep_rows=50), lambda: 0.0)
    items = [FeedbackItem(0.0, features=json.dumps({"a": i}), label=i % 2) for i in range(1_200)]
    written.apply(JournalBatch(feedback=items))
    written.close()
    for _ in range(2):  # rows are deleted a second after they may be
        Journal(path, FeedbackConfig(keep_rows=50), lambda: 5.0).learned(1_200)
    rounds = list(rounds_of(ingestor(tmp_path, StreamConfig(kind="journal"), journal=path)))
    for kind in ("read", "train_spans"):
        found = OffsetSet(span for _, header in rounds for span in getattr(header, kind))
        assert [(span.start, span.stop) for span in found.ranges()] == [(0, 1_000), (1_150, 1_200)]
    assert rounds[-1][1].position.offsets == {"feedback": 1_200}


def test_started_again_it_refuses_to_begin_from_the_beginning(tmp_path):
    with pytest.raises(LostPlaceError, match="round 3 is asked for and 0 is next"):
        ingestor(tmp_path, csv_stream(tmp_path, 333)).next_round(3)


def test_a_repeated_call_repeats_the_answer(tmp_path):
    each = ingestor(tmp_path, csv_stream(tmp_path, 333))
    assert each.next_round(0) is each.next_round(0)


def test_a_paced_stream_gives_no_more_rows_than_its_pace_allows(tmp_path):
    clock = Clock()
    stream = StreamConfig(synthetic={"rate_rows_per_s": 200})
    each = ingestor(tmp_path, stream, clock=clock)
    rows = 0
    for number in range(40):
        rows += len(each.next_round(number)[0].test)
        assert rows <= 200 * clock.now + 1
    assert rows >= 200 * clock.now - 100, "it must not be slower than its pace either"


def test_a_stream_with_nothing_new_gives_an_empty_round_and_loses_nothing(tmp_path):
    stream = csv_stream(tmp_path, 120, follow=True)
    each = ingestor(tmp_path, stream)
    assert [len(each.next_round(n)[0].test) for n in range(3)] == [100, 20, 0]
    with open(stream.path, "a") as file:
        file.write("500,500,even\n")
    batch, header = each.next_round(3)
    assert batch.test.row_N.tolist() == [120] and not header.is_last


def test_a_stream_of_bad_rows_only_ends_with_all_of_them_set_aside(tmp_path):
    stream = csv_stream(tmp_path, 200, range(200), columns={"a": "numeric", "b": "numeric"})
    each = ingestor(tmp_path, stream)
    (_, header), *rest = rounds_of(each)
    assert rest == [] and header.is_last and header.test_rows == header.train_rows == 0
    assert OffsetSet(header.read).ranges() == OffsetSet(header.quarantined).ranges()
    assert each.finish() == {"not_finite": 200}


def test_a_stream_that_begins_with_ten_thousand_bad_rows_is_not_read_to_its_end(tmp_path):
    stream = csv_stream(tmp_path, 30_000, range(30_000), columns={"a": "numeric", "b": "numeric"})
    with pytest.raises(InputUnusableError, match=r"none of the first 1\d,\d+ rows can be used: .* not_finite; for example row"):
        list(rounds_of(ingestor(tmp_path, stream)))


def test_of_a_stream_without_an_end_bad_rows_reach_the_storage_within_seconds(tmp_path):
    clock = Clock()
    each = ingestor(tmp_path, csv_stream(tmp_path, 120, {3}, follow=True), clock=clock)
    each.next_round(0)
    assert not (tmp_path / "storage").exists()
    clock.now += 10.0
    each.next_round(1)
    assert pq.read_table(tmp_path / "storage/quarantine")["offset"].to_pylist() == [3]


def test_a_storage_that_fails_while_a_bad_row_is_set_aside_is_named(tmp_path):
    each = ingestor(tmp_path, csv_stream(tmp_path, 100, {3}))
    (tmp_path / "storage").write_text("in the way")
    list(rounds_of(each))
    with pytest.raises(LearningError, match=r"bad rows cannot be set aside in storage .*storage: .*make room there"):
        each.finish()


def test_excluded_rows_are_set_aside_and_end_nothing(tmp_path):
    position = StreamPosition(excluded=(OffsetRange("rows.csv", 40, 70), OffsetRange("another.csv", 0, 9)))
    each = ingestor(tmp_path, csv_stream(tmp_path, 100, on_bad_row="stop"), position=position)
    rounds = list(rounds_of(each))
    trained = [row for batch, _ in rounds for row in batch.train.row_N.tolist()]
    assert trained == [*range(40), *range(70, 100)]
    last = rounds[-1][1].position
    assert last.quarantined == {"excluded": 30} and StreamPosition.from_state(last.to_state()) == last


def test_on_bad_row_stop_ends_at_the_first_one_and_names_it(tmp_path):
    with pytest.raises(InputUnusableError, match=r"row 30 of rows\.csv.*stream\.on_bad_row"):
        list(rounds_of(ingestor(tmp_path, csv_stream(tmp_path, 100, {30, 60}, on_bad_row="stop"))))


def test_a_number_taken_for_a_class_is_noticed(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,class\n" + "".join(f"{i},{i}\n" for i in range(3000)))
    with pytest.raises(InputUnusableError, match=r"task\.kind: regression"):
        list(rounds_of(ingestor(tmp_path, StreamConfig(kind="files", path=str(path)))))


# --- orders: rows that wait, and rows that are set aside


def obeying(each, orders, first=0):
    """The rounds under `orders`, one each, the last of them for all that follow."""
    number = first
    while True:
        batch, header = each.next_round(number, orders[min(number, len(orders) - 1)])
        yield batch, header
        if header.is_last:
            return
        number += 1


def numbers(rounds, part):
    return np.concatenate([getattr(batch, part).row_N for batch, _ in rounds]).tolist()


@pytest.mark.parametrize("delay", [0, 30, 150])
def test_rows_wait_for_the_order_that_lets_them_and_are_scored_meanwhile(tmp_path, delay):
    orders = [Order(learn_before_row=50), Order(learn_before_row=50), Order(learn_before_row=240)]
    rounds = list(obeying(ingestor(tmp_path, csv_stream(tmp_path, 333, label_delay_rows=delay)), orders))
    assert numbers(rounds, "test") == numbers(rounds, "labels") == list(range(333))
    assert numbers(rounds, "train") == list(range(240))
    last = rounds[-1][1]
    assert last.backlog_rows == 333 - 240 and last.position.row == 240 and last.position.labelled_row == 333
    trained = OffsetSet(span for _, header in rounds for span in header.train_spans)
    assert len(trained) == 240
    for batch, header in rounds:
        assert len(batch.labels.y_N) == header.labelled_rows
        assert header.order is not None
    tested_ND, labelled_ND = (np.concatenate([getattr(b, part).x_ND for b, _ in rounds]) for part in ("test", "labels"))
    np.testing.assert_array_equal(labelled_ND, tested_ND, "versions are scored on rows that still wait")


def test_while_rows_that_have_waited_are_learned_no_others_are_predicted(tmp_path):
    orders = [Order(learn_before_row=0)] * 3 + [Order(learn_before_row=None)]
    rounds = list(obeying(ingestor(tmp_path, csv_stream(tmp_path, 900), round_rows=50), orders))
    sizes = [(len(batch.test), len(batch.labels), len(batch.train)) for batch, _ in rounds[:8]]
    assert sizes == [(100, 100, 0)] * 3 + [(0, 0, 100)] * 3 + [(100, 100, 100)] * 2
    assert rounds[6][0].test.x_ND is rounds[6][0].train.x_ND, "back in step, test and train share their arrays"
    assert numbers(rounds, "train") == list(range(900))


@pytest.mark.parametrize("delay", [0, 40, 150])
@pytest.mark.parametrize("after", [0, 2, 4, 7])
def test_a_restart_keeps_what_waits(tmp_path, delay, after):
    orders = [Order(learn_before_row=100)] * 5 + [Order(learn_before_row=250, set_aside=(SetAside(120, 180, "frozen"),))]
    stream = csv_stream(tmp_path, 700, {3, 99, 230}, label_delay_rows=delay)
    whole = list(obeying(ingestor(tmp_path, stream), orders))
    position = StreamPosition.from_state(unpack(pack(whole[after][1].position.to_state())))
    again = ingestor(tmp_path, stream, position=position, number=after + 1)
    rest = list(obeying(again, orders, first=after + 1))
    for part in ("test", "labels", "train"):
        assert numbers(rest, part) == numbers(whole[after + 1 :], part)
    assert rest[-1][1].position == whole[-1][1].position
    assert again.finish()["frozen"] == 60


def test_rows_that_are_set_aside_are_scored_but_not_learned_and_lie_in_quarantine(tmp_path):
    orders = [Order(learn_before_row=120)] * 3 + [Order(set_aside=(SetAside(120, 260, "broken_feed"),))]
    each = ingestor(tmp_path, csv_stream(tmp_path, 400, {200}))
    rounds = list(obeying(each, orders))
    kept = [*range(120), *range(260, 400)]
    assert numbers(rounds, "train") == kept
    assert numbers(rounds, "labels") == numbers(rounds, "test") == [row for row in range(400) if row != 200]
    settled = OffsetSet(o for _, header in rounds for o in (*header.train_spans, *header.quarantined))
    assert settled.ranges() == OffsetSet(o for _, header in rounds for o in header.read).ranges()
    assert rounds[-1][1].position.quarantined == {"broken_feed": 139, "not_finite": 1}
    each.finish()
    table = pq.read_table(tmp_path / "storage" / "quarantine").to_pylist()
    aside = [row for row in table if row["reason"] == "broken_feed"]
    assert [row["offset"] for row in aside] == [row for row in range(120, 260) if row != 200]
    assert json.loads(aside[0]["raw"]) == {"a": 120.0, "b": 240.0, "class": "even"}
    assert "rows 120 to 259" in aside[0]["message"]


def test_a_stream_that_ends_while_rows_wait_gives_the_order_time_to_come(tmp_path):
    each = ingestor(tmp_path, csv_stream(tmp_path, 90))
    wait, learn = Order(learn_before_row=0), Order(learn_before_row=90)
    assert not each.next_round(0, wait)[1].is_last
    assert not each.next_round(1, wait)[1].is_last
    batch, header = each.next_round(2, learn)
    assert batch.train.row_N.tolist() == list(range(90)) and not header.is_last
    assert [each.next_round(number, learn)[1].is_last for number in (3, 4)] == [False, True]
