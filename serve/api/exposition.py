"""Metric families in Prometheus's text format."""

import math
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from serve.interfaces import MetricFamily

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


def exposition(families: Sequence[MetricFamily]) -> bytes:
    """Raises ValueError for a kind that is not counter, gauge or histogram, and for a name that comes twice."""
    registry = CollectorRegistry()
    registry.register(_Families(families))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, families: Sequence[MetricFamily]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return map(_metric, self._families)


def _metric(family: MetricFamily) -> Metric:
    if family.kind == "histogram":
        return _histogram(family)
    if family.kind not in ("counter", "gauge"):
        raise ValueError(f"metric {family.name} is a {family.kind}; it must be a counter, gauge or histogram")
    build = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = build(family.name, family.help, labels=family.labels)
    for labels, value in family.values.items():
        if isinstance(value, tuple):
            raise ValueError(f"metric {family.name} is a {family.kind}, and has a histogram for a value")
        metric.add_metric(labels, value)
    return metric


def _histogram(family: MetricFamily) -> Metric:
    metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    for labels, value in family.values.items():
        if not isinstance(value, tuple):
            raise ValueError(f"metric {family.name} is a histogram, and has one number for a value")
        counts, total = value
        metric.add_metric(
            labels, [("+Inf" if math.isinf(bound) else repr(float(bound)), counts[bound]) for bound in sorted(counts)], total
        )
    return metric
