"""What a run goes on from: the newest version, and what was said since it was made durable."""

import numpy as np
import pytest

from actors.audit_log import AuditLog
from actors.durable import Cut, commit
from actors.errors import ConfigError
from actors.event_journal import EventJournal
from actors.learning.promotion import Aliases
from actors.learning.running_stats import RunningStats
from actors.learning.schema import Column, ColumnKind, LabelType, Schema
from actors.learning.state import ModelState, layout_of
from actors.learning.versioning import VersionHistory
from actors.records import StreamPosition
from actors.version_store import VersionStore
from cluster.config import load_config
from cluster.resume import start_from

SCHEMA = Schema((Column("a", ColumnKind.NUMERIC),), "y", LabelType.INTEGER)


def a_state(version):
    layout = layout_of({"w": (2,)})
    statistics, none = RunningStats.empty(1), RunningStats.empty(0)
    weights = np.full(2, version, np.float32)
    return ModelState(layout, weights, {}, {}, statistics, none, np.ones(2, np.int64), (0, 1), 10 * version, version)


def a_config(folder, policy):
    return load_config(None, [f"storage={folder}", f"promotion.policy={policy}"])


def durable(folder, policy, versions, production, unknown=()):
    """Versions made durable while production was `production`, and the journal of that run, which had no keys `unknown`."""
    config, parent = a_config(folder, policy), None
    journal = EventJournal(AuditLog(str(folder)), lambda: 5.0)
    journal.tell([("started", {"version": 0, "rows": 0})])
    store = VersionStore(str(folder))
    for version in versions:
        about = {
            "rows": 10 * version, "scores": None, "lineage": {}, "aliases": {}, "schema": SCHEMA.to_json(),
            "task": config.task.model_dump(mode="json"),
            "model": {key: value for key, value in config.model.model_dump(mode="json").items() if key not in unknown},
            "optimizer": str(config.learners.optimizer.name),
        }  # fmt: skip
        aliases = Aliases(production, version, None)
        cut = Cut(version, version, StreamPosition(), VersionHistory(2).to_state(), aliases, about, parent)
        named = [a_state(production)] if production != version else []
        parent = commit(store, cut, 5.0, a_state(version), named, {}, [])
    return config, journal


def moved(journal, kind, version, held):
    journal.record(kind, {"version": version, "from": 0, "reason": "", "by": "me", "held": held})


def start(config):
    found = start_from(config, fresh=False, force=False)
    assert [state.version for state in found.states][-1] == 3, "the head comes last"
    assert found.aliases.production in {state.version for state in found.states}
    return found.aliases.production, found.aliases.is_held


@pytest.mark.parametrize("policy", ["always", "evidence", "manual"])
def test_a_rollback_outlives_a_crash_before_the_next_durable_version(tmp_path, policy):
    config, journal = durable(tmp_path, policy, (1, 2, 3), production=3)
    assert start(config) == (3, False)
    moved(journal, "promoted", 2, held=True)
    moved(journal, "rolled_back", 1, held=True)
    assert start(config) == (1, True)


def test_production_that_follows_the_newest_again_is_the_newest(tmp_path):
    config, journal = durable(tmp_path, "always", (1, 2, 3), production=3)
    moved(journal, "rolled_back", 1, held=True)
    moved(journal, "promoted", 2, held=False)  # it was the head then
    assert start(config) == (3, False)


def test_a_promotion_by_the_gate_outlives_a_crash_and_holds_nothing(tmp_path):
    config, journal = durable(tmp_path, "evidence", (1, 2, 3), production=1)
    moved(journal, "promoted", 2, held=False)
    assert start(config) == (2, False)


def test_a_move_to_what_has_been_lost_is_named_and_production_is_what_it_was(tmp_path, caplog):
    config, journal = durable(tmp_path, "manual", (1, 2, 3), production=1)
    moved(journal, "promoted", 4, held=True)
    assert start(config) == (1, False)
    assert "moved to version 4, which is not durable; it is version 1 again" in caplog.text


def test_moves_from_before_a_fresh_start_do_not_count(tmp_path):
    config, journal = durable(tmp_path, "manual", (1, 2, 3), production=3)
    moved(journal, "rolled_back", 1, held=True)
    journal.tell([("started", {"version": 0, "rows": 0}), ("started", {"version": 3, "rows": 30})])
    assert start(config) == (3, False)


def test_a_key_that_the_version_did_not_know_had_its_default(tmp_path):
    config, _ = durable(tmp_path, "always", [1, 2, 3], 3, unknown=("embedding_rows", "memory_rows"))
    assert start(config)[0] == 3
    other = config.model_copy(update={"model": config.model.model_copy(update={"embedding_rows": 4096})})
    with pytest.raises(ConfigError, match=r"embedding_rows is 4096, but version 3 .* was learned with 2048"):
        start(other)
