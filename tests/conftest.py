"""One Ray for all tests that ask for it, started when the first one does."""

import os

# Before anything imports ray: a token left by some earlier `ray.init` must not lock the tests out, nobody is told of them,
# and a cluster that the shell points to is not theirs.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.pop("RAY_ADDRESS", None)
# One thread each, as in the actors: more of them wait for each other wherever a core is busy.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from ray_head import RayHead, ray_head
from xdist.scheduler import LoadFileScheduling

# How long an example takes says something of the machine, and nothing of the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("ray") is not None)  # whole systems last, when all else is done


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """Files are shared out among the workers; then whole systems go one after another, for each of them fills a machine."""
    return _WholeSystemsInOne(config, log)


class _WholeSystemsInOne(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return "systems" if nodeid.startswith(("tests/end_to_end/", "tests/faults/")) else super()._split_scope(nodeid)


@pytest.fixture(autouse=True)
def smallest_numbers() -> Iterator[None]:
    """A learner shard flushes them to zero, and has a process to itself; here the other tests need them back."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[RayHead]:
    """A cluster of 4 CPUs without a dashboard. Systems on it need names of their own."""
    with ray_head() as head:
        yield head


@pytest.fixture(scope="session")
def ray_cluster(shared_ray: RayHead) -> str:
    """The shared cluster's HOST:PORT."""
    return shared_ray.address
