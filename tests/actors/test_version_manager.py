import numpy as np
import pytest

from actors.audit_log import AuditLog
from actors.durable import Cut, resumed
from actors.errors import LostPlaceError, UnknownVersionError
from actors.learner_config import LearnersConfig
from actors.learner_shard import LearnerShard
from actors.learning.consolidation import ConsolidationConfig
from actors.learning.dealing import deal, offsets_of
from actors.learning.lineage import OffsetRange
from actors.learning.models.config import ModelConfig
from actors.learning.promotion import Aliases, PromotionConfig
from actors.learning.retention import VersionsConfig
from actors.learning.schema import Column, ColumnKind, LabelType, Schema
from actors.learning.state import ModelState
from actors.learning.task import TaskConfig
from actors.learning.versioning import Outcome, VersionHistory
from actors.records import RoundBatch, RoundHeader, Rows, StreamPosition, Work
from actors.release_desk import Blueprint
from actors.version_manager import VersionManager
from actors.version_store import VersionStore

ROWS, SHARDS = 64, 2


@pytest.fixture
def shard():
    return LearnerShard(ModelConfig(kind="linear"), LearnersConfig(shards=SHARDS, micro_batch_rows=8), TaskConfig(), 3, seed=1)


@pytest.fixture
def manager(tmp_path):
    ticks = iter(range(10**6))
    return a_manager(tmp_path, lambda: float(next(ticks)))


def a_manager(folder, clock, keep_last=2):
    columns = tuple(Column(name, ColumnKind.NUMERIC) for name in "abc")
    blueprint = Blueprint(Schema(columns, "class", LabelType.STRING), TaskConfig(), ModelConfig(kind="linear"), 3, 1)
    config = ConsolidationConfig(max_staleness=2)
    return VersionManager(
        config, PromotionConfig(keep_versions=2), blueprint, SHARDS, lambda state: [state], clock,
        serves=False, storage=str(folder), versions=VersionsConfig(keep_last=keep_last, keep_hourly=0, keep_daily=0),
    )  # fmt: skip


def a_round(number):
    rng = np.random.default_rng(number)
    x = rng.normal(size=(ROWS, 3)).astype(np.float32)
    first = number * ROWS
    rows = Rows(np.arange(first, first + ROWS), x, (x[:, 0] > 0).astype(np.int64))
    span = OffsetRange("p", first, first + ROWS)
    position = StreamPosition(offsets={"p": first + ROWS}, row=first + ROWS, tested_row=first + ROWS, classes=("no", "yes"))
    header = RoundHeader(number, ROWS, ROWS, (span,), (span,), (), position, False)
    batch = RoundBatch(number, Rows(rows.row_N, x, None), rows, ("no", "yes"))
    hands = deal(ROWS, SHARDS, 8)
    works = [Work(f"{number}/{k}", number, k, tuple(h), tuple(h), offsets_of(h, (span,)), 0, 0) for k, h in enumerate(hands)]
    return header, batch, works


def contributions(shard, base, number):
    header, batch, works = a_round(number)
    done = [shard.learn(work, base, batch, None) for work in works]
    return header, [receipt for _, _, receipt, _ in done], [change for change, *_ in done]


def test_a_round_becomes_a_version_with_its_lineage(shard, manager):
    header, receipts, changes = contributions(shard, manager.head_state(), 0)
    commit, head = manager.commit(header, *receipts, *changes)
    assert (commit.version, head.version, head.rows) == (1, 1, ROWS)
    (record,) = manager.versions(10)
    assert record["parent"] == 0 and record["offsets"] == {"p": ROWS} and record["digest"] == head.digest()
    assert [c["shard"] for c in record["contributions"]] == [0, 1] and not record["is_durable"]
    counts = manager.counts()
    assert (counts.read, counts.learned, counts.lost, counts.duplicated) == (ROWS, ROWS, 0, 0)


def test_the_same_contributions_again_change_nothing(shard, manager):
    header, receipts, changes = contributions(shard, manager.head_state(), 0)
    _, first = manager.commit(header, *receipts, *changes)
    commit, again = manager.commit(header, *receipts, *changes)
    assert again is first and {j.outcome for j in commit.judgements} == {Outcome.REPEATED}
    assert manager.counts().duplicated == 0


def test_a_poisoned_contribution_is_refused_and_its_rows_are_counted_as_lost(shard, manager):
    header, receipts, changes = contributions(shard, manager.head_state(), 0)
    changes[0].flat_P[0] = np.nan
    commit, head = manager.commit(header, *receipts, *changes)
    assert [j.outcome for j in commit.judgements] == [Outcome.REFUSED, Outcome.ACCEPTED]
    assert "not finite" in commit.judgements[0].reason
    assert np.isfinite(head.flat_P).all()
    assert manager.counts().lost == receipts[0].trained_rows


