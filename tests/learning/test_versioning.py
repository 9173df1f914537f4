"""The history as a state machine: whatever comes late, twice, stale or never, it neither loses count nor contradicts itself."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from actors.learning.lineage import OffsetRange
from actors.learning.part import pack, unpack
from actors.learning.versioning import ContributionRecord, Outcome, VersionHistory, VersionRecord

MAX_STALENESS = 3


def contribution(name, start, stop, base):
    return ContributionRecord(name, 0, base, stop - start, (OffsetRange("p", start, stop),), 0.5, 1.0)


def record(history, *contributions):
    rows = sum(c.rows for c in contributions)
    return VersionRecord(history.head + 1, history.head, 0, 0.0, rows, contributions, {"p": 0}, "")


class Histories(RuleBasedStateMachine):
    handed_out = Bundle("handed_out")

    def __init__(self):
        super().__init__()
        self.history = VersionHistory(MAX_STALENESS)
        self.at = 0
        self.learned, self.bad = set(), set()

    @rule(target=handed_out, rows=st.integers(1, 9), bad=st.booleans())
    def hand_out(self, rows, bad):
        start, stop = self.at, self.at + rows
        self.at = stop + bad
        quarantined = [OffsetRange("p", stop, stop + 1)] if bad else []
        self.bad |= {stop} if bad else set()
        self.history.saw([OffsetRange("p", start, self.at)], quarantined)
        return contribution(f"c{start}", start, stop, self.history.head)

    @rule(back=handed_out)
    def announce_again(self, back):
        (offsets,) = back.trained
        self.history.saw([offsets], [])

    @rule(one=handed_out)
    def commit(self, one):
        (offsets,) = one.trained
        outcome = self.history.judge(one)
        already = set(range(offsets.start, offsets.stop)) & self.learned
        if already:
            assert outcome is Outcome.REPEATED
        elif self.history.head - one.base_version > MAX_STALENESS:
            assert outcome is Outcome.STALE
        else:
            assert outcome is Outcome.ACCEPTED
            self.history.commit(record(self.history, one))
            self.learned |= set(range(offsets.start, offsets.stop))

    @rule()
    def start_again(self):
        """From what a durable version holds of it."""
        before, self.history = self.history, VersionHistory(MAX_STALENESS)
        self.history.restore(unpack(pack(before.to_state())))

    @rule(gone=consumes(handed_out))
    def never_arrive(self, gone):
        pass

    @invariant()
    def is_consistent(self):
        self.history.validate()
        counts = self.history.counts({"p": self.at})
        assert counts.read == self.at and counts.learned == len(self.learned) and counts.quarantined == len(self.bad)
        assert counts.lost == self.at - len(self.learned) - len(self.bad)
        assert counts.duplicated == 0 and counts.waiting == 0


Histories.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_histories_never_contradict_themselves = Histories.TestCase


def test_a_version_that_does_not_follow_the_head_is_refused():
    history = VersionHistory(MAX_STALENESS)
    history.commit(record(history, contribution("a", 0, 5, 0)))
    with pytest.raises(ValueError, match="does not follow the head, 1"):
        history.commit(VersionRecord(3, 2, 0, 0.0, 5, (), {}, ""))


def test_rows_that_were_committed_twice_are_counted_as_duplicated():
    history = VersionHistory(MAX_STALENESS)
    history.saw([OffsetRange("p", 0, 10)], [])
    history.commit(record(history, contribution("a", 0, 8, 0)))
    history.commit(record(history, contribution("b", 5, 10, 1)))
    assert history.counts({"p": 10}).duplicated == 3


def test_rows_behind_the_point_where_learning_goes_on_are_waiting_and_those_before_it_are_lost():
    history = VersionHistory(MAX_STALENESS)
    history.saw([OffsetRange("p", 0, 10)], [])
    history.commit(record(history, contribution("a", 2, 6, 0)))
    counts = history.counts({"p": 6})
    assert (counts.lost, counts.waiting) == (2, 4)


def test_the_usual_step_is_known_only_after_several():
    history = VersionHistory(MAX_STALENESS)
    for number in range(8):
        assert history.typical_delta_norm is None
        history.commit(record(history, contribution(f"c{number}", number * 5, number * 5 + 5, history.head)))
    assert history.typical_delta_norm == 1.0


def test_records_are_bounded_and_counts_are_not():
    history = VersionHistory(MAX_STALENESS, keep_records=4)
    for number in range(20):
        history.saw([OffsetRange("p", number, number + 1)], [])
        history.commit(record(history, contribution(f"c{number}", number, number + 1, history.head)))
    history.validate()
    assert [r.version for r in history.records()] == [17, 18, 19, 20]
    assert history.counts({"p": 20}).learned == 20
