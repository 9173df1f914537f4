"""What happens is told at once, written down, and comes back."""

from actors.audit_log import AuditLog
from actors.errors import LearningError
from actors.event_journal import EventJournal, events_of


def told(journal, after=-1):
    return [(event.kind, dict(event.data)) for event in journal.after(after)]


def test_events_come_back_in_their_order_and_ids_go_on(tmp_path):
    first = EventJournal(AuditLog(str(tmp_path)), lambda: 5.0)
    assert first.newest == -1
    first.tell([("drift", {"row": 7, "value": float("nan")}), ("restart", {"actor": "evaluator"})])
    first.record("promoted", {"version": 3, "by": "me"})
    again = EventJournal(AuditLog(str(tmp_path)), lambda: 1.0)  # a clock that was put back
    assert told(again) == [
        ("drift", {"row": 7, "value": None}), ("restart", {"actor": "evaluator"}), ("promoted", {"version": 3, "by": "me"}),
    ]  # fmt: skip
    before = again.newest
    assert before == first.newest
    again.tell([("drift", {"row": 9})])
    assert told(again, before) == [("drift", {"row": 9})]


def test_an_event_may_have_data_of_any_name(tmp_path):
    data = {"id": 1, "kind": "abrupt", "time": None}
    EventJournal(AuditLog(str(tmp_path)), lambda: 5.0).tell([("drift", data)])
    assert told(EventJournal(AuditLog(str(tmp_path)), lambda: 5.0)) == [("drift", data)]


def test_the_moves_are_remembered_however_much_else_happens(tmp_path):
    journal = EventJournal(AuditLog(str(tmp_path)), lambda: 5.0)
    journal.record("rolled_back", {"version": 3})
    journal.tell([("drift", {"row": row, "why": "x" * 600}) for row in range(4_000)])
    again = EventJournal(AuditLog(str(tmp_path)), lambda: 6.0)
    assert len(again.after(-1)) == 1_000 and again.moved_to == {3} == journal.moved_to


def test_what_storage_refuses_is_told_all_the_same_and_written_with_what_comes_next(tmp_path):
    log = AuditLog(str(tmp_path))
    journal = EventJournal(log, lambda: 5.0)

    def refuse(*entries):
        raise LearningError("no room")

    append, log.append = log.append, refuse
    journal.tell([("drift", {"row": 1})])
    assert told(journal) == [("drift", {"row": 1})] and log.read(10) == []
    log.append = append
    journal.record("promoted", {"version": 2})
    assert [entry["kind"] for entry in log.read(10)] == ["drift", "promoted"]


def test_entries_of_earlier_releases_are_events():
    found = events_of([{"time": 5.0, "kind": "promoted", "version": 1}, {"time": 5.0, "kind": "promoted", "version": 2}])
    assert [(event.id, event.data) for event in found] == [(5000, {"version": 1}), (5001, {"version": 2})]
