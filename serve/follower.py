"""Keeps a replica on the version that its role is to serve: asks the version manager, waits, takes over, asks again."""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray import serve as ray_serve

from actors.release_desk import WAITING_GROUP, Place, Release, ReplicaReport
from serve.model_server import ModelServer
from serve.named_actor import NamedActor, UnreachableError

logger = logging.getLogger(__name__)

ASK_S = 1.0  # a question is answered within this time, with or without news
GRACE_S = 5.0  # beyond it the version manager is taken for gone
_RETRY_S = 0.2


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a Serve replica is: told with every question."""

    name: str
    role: str
    replica_id: str
    pid: int
    node: str

    @classmethod
    def of_this_replica(cls, role: str) -> "Identity":
        context = ray_serve.get_replica_context()
        rank = context.rank.rank if context.rank is not None else 0
        name = role if role == "gateway" else f"{role}-{rank}"
        return cls(name, role, context.replica_id.unique_id, os.getpid(), ray.get_runtime_context().get_node_id())

    def report(
        self, version: int | None = None, counts: Mapping[str, float] | None = None, latency_ms: float | None = None
    ) -> ReplicaReport:
        return ReplicaReport(self.name, self.role, self.replica_id, self.pid, self.node, version, counts or {}, latency_ms)


class VersionFollower:
    def __init__(
        self, identity: Identity, manager: NamedActor, server: ModelServer, counts: Callable[[], Mapping[str, int]]
    ) -> None:
        self._identity, self._manager, self._server, self._counts = identity, manager, server, counts
        self._place: Place | None = None
        self._has_heard = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def first_word(self) -> None:
        """Returns once the version manager has answered, or cannot be reached: before that there is nothing to answer with."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._has_heard.wait(), GRACE_S)

    async def _follow(self) -> None:
        while True:
            try:
                release = await self._ask()
                if release is not None:
                    await self._take_over(release)
                self._has_heard.set()
            except UnreachableError as error:  # it goes on with the version that it has
                self._has_heard.set()
                logger.info("no word from the version manager: %s", error)
                await asyncio.sleep(_RETRY_S)
            except Exception:  # such as a user's module that cannot be built: told again with every attempt
                logger.exception("%s cannot take over a version", self._identity.name)
                await asyncio.sleep(ASK_S)

    async def _ask(self) -> Release | None:
        state = self._server.state
        report = self._identity.report(state.version if state else None, self._counts(), self._server.latency_ms)
        release: Release | None = await self._manager.call(
            "wait_release", report, self._place, ASK_S, timeout_s=ASK_S + GRACE_S, group=WAITING_GROUP
        )
        return release

    async def _take_over(self, release: Release) -> None:
        blueprint = release.blueprint if release.blueprint != self._server.blueprint else None
        await self._server.swap(await _fetched(release.state), blueprint)
        self._place = release.place


async def _fetched(shared: Any) -> Any:
    """A state that travelled as [reference], so that Ray brings it only once to each machine."""
    try:
        return await asyncio.wait_for(asyncio.wrap_future(shared[0].future()), GRACE_S)
    except (ray.exceptions.RayError, TimeoutError) as error:  # its owner has died: the next one offers it anew
        raise UnreachableError(f"a version's state cannot be fetched: {error}") from error
