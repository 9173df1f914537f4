"""The shadow sees what production sees, after the answer is on its way, and nothing that happens to it matters here."""

import asyncio
import contextvars
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray import serve as ray_serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from serve.config import ShadowConfig
from serve.interfaces import Reply, RequestError
from serve.names import REPLICA

_GATHER_S = 0.05


class Mirror:
    """Gathers requests for a moment and sends them together; bounded, with a deadline.

    What the shadow does not get to see or answer is counted by reason in `counts`; `answered` gets its replies.
    """

    def __init__(
        self,
        app: str,
        config: ShadowConfig,
        max_rows: int,
        counts: Counter[str],
        answered: Callable[[list[Reply]], None],
    ) -> None:
        self._app, self._config = app, config
        self._counts, self._answered = counts, answered
        self._handle: DeploymentHandle[Any] | None = None
        self._max_rows = max_rows
        self._gathered: list[tuple[Mapping[str, Any], str]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, instances: Sequence[Mapping[str, Any]], request_ids: Sequence[str]) -> None:
        """Never raises, never waits."""
        if self._config.sample < 1.0 and random.random() >= self._config.sample:
            self._counts["dropped:sampling"] += len(instances)
            return
        if self._gathered and len(self._gathered) + len(instances) > self._max_rows:
            self._counts["dropped:full"] += len(instances)
            return
        if not self._gathered:
            # In a context of its own: Serve cancels what belongs to a request when its client goes away.
            asyncio.get_running_loop().call_later(_GATHER_S, self._flush, context=contextvars.Context())
        self._gathered.extend(zip(instances, request_ids, strict=True))

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, []
        if len(self._tasks) >= self._config.max_in_flight:
            self._counts["dropped:in_flight"] += len(gathered)
            return
        task = asyncio.get_running_loop().create_task(self._send(gathered), context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, gathered: list[tuple[Mapping[str, Any], str]]) -> None:
        response, rows = None, len(gathered)
        try:
            if self._handle is None:
                self._handle = ray_serve.get_deployment_handle(REPLICA, self._app)
            response = self._handle.answer.remote(*map(list, zip(*gathered, strict=True)))
            replies = await asyncio.wait_for(response, self._config.timeout_s)
            self._answered(replies)
            self._counts["mirrored"] += rows
        except TimeoutError:
            self._counts["dropped:timeout"] += rows
            if response is not None:
                response.cancel()
        except (RayActorError, DeploymentUnavailableError, BackPressureError, RequestError):
            self._counts["dropped:unavailable"] += rows
        except Exception:  # whatever a shadow may raise or answer; it is the shadow's matter
            self._counts["dropped:error"] += rows