def test_a_late_contribution_is_taken_while_its_base_is_kept_and_refused_after(shard, manager):
    base = manager.head_state()
    _, late_receipts, late_changes = contributions(shard, base, 9)
    for number in range(2):
        header, receipts, changes = contributions(shard, manager.head_state(), number)
        manager.commit(header, *receipts, *changes)
    commit, _ = manager.commit(a_round(9)[0], late_receipts[0], late_changes[0])
    assert commit.judgements[0].outcome is Outcome.ACCEPTED and commit.version == 3
    commit, _ = manager.commit(a_round(9)[0], late_receipts[1], late_changes[1])
    assert commit.judgements[0].outcome is Outcome.STALE and commit.version == 3


def test_started_again_it_goes_on_from_the_last_version_and_knows_what_was_learned(shard, manager, tmp_path):
    mirror, head = VersionHistory(2), manager.head_state()
    for number in range(3):
        header, receipts, changes = contributions(shard, head, number)
        commit, head = manager.commit(header, *receipts, *changes)
        mirror.saw(header.read, header.quarantined)
        mirror.commit(commit.record)
    again = a_manager(tmp_path, lambda: 0.0)
    again.resume(mirror, commit.aliases, head)
    assert again.aliases() == commit.aliases == Aliases(production=3, shadow=3, previous=2)
    commit, _ = again.commit(header, *receipts, *changes)
    assert commit.version == 3 and {j.outcome for j in commit.judgements} == {Outcome.REPEATED}
    header, receipts, changes = contributions(shard, head, 3)
    commit, _ = again.commit(header, *receipts, *changes)
    assert commit.version == 4 and again.counts().learned == 4 * ROWS and again.counts().lost == 0


def test_resuming_a_manager_that_knows_more_changes_nothing(shard, manager):
    first = manager.head_state()
    header, receipts, changes = contributions(shard, first, 0)
    manager.commit(header, *receipts, *changes)
    manager.resume(VersionHistory(2), Aliases(), first)
    assert manager.head_state().version == 1


def archived(manager, header, head, parent, evaluator=None):
    """As the supervisor has it made durable."""
    about = {"rows": head.rows, "aliases": manager.aliases().names(), "schema": manager.blueprint().schema.to_json()}
    cut = Cut(head.version, header.round, header.position, VersionHistory(2).to_state(), manager.aliases(), about, parent)
    return manager.archive(cut, head, evaluator or {"scores": [1]}, {"whole": True, "rows": [2]})


def test_durable_versions_can_be_gone_back_to_and_the_oldest_without_a_name_are_deleted(shard, manager, tmp_path):
    heads, manifest, store = [], None, VersionStore(str(tmp_path))
    for number in range(6):
        header, receipts, changes = contributions(shard, manager.head_state(), number)
        _, head = manager.commit(header, *receipts, *changes)
        heads.append(head)
        manifest = archived(manager, header, head, manifest)
        if number == 2:
            manager.promote(2, "good", "a test", 1.0)
            manager.promote(None, "go on", "a test", 1.0)
    assert store.versions() == [2, 3, 5, 6], "those that production was moved to, and the newest two"
    assert manager.state(3) is None
    moved = manager.rollback(3, "it was better", "a test", 1.0)
    assert (moved.production, manager.aliases().production) == (3, 3)
    assert manager.state(3).digest() == heads[2].digest()
    with pytest.raises(UnknownVersionError, match="version 4 is not kept"):
        manager.rollback(4, "", "a test", 1.0)
    told = [(entry["kind"], entry["version"], entry["by"], entry["reason"]) for entry in AuditLog(str(tmp_path)).read(10)]
    assert told == [
        ("promoted", 2, "a test", "good"),
        ("promoted", 3, "a test", "go on"),
        ("rolled_back", 3, "a test", "it was better"),
    ]
    listed = manager.versions(10)
    assert [(each["version"], each["is_durable"]) for each in listed] == [
        (6, True), (5, True), (4, False), (3, True), (2, True), (1, False),
    ]  # fmt: skip
    found = resumed(store, manifest)
    assert found.states[-1].digest() == heads[5].digest() and found.position == header.position and found.round == 5
    assert (found.evaluator, found.replays) == ({"scores": [1]}, ([{"whole": True, "rows": [2]}],))


def test_started_again_it_finds_the_version_that_production_is_held_at(shard, manager, tmp_path):
    manifest = None
    for number in range(5):
        header, receipts, changes = contributions(shard, manager.head_state(), number)
        _, head = manager.commit(header, *receipts, *changes)
        manifest = archived(manager, header, head, manifest)
        if number == 1:
            manager.promote(1, "hold it", "a test", 1.0)
    again = a_manager(tmp_path, lambda: 0.0)
    history = VersionHistory(2)
    history.head = head.version
    again.resume(history, manager.aliases(), head)
    assert again.aliases().production == 1
    assert again.state(1).digest() == manager.state(1).digest()


