"""A replica of production or of the shadow: one class, one way to answer.

Receives requests over HTTP (production) or from the mirror (shadow), versions from the version manager. Tells the label
joiner what was served. Holds one version's module; when it dies, Serve starts another, which asks for the version again.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from actors.learning.task import TaskConfig
from actors.release_desk import PRODUCTION
from serve.api.predict_app import build_predict_app
from serve.config import ServeConfig
from serve.follower import Identity, VersionFollower
from serve.interfaces import Reply, Served
from serve.mirror import Mirror
from serve.model_server import ModelServer
from serve.named_actor import NamedActor
from serve.names import SystemNames
from serve.served_log import ServedLog


@dataclass(frozen=True, slots=True)
class Description:
    """What production answers with, and what its features and labels have to look like."""

    served: Served
    task: TaskConfig


class Replica:
    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, role: str, names: SystemNames, config: ServeConfig
    ) -> None:
        self._config, self._counts = config, Counter[str]()
        self._server = ModelServer()
        identity = Identity.of_this_replica(role)
        manager = NamedActor(names.version_manager, names.namespace)
        self._follower = VersionFollower(identity, manager, self._server, lambda: Counter(self._counts))
        self._log: ServedLog | None = None
        self._mirror: Mirror | None = None
        if role == PRODUCTION:
            self._log = ServedLog(NamedActor(names.label_joiner, names.namespace), self._counts)
            if config.shadow.replicas:
                self._mirror = Mirror(
                    names.shadow_app, config.shadow, config.max_instances, self._counts, self._log.shadow_answered
                )
        await self._follower.first_word()  # Serve sends requests from now on

    async def answer(self, instances: Sequence[Mapping[str, Any]], request_ids: Sequence[str]) -> list[Reply]:
        """Called by the mirror and the gateway; over HTTP, `predict` is."""
        replies = await self._server.answer(instances, request_ids)
        self._counts["requests"] += 1
        if self._log is not None:
            self._log.served(instances, replies)
        if self._mirror is not None:
            self._mirror.submit(instances, request_ids)
        return replies

    predict = answer

    async def served(self) -> Served | None:
        description = self.describe()
        return description.served if description else None

    def describe(self) -> Description | None:
        """None while there is no version to answer with."""
        state, blueprint = self._server.state, self._server.blueprint
        if state is None or blueprint is None:
            return None
        return Description(Served(state.version, blueprint.schema, blueprint.task.kind, state.classes), blueprint.task)


class ProductionReplica(Replica):
    """A replica that answers HTTP itself: no hop between the proxy and the model."""

    def __serve_build_asgi_app__(self) -> FastAPI:
        return build_predict_app(self, self._config)
