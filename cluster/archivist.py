"""When a version becomes durable: the state of every role at one point of the stream, handed to the version manager.

The loop asks `is_due`, brings home what is under way, and calls `commit`. The roles tell their state in their turn, behind
everything that came before; the version manager writes it on a thread of its own while learning goes on.
"""

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ray import ObjectRef

from actors.durable import EVALUATOR, Cut, replay_part
from actors.errors import LearningError
from actors.learning.lineage import OffsetSet
from actors.learning.promotion import Aliases
from actors.learning.versioning import VersionHistory
from actors.records import StreamPosition
from actors.release_desk import ARCHIVE_GROUP
from actors.version_store import Manifest
from cluster.calls import CALL_TIMEOUT_S, DEATHS, has_died, is_ready, value_of
from cluster.config import PerennialConfig, digest
from cluster.launch import System

logger = logging.getLogger(__name__)

_WRITE_TIMEOUT_S = 300.0
_RETRY_S = 5.0


@dataclass(frozen=True, slots=True)
class _Writing:
    """A version on its way to storage, and what the roles were asked for, by part."""

    manifest: ObjectRef
    cut: Cut
    states: Mapping[str, ObjectRef]


class Archivist:
    """`mend` is given the parts whose roles died before they could tell their state; it makes these what they were."""

    def __init__(self, config: PerennialConfig, system: System, mend: Callable[[Collection[str]], None]) -> None:
        self._config, self._system, self._mend = config, system, mend
        self.durable: Manifest | None = system.resumed.manifest if system.resumed else None
        self.position = system.resumed.position if system.resumed else StreamPosition()  # as of `durable`
        self.round = system.resumed.round if system.resumed else -1  # the last one in it
        self._writing: _Writing | None = None
        self._is_whole_needed = True
        self._last = time.monotonic()
        self._not_before = 0.0
        self.trigger = "time"  # what the next version is made durable for: rows, time, or the end of the run

    @property
    def offsets(self) -> Mapping[str, int]:
        """The next to be learned, as of `durable`."""
        return self.position.offsets

    def is_due(self, version: int, rows: int) -> bool:
        """Whether the head, `version`, is to be made durable now; `rows` it has learned."""
        now = time.monotonic()
        if self._writing is not None and is_ready(self._writing.manifest):
            try:
                self._take(CALL_TIMEOUT_S)
            except LearningError as error:
                logger.warning("%s", error)
        known, known_rows = (self.durable.version, self.durable.about["rows"]) if self.durable else (0, 0)
        if version == known or self._writing is not None or now < self._not_before:
            return False
        versions = self._config.versions
        is_full, is_late = rows - known_rows >= versions.commit_rows, now - self._last >= versions.commit_every_s
        self.trigger = "rows" if is_full else "time"
        return is_full or is_late

    def commit(
        self,
        version: int,
        rows: int,
        head: ObjectRef,
        place: tuple[int, StreamPosition],
        history: VersionHistory,
        aliases: Aliases,
        scores: Mapping[str, Any] | None,
    ) -> None:
        """Begins to make the head durable: `place` is the last round that is in it, and where the stream goes on."""
        about = {
            "rows": rows,
            "scores": scores,
            "trigger": self.trigger,
            "lineage": self._lineage(history),
            "aliases": aliases.names(),
            "excluded": [[offsets.partition, offsets.start, offsets.stop] for offsets in place[1].excluded],
            "schema": self._system.schema.to_json(),
            "task": self._config.task.model_dump(mode="json"),
            "model": self._config.model.model_dump(mode="json"),
            "optimizer": str(self._config.learners.optimizer.name),
            "config_digest": digest(self._config),
        }
        cut = Cut(version, *place, history.to_state(), aliases, about, self.durable)
        whole = self._is_whole_needed
        replays = {
            replay_part(at): member.handle.to_state.remote(whole=whole) for at, member in enumerate(self._system.replays)
        }
        evaluator = self._system.evaluator.handle.to_state.remote()
        archive = self._system.version_manager.handle.archive.options(concurrency_group=ARCHIVE_GROUP)
        manifest = archive.remote(cut, head, evaluator, *replays.values())
        self._writing = _Writing(manifest, cut, {EVALUATOR: evaluator, **replays})
        self._last = time.monotonic()

    def finish(self) -> None:
        """Waits for what is being written. Raises LearningError where storage refuses it; where a role died it is mended."""
        if self._writing is not None:
            self._take(_WRITE_TIMEOUT_S)

    def _take(self, timeout_s: float) -> None:
        assert self._writing is not None
        writing, cut, self._writing, self._is_whole_needed = self._writing, self._writing.cut, None, True
        try:
            manifest: Manifest = value_of(writing.manifest, timeout_s)
        except DEATHS as error:
            logger.warning("version %d has not become durable: %s", cut.version, error)
            self._mend([part for part, state in writing.states.items() if has_died(state)])
            return
        except LearningError as error:
            self._not_before = time.monotonic() + _RETRY_S
            raise LearningError(f"version {cut.version} has not become durable: {error}") from error
        self.durable, self.position, self.round = manifest, cut.position, cut.round
        self._is_whole_needed = not all(
            self._system.version_store.may_extend(manifest, part) for part in manifest.parts if part.startswith("replay-")
        )

    def _lineage(self, history: VersionHistory) -> dict[str, Any]:
        """What has been learned since the durable version before."""
        known = self.durable.version if self.durable else 0
        records = [record for record in history.records() if record.version > known]
        trained, shards = OffsetSet(), dict[str, int]()
        for contribution in (each for record in records for each in record.contributions):
            shards[str(contribution.shard)] = shards.get(str(contribution.shard), 0) + contribution.rows
            for offsets in contribution.trained:
                trained.add(offsets)
        return {
            "trained": trained.to_state(),  # start0, stop0, start1, stop1, ... by partition
            "shards": shards,  # rows by shard
            "digest": records[-1].digest if records else None,
        }
