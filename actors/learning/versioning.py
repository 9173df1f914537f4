"""The history of versions as a pure machine: contributions in, decisions out.

It knows every version's lineage and, over the whole history, which offsets were read, learned, quarantined or refused. It
holds no weights and reads no clock. `validate()` states what must be true after every event.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from actors.learning.lineage import OffsetRange, OffsetSet
from actors.learning.part import Tree


class Outcome(StrEnum):
    ACCEPTED = "accepted"
    REPEATED = "repeated"  # this very contribution, or one for the same rows, is in the history already
    STALE = "stale"  # its base is too old
    REFUSED = "refused"  # a guard found something wrong with it


@dataclass(frozen=True, slots=True)
class ContributionRecord:
    """A shard's part in a version."""

    contribution_id: str
    shard: int
    base_version: int
    rows: int
    trained: tuple[OffsetRange, ...]
    mean_loss: float
    delta_norm: float


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """One version's lineage. `offsets` is the next offset to learn per partition, `digest` that of the state."""

    version: int
    parent: int | None
    round: int
    created_at: float  # seconds since 1970, UTC
    rows: int  # learned since the beginning
    contributions: tuple[ContributionRecord, ...]
    offsets: Mapping[str, int]
    digest: str


@dataclass(frozen=True, slots=True)
class RowCounts:
    """Counted from the lineage, not assumed."""

    read: int
    learned: int
    quarantined: int
    waiting: int  # read, and their turn to be learned is still to come: their labels are not visible, or the run stopped
    lost: int
    duplicated: int


class VersionHistory:
    """The newest `keep_records` versions' records, and the ledger of all."""

    def __init__(self, max_staleness: int, keep_records: int = 1_000) -> None:
        self.head = 0
        self._max_staleness = max_staleness
        self._records: deque[VersionRecord] = deque(maxlen=keep_records)
        self._recent_ids: deque[str] = deque(maxlen=4096)
        self._recent_norms: deque[float] = deque(maxlen=64)
        self._read, self._settled = OffsetSet(), OffsetSet()
        self._learned_rows = self._quarantined_rows = self._duplicated_rows = 0

    # --- events

    def saw(self, read: Sequence[OffsetRange], quarantined: Sequence[OffsetRange]) -> None:
        """The ingestor has read `read`, of which `quarantined` are bad. A repeat changes nothing."""
        for offsets in read:
            self._read.add(offsets)
        for offsets in quarantined:
            self._quarantined_rows += len(offsets) - self._settled.add(offsets)

    def judge(self, contribution: ContributionRecord) -> Outcome:
        """Whether it may be consolidated into the next version, as far as its lineage tells."""
        if contribution.contribution_id in self._recent_ids or any(self._settled.overlap(o) for o in contribution.trained):
            return Outcome.REPEATED
        if self.head - contribution.base_version > self._max_staleness:
            return Outcome.STALE
        return Outcome.ACCEPTED

    def commit(self, record: VersionRecord) -> None:
        """Makes `record` the head. Raises ValueError where it does not follow the present head."""
        if record.version != self.head + 1 or record.parent != self.head:
            raise ValueError(f"version {record.version} with parent {record.parent} does not follow the head, {self.head}")
        for contribution in record.contributions:
            for offsets in contribution.trained:
                self._duplicated_rows += self._settled.add(offsets)
            self._learned_rows += contribution.rows
            self._recent_ids.append(contribution.contribution_id)
            if contribution.delta_norm > 0:
                self._recent_norms.append(contribution.delta_norm)
        self._records.append(record)
        self.head = record.version

    # --- what outlives the process

    def to_state(self) -> Tree:
        """All but the records, which every version keeps of itself."""
        return {
            "head": self.head,
            "recent_ids": list(self._recent_ids),
            "recent_norms": list(self._recent_norms),
            "read": self._read.to_state(),
            "settled": self._settled.to_state(),
            "learned_rows": self._learned_rows,
            "quarantined_rows": self._quarantined_rows,
            "duplicated_rows": self._duplicated_rows,
        }

    def restore(self, state: Tree) -> None:
        self.head = state["head"]
        self._records.clear()
        self._recent_ids.extend(state["recent_ids"])
        self._recent_norms.extend(state["recent_norms"])
        self._read, self._settled = OffsetSet.from_state(state["read"]), OffsetSet.from_state(state["settled"])
        self._learned_rows, self._quarantined_rows = state["learned_rows"], state["quarantined_rows"]
        self._duplicated_rows = state["duplicated_rows"]

    # --- questions

    @property
    def typical_delta_norm(self) -> float | None:
        """Median length of the latest accepted steps; None before there are enough of them to tell."""
        return median(self._recent_norms) if len(self._recent_norms) >= 8 else None

    def records(self) -> tuple[VersionRecord, ...]:
        return tuple(self._records)

    def counts(self, next_offsets: Mapping[str, int]) -> RowCounts:
        """Lost is what was read, neither learned nor quarantined, and lies before `next_offsets`, where learning goes on."""
        lost = waiting = 0
        for offsets in self._settled.missing_from(self._read):
            passed = min(len(offsets), max(0, next_offsets.get(offsets.partition, 0) - offsets.start))
            lost += passed
            waiting += len(offsets) - passed
        return RowCounts(len(self._read), self._learned_rows, self._quarantined_rows, waiting, lost, self._duplicated_rows)

    def validate(self) -> None:
        """Raises AssertionError where the history contradicts itself."""
        numbers = [record.version for record in self._records]
        assert numbers == list(range(self.head - len(numbers) + 1, self.head + 1)), f"version numbers have gaps: {numbers[-5:]}"
        assert all(record.parent == record.version - 1 for record in self._records)
        assert not self._read.missing_from(self._settled), "rows were settled that were never read"
        counts = self.counts({})
        assert counts.read - counts.waiting == counts.learned + counts.quarantined - counts.duplicated, counts
