"""The metrics of a running system: each defined once, here, and shown in two places.

In Ray's own metrics, which Ray prefixes with `ray_` and serves on every node, and as `families`, which the gateway shows at
/metrics. The histogram's sum in Ray is rebuilt from bucket midpoints, so means are to be taken from
`perennial_round_seconds_spent_total` over `perennial_rounds_total`; at /metrics it is exact.
"""

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from math import inf

from ray.util import metrics as ray_metrics

from actors.status import MetricFamily

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
_LONG_SECONDS = (0.1, 1.0, 10.0, 60.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0)

_COUNTERS = {
    "perennial_rows": ("Rows of the stream by stage: read, tested, trained, replayed.", ("stage",)),
    "perennial_versions": ("Contributions by outcome, and moves of production by hand.", ("outcome",)),
    "perennial_drift_events": ("Alarms of drift detectors.", ("detector", "signal")),
    "perennial_updates": ("Updates of the model, by the update policy that asked for them.", ("policy",)),
    "perennial_rounds": ("Rounds by stage, to divide the seconds spent by.", ("stage",)),
    "perennial_round_seconds_spent": ("Exact sum of the seconds of rounds by stage.", ("stage",)),
    "perennial_actor_restarts": ("Times that an actor was started again.", ("actor",)),
    "perennial_quarantined_rows": ("Bad rows set aside, by reason.", ("reason",)),
    "perennial_requests": ("Prediction requests that production answered.", ()),
    "perennial_shadow_mirrored": ("Instances that the shadow has answered, too.", ()),
    "perennial_shadow_dropped": ("Instances that the shadow did not get to see or answer, by reason.", ("reason",)),
    "perennial_predictions_dropped": (
        "Served predictions that wait for no label any more: too old or too many (unlabelled), or never written (unsent).",
        ("reason",),
    ),
    "perennial_feedback": ("Pieces of feedback by outcome.", ("outcome",)),
}
_GAUGES = {
    "perennial_promotion_evidence": (
        "The gate's e-value of what it waits for: the shadow is better, or production worse.",
        (),
    ),
    "perennial_regimes": ("Past regimes of the stream that are remembered.", ()),
    "perennial_forgetting": (
        "How far the version scored last lies below the best before it, in the mean of the past regimes, 0 to 1.",
        (),
    ),
    "perennial_replica_latency_ms": ("95th percentile of a request's own time in a replica, by role.", ("version_role",)),
    "perennial_prequential_score": ("Prequential score over the last 1,000 rows.", ("metric", "version_role")),
    "perennial_version": ("Number of the version that an alias names; `head` is the newest.", ("alias",)),
    "perennial_backlog_rows": ("Labelled rows that wait to be learned.", ()),
    "perennial_learning_frozen": ("1 while a drift action or a broken feed keeps the model from learning, else 0.", ()),
    "perennial_replay_rows": ("Rows in a replay shard.", ("shard",)),
    "perennial_replay_bytes": ("Bytes of a replay shard's memory.", ("shard",)),
}
_HISTOGRAMS = {
    "perennial_round_seconds": ("Seconds of a round by stage: learn (the slowest shard), commit, whole.", ("stage",), _SECONDS),
    "perennial_freshness_seconds": (
        "Seconds from a label's arrival until production serves weights that learned it.",
        (),
        _SECONDS,
    ),
    "perennial_label_delay_seconds": ("Seconds from a prediction until its label arrived.", (), _LONG_SECONDS),
}


@dataclass(slots=True)
class _Distribution:
    """Counts of values by the bucket that they fall into; the last one has no upper bound."""

    bounds: tuple[float, ...]
    counts: list[int]
    total: float = 0.0

    def cumulative(self) -> tuple[dict[float, int], float]:
        seen, sums = 0, {}
        for bound, count in zip((*self.bounds, inf), self.counts, strict=True):
            seen += count
            sums[bound] = seen
        return sums, self.total


class Metrics:
    """`labels` are given in the order of the metric's definition."""

    def __init__(self, system: str) -> None:
        base = {"system": system}
        self._counters = {n: ray_metrics.Counter(n, text, ("system", *tags)) for n, (text, tags) in _COUNTERS.items()}
        self._gauges = {n: ray_metrics.Gauge(n, text, ("system", *tags)) for n, (text, tags) in _GAUGES.items()}
        self._histograms = {
            n: ray_metrics.Histogram(n, text, list(bounds), ("system", *tags))
            for n, (text, tags, bounds) in _HISTOGRAMS.items()
        }
        for metric in (*self._counters.values(), *self._gauges.values(), *self._histograms.values()):
            metric.set_default_tags(base)
        self._values: dict[str, dict[tuple[str, ...], float]] = defaultdict(dict)
        self._distributions: dict[str, dict[tuple[str, ...], _Distribution]] = defaultdict(dict)

    def count(self, name: str, amount: float, *labels: str) -> None:
        """Adds `amount`; Ray refuses an increment of nothing."""
        if amount > 0:
            self._counters[name].inc(amount, dict(zip(_COUNTERS[name][1], labels, strict=True)))
            self._values[name][labels] = self._values[name].get(labels, 0.0) + amount

    def set(self, name: str, value: float, *labels: str) -> None:
        self._gauges[name].set(value, dict(zip(_GAUGES[name][1], labels, strict=True)))
        self._values[name][labels] = value

    def observe(self, name: str, value: float, *labels: str) -> None:
        _, tags, bounds = _HISTOGRAMS[name]
        self._histograms[name].observe(value, dict(zip(tags, labels, strict=True)))
        held = self._distributions[name].setdefault(labels, _Distribution(bounds, [0] * (len(bounds) + 1)))
        held.counts[bisect_left(bounds, value)] += 1
        held.total += value

    def observe_round(self, stage: str, seconds: float) -> None:
        if seconds > 0:
            self.observe("perennial_round_seconds", seconds, stage)
            self.count("perennial_round_seconds_spent", seconds, stage)
            self.count("perennial_rounds", 1, stage)

    def families(self) -> tuple[MetricFamily, ...]:
        """Every metric as it stands, those without a value yet too."""
        simple = [
            MetricFamily(name, kind, text, tags, dict(self._values.get(name, {})))
            for kind, metrics in (("counter", _COUNTERS), ("gauge", _GAUGES))
            for name, (text, tags) in metrics.items()
        ]
        histograms = [
            MetricFamily(
                name, "histogram", text, tags, {key: d.cumulative() for key, d in self._distributions.get(name, {}).items()}
            )
            for name, (text, tags, _) in _HISTOGRAMS.items()
        ]
        return (*simple, *histograms)
