"""What the serving side tells of itself, kept account of by the supervisor: replicas, freshness, feedback."""

from collections import Counter, deque

import numpy as np

from actors.feedback import JoinerStatus
from actors.learning.gate.measurements import Measurements
from actors.learning.promotion import Aliases
from actors.release_desk import PRODUCTION, SHADOW, ReplicaReport
from actors.status import ActorHealth, FeedbackStatus, FreshnessStatus
from actors.version_manager import DeskNews
from cluster.metrics import Metrics

_COUNTED: dict[str, tuple[str, ...]] = {
    "requests": ("perennial_requests",),
    "mirrored": ("perennial_shadow_mirrored",),
    "log_dropped": ("perennial_predictions_dropped", "unsent"),
}
_DROPPED = "dropped:"


class ServingAccount:
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._latest: dict[str, tuple[ReplicaReport, bool]] = {}
        self._counts: dict[str, Counter[str]] = {}  # of each replica's present life
        self._joiner: JoinerStatus | None = None
        self._restarts: Counter[str] = Counter()
        self._moves: Counter[str] = Counter()  # in the version manager's present life
        self.moves: Counter[str] = Counter()
        self.freshness_s: deque[float] = deque(maxlen=10_000)
        self.feedback = FeedbackStatus()

    def take_news(self, news: DeskNews) -> None:
        for report, is_alive in news.replicas:
            known = self._latest.get(report.name)
            if known is not None and known[0].replica_id != report.replica_id:
                self._restarts[report.name] += 1
                self._metrics.count("perennial_actor_restarts", 1, report.name)
                self._counts.pop(report.name, None)
            self._latest[report.name] = (report, is_alive)
            self._count(report)
        for seconds in news.freshness_s:
            self._metrics.observe("perennial_freshness_seconds", seconds)
            self.freshness_s.append(seconds)
        for kind, moves in news.moves.items():
            self._metrics.count("perennial_versions", moves - self._moves[kind], kind)
            self.moves[kind] += max(0, moves - self._moves[kind])
            self._moves[kind] = moves
        for alias, version in news.aliases.names().items():
            if version is not None:
                self._metrics.set("perennial_version", version, alias)

    def latencies(self, aliases: Aliases) -> Measurements:
        """The slowest live replica of each role that answers with the version of its alias; 5 % steps, lest noise be news."""
        found: dict[str, float] = {}
        for report, is_alive in self._latest.values():
            is_there = is_alive and report.version is not None and report.version == aliases.names().get(report.role)
            if is_there and report.latency_ms is not None:
                found[report.role] = max(found.get(report.role, 0.0), _in_steps(report.latency_ms))
        for role, latency_ms in found.items():
            self._metrics.set("perennial_replica_latency_ms", latency_ms, role)
        return Measurements(aliases.shadow or 0, found.get(PRODUCTION), found.get(SHADOW))

    def take_joiner(self, status: JoinerStatus) -> None:
        # The journal's counts outlive a run, and go on from there.
        before, dropped = (self._joiner.outcomes, self._joiner.dropped_predictions) if self._joiner else ({}, 0)
        for outcome, items in status.outcomes.items():
            self._metrics.count("perennial_feedback", items - before.get(outcome, 0), outcome)
        self._metrics.count("perennial_predictions_dropped", status.dropped_predictions - dropped, "unlabelled")
        self._joiner = status
        self.feedback = FeedbackStatus(
            outcomes=dict(status.outcomes),
            rows=status.rows,
            waiting_rows=status.waiting_rows,
            waiting_predictions=status.waiting_predictions,
            waiting_labels=status.waiting_labels,
        )

    def freshness(self) -> FreshnessStatus:
        """Of the last 10,000 versions that production served."""
        if not self.freshness_s:
            return FreshnessStatus()
        p50, p95, longest = np.percentile(np.array(self.freshness_s), (50, 95, 100)).tolist()
        return FreshnessStatus(p50, p95, longest)

    def actors(self) -> tuple[ActorHealth, ...]:
        return tuple(
            ActorHealth(report.name, report.role, report.pid, report.node, is_alive, self._restarts[report.name])
            for report, is_alive in sorted(self._latest.values(), key=lambda each: each[0].name)
        )

    def _count(self, report: ReplicaReport) -> None:
        before = self._counts.get(report.name, Counter())
        for key, total in report.counts.items():
            new = total - before[key]
            if key in _COUNTED and report.role == PRODUCTION:
                name, *labels = _COUNTED[key]
                self._metrics.count(name, new, *labels)
            elif key.startswith(_DROPPED):
                self._metrics.count("perennial_shadow_dropped", new, key.removeprefix(_DROPPED))
        if report.counts:
            self._counts[report.name] = Counter(report.counts)


def _in_steps(latency_ms: float) -> float:
    return float(1.05 ** np.ceil(np.log(latency_ms) / np.log(1.05))) if latency_ms > 0 else 0.0
