"""The gateway: everything that is asked over HTTP and is not answered by a production replica itself.

Receives HTTP requests. Asks the version manager, the label joiner and production. Holds the events of the last minutes for
those who listen; when it dies, Serve starts another, and whoever listens connects again.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from fastapi import FastAPI
from ray import serve as ray_serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException

from actors.errors import LearningError, NotFollowedError, UnknownVersionError
from actors.event_journal import Event
from actors.feedback import FeedbackItem, FeedbackOutcome, FeedbackRefusedError
from actors.learning.promotion import Aliases
from actors.release_desk import WAITING_GROUP, Moved
from serve.api.gateway_app import build_gateway_app
from serve.config import ServeConfig
from serve.follower import ASK_S, GRACE_S, Identity
from serve.instances import InstanceEncoder, LabelChecker, check_items
from serve.interfaces import MetricFamily, Reply, RequestError, Served
from serve.named_actor import NamedActor, UnreachableError
from serve.names import REPLICA, SystemNames
from serve.replica import Description

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_DESCRIPTION_S = 1.0  # how long what production told of itself is taken for true
_RETRY_S = 0.2
_EVENTS = 1_000


class ProductionClient:
    """Production, asked through Ray: for callers whose request did not come in over its own HTTP route."""

    def __init__(self, app: str, timeout_s: float) -> None:
        self._app, self._timeout_s = app, timeout_s
        self._handle: Any = None
        self._description: Description | None = None
        self._described_at = -_DESCRIPTION_S

    async def predict(self, instances: Sequence[Mapping[str, Any]], request_ids: Sequence[str]) -> list[Reply]:
        replies: list[Reply] = await self._call("answer", instances, request_ids)
        return replies

    async def served(self) -> Served | None:
        description = await self.describe()
        return description.served if description else None

    async def describe(self) -> Description | None:
        """None while production has no version, or cannot be asked."""
        if time.monotonic() - self._described_at >= _DESCRIPTION_S:
            try:
                self._description = await self._call("describe", timeout_s=_DESCRIPTION_S)
            except RequestError:
                return None
            self._described_at = time.monotonic() if self._description else -_DESCRIPTION_S
        return self._description

    async def _call(self, method: str, *arguments: Any, timeout_s: float | None = None) -> Any:
        try:
            if self._handle is None:
                self._handle = ray_serve.get_deployment_handle(REPLICA, self._app)
            return await asyncio.wait_for(getattr(self._handle, method).remote(*arguments), timeout_s or self._timeout_s)
        except RayTaskError as error:
            if isinstance(error.cause, RequestError):
                raise error.cause from None
            raise
        except (RayError, RayServeException, TimeoutError) as error:
            message = f"production cannot be asked: {str(error) or 'no answer in time'}"
            raise RequestError(503, "unavailable", message) from error


class SystemDesk:
    """The version manager and the label joiner, as the HTTP surface asks them."""

    def __init__(self, names: SystemNames, production: ProductionClient, identity: Identity, timeout_s: float) -> None:
        self._manager = NamedActor(names.version_manager, names.namespace)
        self._joiner = NamedActor(names.label_joiner, names.namespace)
        self._production, self._identity, self._timeout_s = production, identity, timeout_s
        self._checks: tuple[Description, InstanceEncoder, LabelChecker] | None = None
        self._events: deque[Event] = deque(maxlen=_EVENTS)
        self._new_event = asyncio.Condition()
        self._task = asyncio.get_running_loop().create_task(self._listen())

    async def feedback(self, items: Sequence[FeedbackItem]) -> list[FeedbackOutcome]:
        checked = await self._checked(items)
        outcomes: list[FeedbackOutcome] = await _or_503(self._joiner.call("feedback", checked, timeout_s=self._timeout_s))
        return outcomes

    async def versions(self, newest: int, below: int | None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self._ask("versions", newest, below, group=WAITING_GROUP)
        return found

    async def version(self, number: int) -> dict[str, Any] | None:
        found: dict[str, Any] | None = await self._ask("version", number, group=WAITING_GROUP)
        return found

    async def aliases(self) -> dict[str, int | None]:
        aliases: Aliases = await self._ask("aliases")
        return aliases.names()

    async def promote(self, version: int | None, reason: str, by: str) -> Moved:
        return await self._move("promote", version, reason, by)

    async def rollback(self, version: int | None, reason: str, by: str) -> Moved:
        return await self._move("rollback", version, reason, by)

    async def status(self) -> dict[str, Any]:
        snapshot = await self._ask("status")
        if snapshot is None:
            raise RequestError(503, "not_ready", "the system is still starting")
        document: dict[str, Any] = snapshot.to_json()
        return document

    async def events(self, after: int, timeout_s: float) -> list[Event]:
        async with self._new_event:
            if self._newest_event() <= after:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._new_event.wait_for(lambda: self._newest_event() > after), timeout_s)
        return [event for event in self._events if event.id > after]

    async def metrics(self) -> Sequence[MetricFamily]:
        families: Sequence[MetricFamily] = await self._ask("metrics")
        return families

    async def _move(self, method: str, version: int | None, reason: str, by: str) -> Moved:
        within_s = self._timeout_s * 0.8
        call = self._manager.call(method, version, reason, by, within_s, timeout_s=self._timeout_s, group=WAITING_GROUP)
        moved: Moved = await _or_503(call)
        return moved

    async def _ask(self, method: str, *arguments: Any, group: str | None = None) -> Any:
        return await _or_503(self._manager.call(method, *arguments, timeout_s=self._timeout_s, group=group))

    async def _checked(self, items: Sequence[FeedbackItem]) -> list[FeedbackItem]:
        """The items with their labels as the stream's labels are. Raises RequestError 422 for what cannot be learned."""
        description = await self._production.describe()
        if description is None and self._checks is None:
            return list(items)  # no version yet: what is wrong with an example will show when the stream is read
        if description is not None and (self._checks is None or self._checks[0].served.schema != description.served.schema):
            schema = description.served.schema
            self._checks = (description, InstanceEncoder(schema), LabelChecker(schema, description.task))
        assert self._checks is not None
        return check_items(items, self._checks[1], self._checks[2])

    def _newest_event(self) -> int:
        return self._events[-1].id if self._events else -1

    async def _listen(self) -> None:
        while True:
            try:
                report, newest = self._identity.report(), self._newest_event()
                new = await self._manager.call(
                    "wait_events", report, newest, ASK_S, timeout_s=ASK_S + GRACE_S, group=WAITING_GROUP
                )
            except UnreachableError as error:
                logger.info("no word from the version manager: %s", error)
                await asyncio.sleep(_RETRY_S)
                continue
            if new:
                async with self._new_event:
                    self._events.extend(new)
                    self._new_event.notify_all()


async def _or_503(call: Awaitable[_T]) -> _T:
    try:
        return await call
    except UnknownVersionError as error:
        raise RequestError(404, "unknown_version", str(error), "version") from error
    except NotFollowedError as error:
        raise RequestError(504, "not_followed", str(error)) from error
    except FeedbackRefusedError as error:
        raise RequestError(503, "overloaded", str(error)) from error
    except (UnreachableError, LearningError) as error:
        raise RequestError(503, "unavailable", str(error)) from error


class Gateway:
    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, names: SystemNames, config: ServeConfig, tokens: tuple[str, ...]
    ) -> None:
        self._names, self._config, self._tokens = names, config, tokens
        self._production = ProductionClient(names.production_app, config.timeout_s)
        self._desk = SystemDesk(names, self._production, Identity.of_this_replica("gateway"), config.timeout_s)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return build_gateway_app(self._desk, self._production, self._config, self._tokens, self._names.system)
