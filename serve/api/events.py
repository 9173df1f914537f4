"""GET /events: what happens, as server-sent events (WHATWG HTML, section 9.2).

An id names the place in the sequence of events, so a client that comes back with Last-Event-ID misses none that is still kept.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from serve.api.body import wrong_value
from serve.api.calls import Call
from serve.api.documentation import EVENTS
from serve.api.json_text import json_text
from serve.config import ServeConfig
from serve.interfaces import Desk, Event, RequestError

_HEARTBEAT_S = 10.0  # proxies close what is silent for longer
_STREAM_S = 45.0  # Serve ends every request after a minute; the client comes back with Last-Event-ID
_RECONNECT_MS = 2_000
_MAX_DIGITS = 15

_log = logging.getLogger(__name__)


class Events:
    """At most `max_streams` are open at once."""

    def __init__(self, desk: Desk, config: ServeConfig, max_streams: int = 100) -> None:
        self._desk, self._timeout_s = desk, config.timeout_s
        self._heartbeat_s = min(_HEARTBEAT_S, config.timeout_s)
        self._max_streams = max_streams
        self._open = 0

    def calls(self) -> list[Call]:
        return [Call("GET", "/events", self.events, EVENTS)]

    async def events(self, request: Request) -> Response:
        """The first answer of the desk comes before the headers, so that its refusal is an answer, not a broken stream."""
        after = _read_last_id(request.headers.get("last-event-id", ""))
        if self._open >= self._max_streams:
            message = f"{self._open} event streams are open, and no more than {self._max_streams} may be; close one"
            raise RequestError(503, "overloaded", message, retry_after_s=5.0)
        self._open += 1
        try:
            first = await self._desk.events(after, 0.0)
        finally:
            self._open -= 1
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(self._stream(first, after), headers=headers, media_type="text/event-stream")

    async def _stream(self, events: Sequence[Event], after: int) -> AsyncIterator[str]:
        ends_at = time.monotonic() + _STREAM_S
        self._open += 1
        try:
            yield f"retry: {_RECONNECT_MS}\n\n"
            while time.monotonic() < ends_at:
                for event in events:
                    yield _written(event)
                    after = event.id
                if not events:
                    yield ": heartbeat\n\n"
                async with asyncio.timeout(self._heartbeat_s + self._timeout_s):
                    events = await self._desk.events(after, self._heartbeat_s)
        except (RequestError, TimeoutError) as error:
            _log.warning("an event stream ends after event %d, its client will come back: %s", after, error)
        finally:
            self._open -= 1


def _written(event: Event) -> str:
    data = json_text({"id": event.id, "time": event.time, "kind": event.kind, "data": event.data})
    return f"id: {event.id}\nevent: {event.kind}\ndata: {data}\n\n"


def _read_last_id(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS):
        raise wrong_value("Last-Event-ID", f"Last-Event-ID must be the number of an event, not {text[:80]!r}")
    return int(text)
