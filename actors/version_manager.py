"""The version manager: the only writer of history.

Receives receipts and changes from the supervisor. Returns the new version to whoever committed it. Holds the head, the few
versions that late contributions may start from, and the lineage of all. It decides; consolidating a round is one pass over
the shards' vectors. Its release desk, on threads of its own, tells replicas what to serve. If it dies, Ray starts it again
and the supervisor tells it the last versions it got, the history and the aliases. On a thread of its own it writes durable
versions to storage, and deletes old ones.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from actors.audit_log import AuditLog
from actors.catalogue import Catalogue, Document, by_version
from actors.durable import Cut, commit, model_of
from actors.errors import DamagedVersionError, LearningError, LostPlaceError
from actors.event_journal import Event
from actors.learning.consolidation import ConsolidationConfig, Contribution, consolidate, refusal
from actors.learning.gate.gate import Decision
from actors.learning.part import Tree
from actors.learning.promotion import Aliases, PromotionConfig
from actors.learning.retention import VersionsConfig, kept
from actors.learning.state import LocalChange, ModelState
from actors.learning.versioning import ContributionRecord, Outcome, RowCounts, VersionHistory, VersionRecord
from actors.records import Receipt, RoundHeader, StreamPosition
from actors.release_desk import Blueprint, Moved, Place, Release, ReleaseDesk, ReplicaReport
from actors.status import MetricFamily, Snapshot
from actors.version_store import Manifest, VersionStore

_SURPLUS = 16  # durable versions are a sixteenth more than are to be kept, at most

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Judgement:
    contribution_id: str
    outcome: Outcome
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """What became of a round's contributions, and the head afterwards."""

    version: int
    rows: int
    record: VersionRecord | None  # of the new version; None where nothing was accepted
    receipts: tuple[Receipt, ...]
    judgements: tuple[Judgement, ...]
    seconds: float  # spent on consolidating
    stop_requested: bool
    aliases: Aliases
    kept: tuple[int, ...]  # versions that can be promoted or rolled back to


@dataclass(frozen=True, slots=True)
class DeskNews:
    """What the supervisor learns in return for its status."""

    stop_requested: bool
    head: int
    aliases: Aliases
    replicas: tuple[tuple[ReplicaReport, bool], ...]  # and whether each is alive
    freshness_s: tuple[float, ...]
    moves: Mapping[str, int]  # of production, and rejected shadows, so far


