"""The desk where replicas wait for versions: what they are told, when a move counts as done, and what is kept."""

import threading

import numpy as np
import pytest
from waiting import wait_until

from actors.errors import NotFollowedError, UnknownVersionError
from actors.learning.models.config import ModelConfig
from actors.learning.promotion import Aliases, PromotionConfig
from actors.learning.schema import Column, ColumnKind, LabelType, Schema
from actors.learning.state import ModelState, layout_of
from actors.learning.task import TaskConfig
from actors.release_desk import Blueprint, Place, ReleaseDesk, ReplicaReport

SCHEMA = Schema((Column("a", ColumnKind.NUMERIC),), "class", LabelType.INTEGER)
BLUEPRINT = Blueprint(SCHEMA, TaskConfig(), ModelConfig(kind="linear"), 1, 1)


class Now:
    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


def a_state(version, weights=4):
    empty = BLUEPRINT.empty_state()
    layout = layout_of({"w": (weights,)})
    return ModelState(
        layout, np.zeros(weights, np.float32), {}, {}, empty.features, empty.target, np.zeros(2, np.int64), version=version
    )


def a_desk(policy="always", *, serves=True, now=None, **settings):
    return ReleaseDesk(
        PromotionConfig(policy=policy, **settings), BLUEPRINT, lambda state: [state], now or Now(), serves=serves
    )


def report(name="production-0", role="production", version=None, replica_id="x"):
    return ReplicaReport(name, role, replica_id, 1, "node", version)


class Follower(threading.Thread):
    """A replica that follows, as the real one does; `stop` ends it."""

    def __init__(self, desk, name="production-0", role="production"):
        super().__init__(daemon=True)
        self.desk, self.named, self.role = desk, name, role
        self.version, self.place, self.seen = None, None, []
        self.stopped = threading.Event()

    def run(self):
        while not self.stopped.is_set():
            release = self.desk.wait_release(report(self.named, self.role, self.version), self.place, 0.05)
            if release is not None:
                assert release.state[0].version == release.version
                self.version, self.place = release.version, release.place
                self.seen.append(release)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.join()


def test_a_replica_is_told_at_once_what_to_serve_and_then_only_of_changes():
    desk = a_desk()
    assert desk.wait_release(report(), None, 0.0) is None
    desk.committed(a_state(1), None)
    first = desk.wait_release(report(), None, 0.0)
    assert (first.version, first.blueprint) == (1, BLUEPRINT)
    assert desk.wait_release(report(version=1), first.place, 0.0) is None
    desk.committed(a_state(2), None)
    second = desk.wait_release(report(version=1), first.place, 0.0)
    assert (second.version, second.blueprint) == (2, None)


def test_a_desk_that_was_started_again_is_not_taken_for_the_one_before():
    desk, now = a_desk(), Now()
    desk.committed(a_state(1), None)
    old = desk.wait_release(report(), None, 0.0)
    now.seconds += 5
    again = a_desk(now=now)
    assert again.wait_release(report(version=1), old.place, 0.0) is None, "it must not take a version away"
    again.resume(Aliases(production=7, shadow=9), [a_state(7), a_state(9)])
    release = again.wait_release(report(version=1), old.place, 0.0)
    assert (release.version, release.blueprint, release.place.epoch != old.place.epoch) == (7, BLUEPRINT, True)


def test_production_and_shadow_follow_their_own_alias():
    desk = a_desk("manual")
    for version in (1, 2, 3):
        desk.committed(a_state(version), None)
    assert desk.wait_release(report(), None, 0.0).version == 1
    assert desk.wait_release(report("shadow-0", "shadow"), None, 0.0).version == 3


def test_a_move_is_done_once_every_live_production_replica_serves_it():
    desk = a_desk("manual")
    desk.committed(a_state(1), None)
    desk.committed(a_state(2), None)
    with Follower(desk) as one, Follower(desk, "production-1") as two, Follower(desk, "shadow-0", "shadow"):
        wait_until(lambda: one.version == two.version == 1, 10.0, "both replicas to serve")
        moved = desk.promote(2, "better", "me", 10.0)
        assert (moved.production, moved.previous) == (2, 1) and one.version == two.version == 2
        assert desk.rollback(None, "worse", "me", 10.0).production == 1 and one.version == two.version == 1
    events = desk.wait_events(report("gateway", "gateway"), -1, 0.0)
    assert [(e.kind, e.data["version"], e.data["reason"]) for e in events] == [
        ("promoted", 2, "better"),
        ("rolled_back", 1, "worse"),
    ]
    assert desk.wait_events(report("gateway", "gateway"), events[-1].id, 0.0) == []


