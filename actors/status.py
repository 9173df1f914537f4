"""What a running system says about itself: one snapshot for the live screen, `perennial status` and `/status`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from actors.learning.regime_memory import RegimeStatus


class RunState(StrEnum):
    STARTING = "starting"
    LEARNING = "learning"
    IDLE = "idle"  # waiting for rows to arrive
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """Rows of the stream so far; `offsets` is the next offset of each partition."""

    kind: str
    rows: int = 0  # read, good and bad
    tested: int = 0
    trained: int = 0
    quarantined: int = 0
    offsets: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PrequentialStatus:
    """`metric` is accuracy, mae or score; None before the first row is scored."""

    metric: str = "accuracy"
    overall: float | None = None
    recent: float | None = None


@dataclass(frozen=True, slots=True)
class AliasStatus:
    production: int | None = None
    shadow: int | None = None
    previous: int | None = None


@dataclass(frozen=True, slots=True)
class DriftStatus:
    events: int = 0
    last_row: int | None = None
    last_detector: str | None = None


@dataclass(frozen=True, slots=True)
class UpdateStatus:
    """When the model learns: by which policies, the updates made so far by each, labelled rows that wait for the next, why
    nothing is learned now (`frozen`: broken_feed or frozen), and what learning rates are multiplied by.
    """

    policy: tuple[str, ...] = ("continuous",)
    updates: Mapping[str, int] = field(default_factory=dict)
    waiting_rows: int = 0
    frozen: str | None = None
    learning_rate_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class EvidenceStatus:
    """The gate: the e-value over so many labels, of what the phase waits for (`examining`: the shadow is better; `watching`:
    production is worse than what it replaced), and what it waits for in words.
    """

    e_value: float | None = None
    labels: int | None = None
    decision: str | None = None
    phase: str | None = None
    e_needed: float | None = None
    reasons: tuple[str, ...] = ()
    last: Mapping[str, str] | None = None
    measured: Mapping[str, float | None] | None = None  # 95th percentiles of the replicas' latency, the shadow's forgetting

    @classmethod
    def of(cls, gate: Mapping[str, Any] | None) -> "EvidenceStatus":
        if gate is None:
            return cls()
        known = {name: gate[name] for name in ("e_value", "labels", "decision", "phase", "e_needed", "last", "measured")}
        return cls(**known, reasons=tuple(gate["reasons"]))


@dataclass(frozen=True, slots=True)
class ActorHealth:
    """`busy_fraction` is the share of the last moments it spent working, 0 to 1; None where it is not measured."""

    name: str
    role: str
    pid: int | None
    node: str | None
    alive: bool
    restarts: int = 0
    busy_fraction: float | None = None


@dataclass(frozen=True, slots=True)
class FeedbackStatus:
    """What came back for what was served, since the journal began; all zero where nothing is served."""

    outcomes: Mapping[str, int] = field(default_factory=dict)
    rows: int = 0  # labelled rows for the stream
    waiting_rows: int = 0  # of them, not learned yet
    waiting_predictions: int = 0  # served, without a label so far
    waiting_labels: int = 0  # for a prediction that is not known so far


@dataclass(frozen=True, slots=True)
class FreshnessStatus:
    """Seconds from a label's arrival until production served what was learned from it; None before there is any."""

    p50: float | None = None
    p95: float | None = None
    max: float | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`seconds` since the start of this run; `rows_per_s` over the last moments; `head` the newest version."""

    name: str
    state: RunState
    seconds: float
    stream: StreamStatus
    rows_per_s: float = 0.0
    prequential: PrequentialStatus = field(default_factory=PrequentialStatus)
    aliases: AliasStatus = field(default_factory=AliasStatus)
    head: int | None = None
    drift: DriftStatus = field(default_factory=DriftStatus)
    update: UpdateStatus = field(default_factory=UpdateStatus)
    evidence: EvidenceStatus = field(default_factory=EvidenceStatus)
    regimes: RegimeStatus = field(default_factory=RegimeStatus)
    feedback: FeedbackStatus = field(default_factory=FeedbackStatus)
    freshness_s: FreshnessStatus = field(default_factory=FreshnessStatus)
    actors: tuple[ActorHealth, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The document of `perennial status --json`."""
        document = asdict(self)
        document["state"] = str(self.state)
        document["stream"]["offsets"] = dict(self.stream.offsets)
        document["actors"] = [asdict(actor) for actor in self.actors]
        return document


@dataclass(frozen=True, slots=True)
class MetricFamily:
    """A metric with its values by labels. A histogram's value is its cumulative counts by upper bound, and its sum."""

    name: str  # a counter's without `_total`
    kind: str  # counter, gauge or histogram
    help: str
    labels: tuple[str, ...]
    values: Mapping[tuple[str, ...], float | tuple[Mapping[float, int], float]]