class VersionManager:
    def __init__(
        self,
        config: ConsolidationConfig,
        promotion: PromotionConfig,
        blueprint: Blueprint,
        shards: int,
        share: Callable[[ModelState], Any],
        clock: Callable[[], float],
        serves: bool,
        storage: str,
        versions: VersionsConfig,
    ) -> None:
        self._config, self._shards, self._clock, self._versions = config, shards, clock, versions
        self._store = VersionStore(storage)
        self._catalogue = Catalogue(VersionStore(storage))  # with a store of its own: it reads on other threads
        self._created_at: dict[int, float] = {}  # of the durable versions that were committed here, or gone through
        self._unread: list[int] | None = None  # those that were there before
        self._kept_last = versions.keep_last  # of both, when they were gone through; so many are kept in any case
        self._history = VersionHistory(config.max_staleness)
        self._desk = ReleaseDesk(promotion, blueprint, share, clock, serves=serves, audit=AuditLog(storage), fetch=self._fetch)
        head = blueprint.empty_state()
        self._states: dict[int, ModelState] = {head.version: head}
        self._status: Snapshot | None = None
        self._metrics: Sequence[MetricFamily] = ()
        self._stop_requested = False
        self._offsets: Mapping[str, int] = {}

    def resume(self, history: VersionHistory, aliases: Aliases, *states: ModelState) -> None:
        """Goes on from the newest of `states` and its history, unless it knows of newer ones: it was started again."""
        head = max(states, key=lambda state: state.version)
        if head.version > self._history.head:
            self._history, self._states = history, {head.version: head}
            self._desk.resume(aliases, states)

    def saw(self, header: RoundHeader) -> None:
        """Takes note of what the ingestor has read."""
        self._history.saw(header.read, header.quarantined)
        self._offsets = header.position.offsets

    def commit(self, header: RoundHeader, *contributions: Receipt | LocalChange) -> tuple[Commit, ModelState]:
        """Computes a candidate from the acceptable contributions, checks it, and only then makes it the head.

        `contributions` are the receipts, then in the same order the changes: as arguments of their own, so that Ray brings
        each when it is there. The round need not be known to have gone well when its commit is asked for.
        Calling it again with the same contributions changes nothing and returns the same head. Raises LostPlaceError where a
        contribution builds on a version that is yet to come: this version manager was started again, and not told to `resume`.
        """
        started = self._clock()
        receipts = tuple(part for part in contributions if isinstance(part, Receipt))
        changes = tuple(part for part in contributions if isinstance(part, LocalChange))
        self._check_place(max((receipt.base_version for receipt in receipts), default=0))
        self.saw(header)
        judged = [self._judge(receipt, change) for receipt, change in zip(receipts, changes, strict=True)]
        accepted = [
            (receipt, change)
            for receipt, change, judgement in zip(receipts, changes, judged, strict=True)
            if judgement.outcome is Outcome.ACCEPTED
        ]
        record = self._append(header, accepted) if any(change.rows for _, change in accepted) else None
        head = self._states[self._history.head]
        return self._told(record, receipts, tuple(judged), self._clock() - started), head

    def _told(
        self,
        record: VersionRecord | None,
        receipts: tuple[Receipt, ...],
        judgements: tuple[Judgement, ...],
        seconds: float,
    ) -> Commit:
        head = self._states[self._history.head]
        return Commit(
            version=head.version,
            rows=head.rows,
            record=record,
            receipts=receipts,
            judgements=judgements,
            seconds=seconds,
            stop_requested=self._stop_requested,
            aliases=self._desk.aliases,
            kept=self._desk.kept,
        )

    def mark(self, version: int, round_number: int, position: StreamPosition) -> tuple[Commit, ModelState]:
        """The weights of the head, `version`, as a version further on in the stream: rows have been predicted and scored since
        then, and none was learned. Raises LostPlaceError as `commit`.
        """
        self._check_place(version)
        self._offsets = position.offsets
        head = self._history.head
        candidate = replace(self._states[head], version=head + 1)
        record = self._add(candidate, round_number, (), position.offsets, None)
        return self._told(record, (), (), 0.0), candidate

    def _check_place(self, version: int) -> None:
        if version > self._history.head:
            raise LostPlaceError(f"version {version} is built on and {self._history.head} is the head: resume from the newest")

    def _judge(self, receipt: Receipt, change: LocalChange) -> Judgement:
        outcome, reason = self._history.judge(_record(receipt)), None
        if outcome is Outcome.ACCEPTED:
            base = self._states.get(receipt.base_version)
            if base is None:  # gone with an earlier version manager
                outcome = Outcome.STALE
            else:
                usual, limit = self._history.typical_delta_norm, self._config.max_delta_ratio
                reason = refusal(base, change, receipt.delta_norm, usual, limit)
                outcome = Outcome.REFUSED if reason else outcome
        if outcome is not Outcome.ACCEPTED:
            logger.warning("contribution %s %s: %s", receipt.work.contribution_id, outcome, reason or "see its lineage")
        return Judgement(receipt.work.contribution_id, outcome, reason)

    def _append(self, header: RoundHeader, accepted: list[tuple[Receipt, LocalChange]]) -> VersionRecord:
        head = self._history.head
        candidate = consolidate(
            self._states[head],
            [Contribution(self._states[r.base_version], head - r.base_version, change) for r, change in accepted],
            self._shards,
            self._config,
        )
        contributions = tuple(_record(receipt) for receipt, _ in accepted)
        candidate = replace(candidate, version=head + 1)
        return self._add(candidate, header.round, contributions, header.position.offsets, header.arrived_at)

    def _add(
        self,
        candidate: ModelState,
        round_number: int,
        contributions: tuple[ContributionRecord, ...],
        offsets: Mapping[str, int],
        arrived_at: float | None,
    ) -> VersionRecord:
        """Makes the candidate the head."""
        head = self._history.head
        self._states[candidate.version] = candidate
        record = VersionRecord(
            version=candidate.version,
            parent=head,
            round=round_number,
            created_at=self._clock(),
            rows=candidate.rows,
            contributions=contributions,
            offsets=offsets,
            digest=candidate.digest(),
        )
        self._history.commit(record)
        self._desk.committed(candidate, arrived_at)
        self._states.pop(head - self._config.max_staleness, None)
        return record

    # --- durable versions: on a thread of its own

    def archive(self, cut: Cut, head: ModelState, evaluator: Tree, *replays: Tree) -> Manifest:
        """Makes the head durable, as it was at the cut. LearningError where storage refuses, LostPlaceError as `commit`."""
        self._check_place(cut.version)
        named = {cut.aliases.production, cut.aliases.previous} - {None, head.version}
        states = [state for version in sorted(filter(None, named)) if (state := self._desk.state(version)) is not None]
        manifest = commit(self._store, cut, self._clock(), head, states, evaluator, replays)
        self._sweep(manifest, _best_on_regimes(evaluator))
        return manifest

    def _sweep(self, newest: Manifest, best: Collection[int]) -> None:
        self._created_at[newest.version] = newest.created_at
        if self._unread is None:
            self._unread = [version for version in self._store.versions() if version != newest.version]
        if len(self._unread) + len(self._created_at) <= self._kept_last + self._kept_last // _SURPLUS:
            return  # what is kept is gone through now and then, lest a commit take longer the more there is
        while self._unread:
            version = self._unread.pop()
            with suppress(DamagedVersionError):
                self._created_at[version] = self._store.manifest(version).created_at
        # Of a version that was best on a past regime and is not durable itself, the durable one before it is kept.
        before = [max((v for v in self._created_at if v <= version), default=None) for version in best]
        named = {version for version in (*self._desk.aliases.names().values(), *before) if version is not None}
        keep = kept(self._created_at, self._versions, self._clock(), named | self._desk.moved_to)
        if len(keep) < len(self._created_at):
            self._store.sweep(keep)
            self._created_at = {version: self._created_at[version] for version in keep}
        self._kept_last = len(keep)

    def _fetch(self, version: int) -> ModelState | None:
        """A durable version, None where there is none or it is damaged."""
        try:
            return model_of(self._store, self._store.manifest(version))
        except (DamagedVersionError, LearningError) as error:
            logger.warning("version %d cannot be fetched: %s", version, error)
            return None

    def head_state(self) -> ModelState:
        return self._states[self._history.head]

    def blueprint(self) -> Blueprint:
        return self._desk.blueprint

    def state(self, version: int) -> ModelState | None:
        """A version that is kept."""
        return self._desk.state(version)

    def counts(self, version: int = 0) -> RowCounts:
        """Of everything up to the head, `version`. Raises LostPlaceError as `commit`."""
        self._check_place(version)
        return self._history.counts(self._offsets)

    # --- where the outside asks

    def publish_status(self, status: Snapshot, metrics: Sequence[MetricFamily]) -> DeskNews:
        """The supervisor's view of the whole system, in return for news."""
        self._status, self._metrics = status, metrics
        desk = self._desk
        return DeskNews(
            stop_requested=self._stop_requested,
            head=self._history.head,
            aliases=desk.aliases,
            replicas=desk.reports(),
            freshness_s=desk.take_freshness(),
            moves=dict(desk.moves),
        )

    def status(self) -> Snapshot | None:
        return self._status

    def metrics(self) -> Sequence[MetricFamily]:
        return self._metrics

    def request_stop(self) -> None:
        self._stop_requested = True

    def aliases(self) -> Aliases:
        return self._desk.aliases

    # --- where replicas and people wait: to be called on threads of their own

    def versions(self, newest: int, below: int | None = None) -> list[Document]:
        """The newest, newest first; `below`: of those with smaller numbers. This run's, and the durable ones."""
        records = {r.version: r for r in self._history.records() if below is None or r.version < below}
        durable = set(self._catalogue.versions(below))
        names = by_version(self.aliases().names())
        return [
            {
                **(asdict(records[version]) if version in records else self._catalogue.summary(version)),
                "is_durable": version in durable,
                "aliases": names.get(version, []),
            }
            for version in sorted(records.keys() | durable, reverse=True)[:newest]
        ]

    def version(self, number: int) -> Document | None:
        """What is known of it; `durable` is its manifest, where it has one. None where there is no such version any more."""
        record = next((record for record in self._history.records() if record.version == number), None)
        durable = self._manifest_of(number)
        if record is not None:
            found = asdict(record)
        elif durable is not None:
            found = self._catalogue.summary(number)
        elif (state := self._desk.state(number)) is not None:  # an alias names it, and it was never durable by itself
            found = {"version": number, "rows": state.rows, "digest": state.digest()}
        else:
            return None
        names = by_version(self.aliases().names()).get(number, [])
        return {**found, "is_durable": durable is not None, "aliases": names, "durable": durable}

    def _manifest_of(self, number: int) -> Document | None:
        try:
            return self._catalogue.whole(number)
        except DamagedVersionError as error:
            if number in self._catalogue.versions():
                logger.warning("%s", error)
            return None

    def wait_release(self, report: ReplicaReport, have: Place | None, timeout_s: float) -> Release | None:
        return self._desk.wait_release(report, have, timeout_s)

    def wait_events(self, report: ReplicaReport, after: int, timeout_s: float) -> Sequence[Event]:
        return self._desk.wait_events(report, after, timeout_s)

    def promote(self, version: int | None, reason: str, by: str, timeout_s: float) -> Moved:
        return self._desk.promote(version, reason, by, timeout_s)

    def rollback(self, version: int | None, reason: str, by: str, timeout_s: float) -> Moved:
        return self._desk.rollback(version, reason, by, timeout_s)

    def decide(self, decision: Decision) -> None:
        self._desk.decide(decision)

    def tell(self, events: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        self._desk.tell(events)


def _best_on_regimes(evaluator: Tree) -> list[int]:
    past = (evaluator.get("regimes") or {}).get("past", ())
    return [regime["best_version"] for regime in past if regime["best_version"] is not None]


def _record(receipt: Receipt) -> ContributionRecord:
    work = receipt.work
    return ContributionRecord(
        work.contribution_id,
        work.shard,
        receipt.base_version,
        receipt.trained_rows,
        work.trained,
        receipt.mean_loss,
        receipt.delta_norm,
    )
