"""What replicas tell of themselves, as the gate gets to see it."""

import pytest

from actors.learning.gate.measurements import Measurements
from actors.learning.promotion import Aliases
from actors.release_desk import ReplicaReport
from actors.version_manager import DeskNews
from cluster.metrics import Metrics
from cluster.serving_account import ServingAccount

ALIASES = Aliases(production=4, shadow=7, previous=3, is_pinned=True)


def replica(role, version, latency_ms, number=0):
    return ReplicaReport(f"{role}-{number}", role, "id", 1, "node", version, {}, latency_ms)


def latencies(*reports, dead=()):
    account = ServingAccount(Metrics("test"))
    account.take_news(DeskNews(False, 9, ALIASES, tuple((each, each.name not in dead) for each in reports), (), {}))
    return account.latencies(ALIASES)


def test_the_slowest_replica_of_each_role_counts_once_it_answers_with_its_version():
    found = latencies(
        replica("production", 4, 2.0), replica("production", 4, 3.0, 1), replica("production", 3, 90.0, 2),
        replica("production", 4, 80.0, 3), replica("shadow", 7, 9.0), dead={"production-3"},
    )  # fmt: skip
    assert found.shadow == 7
    assert found.production_latency_ms == pytest.approx(3.0, rel=0.05)
    assert found.shadow_latency_ms == pytest.approx(9.0, rel=0.05)


def test_nothing_is_known_of_replicas_that_nobody_asks():
    assert latencies(replica("production", 4, None), replica("shadow", 6, 9.0)) == Measurements(7)


def test_a_little_noise_is_no_news():
    one, other = (latencies(replica("production", 4, 2.00 + noise)) for noise in (0.0, 0.01))
    assert one == other
