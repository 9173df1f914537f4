"""The version manager: the only writer of history.

Receives receipts and changes from the supervisor. Returns the new version to whoever committed it. Holds the head, the few
versions that late contributions may start from, and the lineage of all. It decides; consolidating a round is one pass over
the shards' vectors. If it dies, Ray starts it again and the supervisor tells it the last version it got and the history.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from actors.learning.consolidation import ConsolidationConfig, Contribution, consolidate, refusal
from actors.learning.state import LocalChange, ModelState
from actors.learning.versioning import ContributionRecord, Outcome, RowCounts, VersionHistory, VersionRecord
from actors.records import Receipt, RoundHeader
from actors.status import Snapshot

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


class VersionManager:
    def __init__(
        self,
        config: ConsolidationConfig,
        shards: int,
        head: ModelState,
        clock: Callable[[], float],
    ) -> None:
        self._config, self._shards, self._clock = config, shards, clock
        self._history = VersionHistory(config.max_staleness)
        self._states: dict[int, ModelState] = {head.version: head}
        self._status: Snapshot | None = None
        self._stop_requested = False
        self._offsets: Mapping[str, int] = {}

    def resume(self, head: ModelState, history: VersionHistory) -> None:
        """Goes on from version `head` and its history, unless it knows of newer ones: it was started again."""
        if head.version > self._history.head:
            self._history, self._states = history, {head.version: head}

    def saw(self, header: RoundHeader) -> None:
        """Takes note of what the ingestor has read."""
        self._history.saw(header.read, header.quarantined)
        self._offsets = header.position.offsets

    def commit(self, header: RoundHeader, *contributions: Receipt | LocalChange) -> tuple[Commit, ModelState]:
        """Computes a candidate from the acceptable contributions, checks it, and only then makes it the head.

        `contributions` are the receipts, then in the same order the changes: as arguments of their own, so that Ray brings
        each when it is there. The round need not be known to have gone well when its commit is asked for.
        Calling it again with the same contributions changes nothing and returns the same head.
        """
        started = self._clock()
        receipts = tuple(part for part in contributions if isinstance(part, Receipt))
        changes = tuple(part for part in contributions if isinstance(part, LocalChange))
        self.saw(header)
        judged = [self._judge(receipt, change) for receipt, change in zip(receipts, changes, strict=True)]
        accepted = [
            (receipt, change)
            for receipt, change, judgement in zip(receipts, changes, judged, strict=True)
            if judgement.outcome is Outcome.ACCEPTED
        ]
        record = self._append(header, accepted) if any(change.rows for _, change in accepted) else None
        head = self._states[self._history.head]
        seconds = self._clock() - started
        return Commit(head.version, head.rows, record, receipts, tuple(judged), seconds, self._stop_requested), head

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
        )
        candidate = replace(candidate, version=head + 1)
        self._states[head + 1] = candidate
        record = VersionRecord(
            version=head + 1,
            parent=head,
            round=header.round,
            created_at=self._clock(),
            rows=candidate.rows,
            contributions=tuple(_record(receipt) for receipt, _ in accepted),
            offsets=header.position.offsets,
            digest=candidate.digest(),
        )
        self._history.commit(record)
        self._states.pop(head - self._config.max_staleness, None)
        return record

    def head_state(self) -> ModelState:
        return self._states[self._history.head]

    def records(self, newest: int) -> tuple[VersionRecord, ...]:
        """The newest versions' records, oldest of them first."""
        return self._history.records()[-newest:]

    def counts(self) -> RowCounts:
        return self._history.counts(self._offsets)

    # --- the desk where the outside asks

    def publish_status(self, status: Snapshot) -> bool:
        """The supervisor's view of the whole system; returns whether somebody has asked it to stop."""
        self._status = status
        return self._stop_requested

    def status(self) -> Snapshot | None:
        return self._status

    def request_stop(self) -> None:
        self._stop_requested = True


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
