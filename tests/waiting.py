"""Waiting for something to become true, with a deadline: what a test does in place of a sleep."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_POLL_S = 0.1


def wait_until(condition: Callable[[], T], timeout_s: float, what: str) -> T:
    """The first true answer of `condition`. Fails the test, saying `what` was awaited, where none comes within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:g} s in vain for {what}; the last answer was {answer!r}")
        time.sleep(_POLL_S)
