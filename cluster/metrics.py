"""The metrics of a running system, in Ray's own: Ray prefixes each with `ray_` and serves them on every node.

Each metric is defined once, here. The histogram's sum in Ray is rebuilt from bucket midpoints, so means are to be taken from
`perennial_round_seconds_spent_total` over `perennial_rounds_total`.
"""

from ray.util.metrics import Counter, Gauge, Histogram

_ROUND_BUCKETS_S = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0]


class Metrics:
    """Counters take increments; Ray adds the suffix `_total` to their names."""

    def __init__(self, system: str) -> None:
        base = {"system": system}
        self.rows = _counter("perennial_rows", "Rows of the stream by stage: read, tested, trained, replayed.", base, "stage")
        self.score = _gauge(
            "perennial_prequential_score", "Prequential score over the last 1,000 rows.", base, "metric", "version_role"
        )
        self.version = _gauge(
            "perennial_version", "Number of the version that an alias names; `head` is the newest.", base, "alias"
        )
        self.versions = _counter("perennial_versions", "Contributions and versions by outcome.", base, "outcome")
        self.drift_events = _counter("perennial_drift_events", "Alarms of drift detectors.", base, "detector", "signal")
        self.round_seconds = Histogram(
            "perennial_round_seconds",
            "Seconds of a round by stage: learn (the slowest shard), commit, whole.",
            boundaries=_ROUND_BUCKETS_S,
            tag_keys=("system", "stage"),
        )
        self.round_seconds.set_default_tags(base)
        self.rounds = _counter("perennial_rounds", "Rounds by stage, to divide the seconds spent by.", base, "stage")
        self.round_seconds_spent = _counter(
            "perennial_round_seconds_spent", "Exact sum of the seconds of rounds by stage.", base, "stage"
        )
        self.replay_rows = _gauge("perennial_replay_rows", "Rows in a replay shard.", base, "shard")
        self.replay_bytes = _gauge("perennial_replay_bytes", "Bytes of a replay shard's memory.", base, "shard")
        self.actor_restarts = _counter("perennial_actor_restarts", "Times that an actor was started again.", base, "actor")
        self.quarantined_rows = _counter("perennial_quarantined_rows", "Bad rows set aside, by reason.", base, "reason")

    def observe_round(self, stage: str, seconds: float) -> None:
        if seconds > 0:
            self.round_seconds.observe(seconds, {"stage": stage})
            self.round_seconds_spent.inc(seconds, {"stage": stage})
            self.rounds.inc(1, {"stage": stage})

    def count(self, counter: Counter, amount: float, **tags: str) -> None:
        """Adds `amount`; Ray refuses an increment of nothing."""
        if amount > 0:
            counter.inc(amount, tags)


def _counter(name: str, description: str, base: dict[str, str], *tags: str) -> Counter:
    counter = Counter(name, description, tag_keys=("system", *tags))
    counter.set_default_tags(base)
    return counter


def _gauge(name: str, description: str, base: dict[str, str], *tags: str) -> Gauge:
    gauge = Gauge(name, description, tag_keys=("system", *tags))
    gauge.set_default_tags(base)
    return gauge