def test_versions_from_before_it_was_started_are_told_of_and_can_be_moved_to(shard, manager, tmp_path):
    manifest = None
    for number in range(4):
        header, receipts, changes = contributions(shard, manager.head_state(), number)
        _, head = manager.commit(header, *receipts, *changes)
        manifest = archived(manager, header, head, manifest)
        if number == 0:
            manager.promote(1, "hold it", "a test", 1.0)
            manager.promote(None, "go on", "a test", 1.0)
    again, history = a_manager(tmp_path, lambda: 0.0), VersionHistory(2)
    history.head = head.version
    again.resume(history, manager.aliases(), head)
    assert [(each["version"], each["rows"], each["aliases"]) for each in again.versions(2)] == [
        (4, 4 * ROWS, ["production", "shadow"]), (3, 3 * ROWS, ["previous"]),
    ]  # fmt: skip
    assert [each["version"] for each in again.versions(10, below=3)] == [1], "2 has no name and is not kept"
    found = again.version(1)
    assert found["durable"]["schema"]["label"] == "class" and found["durable"]["files"][0]["version"] == 1
    assert again.version(2) is None
    assert again.rollback(1, "older than this run", "a test", 1.0).production == 1
    assert again.version(1)["aliases"] == ["production"]


def test_what_was_best_on_a_past_regime_is_kept(shard, manager, tmp_path):
    manifest, past = None, [{"best_version": 3}, {"best_version": None}]
    for number in range(8):
        header, receipts, changes = contributions(shard, manager.head_state(), number)
        _, head = manager.commit(header, *receipts, *changes)
        if number + 1 != 3:
            manifest = archived(manager, header, head, manifest, {"regimes": {"past": past}})
    assert VersionStore(str(tmp_path)).versions() == [2, 7, 8], "the durable one before version 3, and the newest"


def test_many_versions_are_gone_through_now_and_then_and_never_exceed_what_is_kept_by_much(shard, tmp_path):
    manager, manifest, store, held = a_manager(tmp_path, lambda: 0.0, keep_last=32), None, VersionStore(str(tmp_path)), []
    for number in range(40):
        header, receipts, changes = contributions(shard, manager.head_state(), number)
        _, head = manager.commit(header, *receipts, *changes)
        manifest = archived(manager, header, head, manifest)
        held.append(len(store.versions()))
    assert held[30:] == [31, 32, 33, 34, 32, 33, 34, 32, 33, 34]


def test_old_states_are_dropped(shard, manager):
    for number in range(12):
        header, receipts, changes = contributions(shard, manager.head_state(), number)
        manager.commit(header, *receipts, *changes)
    assert sorted(manager._states) == [10, 11, 12]


def test_the_same_work_on_the_same_version_gives_the_same_answer_on_any_shard(shard):
    _, batch, works = a_round(0)
    other = LearnerShard(ModelConfig(kind="linear"), LearnersConfig(shards=SHARDS, micro_batch_rows=8), TaskConfig(), 3, seed=1)
    other.learn(works[1], ModelState.empty(3, 0), batch, None)
    changes = [each.learn(works[0], ModelState.empty(3, 0), batch, None)[0] for each in (shard, other, shard)]
    for change in changes[1:]:
        np.testing.assert_array_equal(change.flat_P, changes[0].flat_P)


def test_a_stop_is_heard_with_the_next_commit_and_the_next_status(shard, manager):
    manager.request_stop()
    header, receipts, changes = contributions(shard, manager.head_state(), 0)
    assert manager.commit(header, *receipts, *changes)[0].stop_requested


def test_a_version_manager_that_was_started_again_builds_on_nothing_before_it_is_told_the_head(shard, manager, tmp_path):
    first = manager.head_state()
    header, receipts, changes = contributions(shard, first, 0)
    _, head = manager.commit(header, *receipts, *changes)
    following, receipts, changes = contributions(shard, head, 1)
    blank = a_manager(tmp_path, lambda: 0.0)
    with pytest.raises(LostPlaceError, match="version 1 is built on and 0 is the head"):
        blank.commit(following, *receipts, *changes)
    with pytest.raises(LostPlaceError):
        archived(blank, header, head, None)
    assert VersionStore(str(tmp_path)).versions() == []
    assert manager.commit(following, *receipts, *changes)[0].version == 2


def test_a_mark_is_the_same_model_as_a_version_further_on_in_the_stream(shard, manager, tmp_path):
    header, receipts, changes = contributions(shard, manager.head_state(), 0)
    _, before = manager.commit(header, *receipts, *changes)
    further = a_round(1)[0]
    manager.saw(further)
    commit, marked = manager.mark(1, 1, further.position)
    assert (commit.version, marked.version, commit.rows, commit.receipts) == (2, 2, ROWS, ())
    assert np.array_equal(marked.flat_P, before.flat_P)
    assert commit.record.contributions == () and commit.record.offsets == further.position.offsets
    manager._history.validate()
    again = a_manager(tmp_path / "again", lambda: 0.0)
    with pytest.raises(LostPlaceError):
        again.mark(2, 1, further.position)