def test_a_replica_that_does_not_follow_is_named():
    desk = a_desk("manual")
    desk.committed(a_state(1), None)
    desk.committed(a_state(2), None)
    desk.wait_release(report(version=1), Place("x", 1), 0.0)
    with pytest.raises(NotFollowedError, match=r"production is version 2 now, but production-0 has not followed within 0.1 s"):
        desk.promote(2, "", "me", 0.1)


def test_a_replica_that_takes_a_version_over_is_waited_for_longer_than_one_that_is_silent():
    desk = a_desk("manual")
    desk.committed(a_state(1), None)
    place = desk.wait_release(report("busy"), None, 0.0).place
    assert desk.wait_release(report("silent"), place, 0.0) is None
    wait_until(lambda: [each.name for each, is_alive in desk.reports() if is_alive] == ["busy"], 5, "one to be given up")


def test_only_versions_that_are_kept_can_be_moved_to():
    desk = a_desk("manual", keep_versions=3)
    with pytest.raises(UnknownVersionError, match="there is no version yet"):
        desk.promote(1, "", "me", 1.0)
    with pytest.raises(UnknownVersionError, match="no previous version"):
        desk.rollback(None, "", "me", 1.0)
    for version in range(1, 9):
        desk.committed(a_state(version), None)
    assert desk.kept == (1, 6, 7, 8), "the newest, and what production is"
    with pytest.raises(UnknownVersionError, match=r"version 4 is not kept: kept are the newest, 1 to 8 "):
        desk.rollback(4, "", "me", 1.0)


def test_a_version_from_storage_is_at_hand_while_an_alias_names_it():
    asked = []

    def fetch(version):
        asked.append(version)
        return a_state(version) if version < 5 else None

    desk = ReleaseDesk(PromotionConfig(keep_versions=3), BLUEPRINT, lambda s: [s], Now(), serves=False, fetch=fetch)
    for version in range(5, 10):
        desk.committed(a_state(version), None)
    for version in (1, 2, 3, 1, 4):
        assert desk.rollback(version, "", "me", 1.0).production == version
    assert (asked, desk.kept) == ([1, 2, 3, 1, 4], (4, 1, 7, 8, 9)), "what was moved away from twice is dropped, and no other"
    with pytest.raises(UnknownVersionError, match="version 6 is not kept"):
        desk.promote(6, "", "me", 1.0)
    assert desk.promote(None, "", "me", 1.0).production == 9, "the head"


def test_replicas_are_answered_while_a_version_is_read_from_storage():
    reading, read = threading.Event(), threading.Event()

    def fetch(version):
        reading.set()
        assert read.wait(10.0)
        return a_state(version)

    desk = ReleaseDesk(PromotionConfig(keep_versions=2), BLUEPRINT, lambda s: [s], Now(), serves=False, fetch=fetch)
    for version in range(5, 8):
        desk.committed(a_state(version), None)
    mover = threading.Thread(target=desk.rollback, args=(1, "", "me", 10.0))
    mover.start()
    assert reading.wait(10.0)
    with Follower(desk) as replica:
        wait_until(lambda: replica.version == 7, 10.0, "the replica to serve")
        for version in range(8, 12):
            desk.committed(a_state(version), None)
        read.set()
        wait_until(lambda: replica.version == 1, 10.0, "the replica to follow")
        mover.join(10.0)
    assert desk.aliases.production == 1 and not mover.is_alive()


def test_kept_versions_are_bounded_in_bytes_too():
    desk = a_desk(keep_bytes=10 * 400)
    for version in range(1, 30):
        desk.committed(a_state(version, weights=100), None)
    assert len(desk.kept) == 10 and desk.kept[-1] == 29


def test_freshness_lasts_from_the_label_to_the_last_production_replica():
    now = Now()
    desk = a_desk(now=now)
    desk.committed(a_state(1), None)
    places = {name: desk.wait_release(report(name), None, 0.0).place for name in ("production-0", "production-1")}
    for name, place in places.items():
        desk.wait_release(report(name, version=1), place, 0.0)
    desk.committed(a_state(2), arrived_at=999.0)
    now.seconds += 2
    desk.wait_release(report("production-0", version=2), None, 0.0)
    assert desk.take_freshness() == (), "production-1 still answers with version 1"
    desk.wait_release(report("production-1", version=2), None, 0.0)
    assert desk.take_freshness() == (3.0,) and desk.take_freshness() == ()


def test_without_replicas_freshness_ends_with_the_version():
    desk = a_desk(serves=False)
    desk.committed(a_state(1), arrived_at=999.5)
    assert desk.take_freshness() == (0.5,)


def test_a_waiting_replica_hears_of_a_version_while_it_waits():
    desk = a_desk()
    heard = []
    waiting = threading.Thread(target=lambda: heard.append(desk.wait_release(report(), None, 10.0)))
    waiting.start()
    desk.committed(a_state(1), None)
    waiting.join(10.0)
    assert heard[0].version == 1
