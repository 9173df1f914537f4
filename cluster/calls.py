"""Waiting for an actor's answer: with a deadline, and with errors in our own words.

Imported by actors too, and so it imports nothing that is large.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ray
from ray import ObjectRef
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from actors.errors import LearningError, LostPlaceError, PerennialError

if TYPE_CHECKING:
    from cluster.launch import Member

CALL_TIMEOUT_S = 60.0
SLICE_S = 0.2  # how long a wait lasts before other things are looked after
ATTEMPTS = 4
# What a call ends with whose role died under it, or died before and has not been told yet what it was.
DEATHS = (RayActorError, LostPlaceError)


def value_of(ref: ObjectRef, timeout_s: float = CALL_TIMEOUT_S) -> Any:
    """The value. An error of ours that a role raised comes as itself, any other as LearningError; a death as one of DEATHS."""
    try:
        return ray.get(ref, timeout=timeout_s)
    except RayTaskError as error:
        cause = _cause(error)
        if isinstance(cause, (PerennialError, RayActorError)):
            raise cause from None
        raise LearningError(f"a role failed: {cause!r}. The full traceback is in Ray's logs.") from error
    except GetTimeoutError as error:
        raise LearningError(f"a role has not answered within {timeout_s:g} s; `ray stack` shows where it hangs") from error


def shared(value: object) -> list[ObjectRef]:
    """Where all can read it, in a list: Ray hands over the value itself where a reference is the whole answer."""
    return [ray.put(value)]


def _cause(error: RayTaskError) -> BaseException:
    """A call that waited for the result of one that failed has that failure wrapped in its own, and so on."""
    cause: BaseException = error
    while isinstance(cause, RayTaskError):
        cause = cause.cause
    return cause


def is_ready(ref: ObjectRef) -> bool:
    return bool(ray.wait([ref], timeout=0)[0])


def has_died(ref: ObjectRef) -> bool:
    """Whether the call behind `ref` has come to nothing because an actor died."""
    try:
        ray.get(ref, timeout=0)
    except RayActorError:
        return True
    except RayTaskError as error:
        return isinstance(_cause(error), DEATHS)
    except GetTimeoutError:
        return False
    return False


def revived(member: "Member", tick: Callable[[], None], method: str, *arguments: Any) -> Any:
    """Waits until Ray has started `member` again and calls `method`, which tells it what it was; it may die again meanwhile."""
    for _ in range(ATTEMPTS):
        await_life(member, tick)
        try:
            return value_of(getattr(member.handle, method).remote(*arguments))
        except RayActorError:
            continue
    raise LearningError(f"{member.name} died {ATTEMPTS} times in a row; Ray's logs tell why")


def await_life(member: "Member", tick: Callable[[], None], timeout_s: float = CALL_TIMEOUT_S) -> None:
    """Waits until Ray has started `member` again. Raises LearningError where it does not come back."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            value_of(member.handle.vitals.options(concurrency_group="control").remote(), timeout_s)
            return
        except RayActorError as error:
            if time.monotonic() > deadline:
                raise LearningError(f"{member.name} has not come back within {timeout_s:g} s: {error}") from error
            tick()
            time.sleep(SLICE_S)
