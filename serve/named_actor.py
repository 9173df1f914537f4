"""A role of the system, called by its name from a Serve replica: with a deadline, and found again after it was restarted."""

import asyncio
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError, RayTaskError

from actors.errors import PerennialError


class UnreachableError(Exception):
    """The actor is not there, or has not answered in time."""


class NamedActor:
    def __init__(self, name: str, namespace: str) -> None:
        self._name, self._namespace = name, namespace
        self._handle: ActorHandle[Any] | None = None

    async def call(self, method: str, *arguments: Any, timeout_s: float, group: str | None = None) -> Any:
        """The method's answer; what it raises on purpose comes as itself. Raises UnreachableError where none comes in time."""
        try:
            if self._handle is None:
                self._handle = await asyncio.to_thread(ray.get_actor, self._name, namespace=self._namespace)
            bound = getattr(self._handle, method)
            ref = (bound.options(concurrency_group=group) if group else bound).remote(*arguments)
            return await asyncio.wait_for(asyncio.wrap_future(ref.future()), timeout_s)
        except RayTaskError as error:
            if isinstance(error.cause, PerennialError):
                raise error.cause from None
            raise UnreachableError(f"{self._name} failed: {error.cause!r}; the traceback is in Ray's logs") from error
        except TimeoutError as error:
            raise UnreachableError(f"{self._name} has not answered within {timeout_s:g} s") from error
        except (RayError, ValueError) as error:
            self._handle = None
            raise UnreachableError(f"{self._name} is not there: {error}") from error
