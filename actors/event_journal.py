"""What happens in a system: told at once to those who listen, and written down, so that it comes back after any restart.

A move of production by hand is written down before it is made. Everything else is told first: where storage refuses it, it
waits and goes along with what comes next. Kinds: `started`, `promoted`, `rolled_back`, `rejected`, `repinned`, `drift`,
`restart`.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actors.audit_log import AuditLog
from actors.errors import LearningError

MOVES = ("promoted", "rolled_back")

_EVENTS = 1_000
_REMEMBERED_MOVES = 1_000
_OWN = {"id", "time", "kind"}  # of an entry; the others are the event's data

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """Something worth telling: `promoted`, `rolled_back`, `drift`, ..."""

    id: int  # ascending, over restarts too
    time: float  # seconds since 1970, UTC
    kind: str
    data: Mapping[str, Any]

    def to_entry(self) -> dict[str, Any]:
        """A line of the audit log."""
        data = {"data": dict(self.data)} if _OWN & self.data.keys() else dict(self.data)
        return {"id": self.id, "time": self.time, "kind": self.kind, **data}


def events_of(entries: Sequence[Mapping[str, Any]]) -> list[Event]:
    """The events that were written as these entries, oldest first; those of earlier releases get an id from their time."""
    found: list[Event] = []
    for entry in entries:
        time = float(entry.get("time", 0.0))
        number = max(entry.get("id", int(time * 1000)), found[-1].id + 1 if found else 0)
        data = {key: value for key, value in entry.items() if key not in _OWN}
        data = data["data"] if data.keys() == {"data"} and isinstance(data["data"], dict) else data
        found.append(Event(number, time, str(entry.get("kind", "")), data))
    return found


class EventJournal:
    """The latest 1,000 events, and the latest 1,000 moves of production. `log` None: nothing outlives the process."""

    def __init__(self, log: AuditLog | None, clock: Callable[[], float]) -> None:
        self._log, self._clock = log, clock
        self._lock = threading.RLock()
        self._events: deque[Event] = deque(self._read(None), maxlen=_EVENTS)
        moves = (event.data.get("version") for event in self._read(MOVES))
        self._moved_to: deque[int] = deque((version for version in moves if version is not None), maxlen=_REMEMBERED_MOVES)
        self._id = max(int(clock() * 1000), self._events[-1].id if self._events else 0)
        self._unwritten: deque[Event] = deque(maxlen=_EVENTS)

    def record(self, kind: str, data: Mapping[str, Any]) -> None:
        """Raises LearningError, and tells nobody, where it cannot be written down."""
        with self._lock:
            event = self._made(kind, data)
            if self._log is not None:
                self._log.append(*(each.to_entry() for each in (*self._unwritten, event)))
                self._unwritten.clear()
            self._keep(event)

    def tell(self, events: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        with self._lock:
            for kind, data in events:
                self._keep(event := self._made(kind, data))
                self._unwritten.append(event)
            if self._log is None:
                self._unwritten.clear()
                return
            try:
                self._log.append(*(event.to_entry() for event in self._unwritten))
                self._unwritten.clear()
            except LearningError as error:
                logger.warning("%d events are not written down yet: %s", len(self._unwritten), error)

    @property
    def newest(self) -> int:
        """The id of the latest event; -1 before there is one."""
        with self._lock:
            return self._events[-1].id if self._events else -1

    def after(self, number: int) -> list[Event]:
        with self._lock:
            return [event for event in self._events if event.id > number]

    @property
    def moved_to(self) -> set[int]:
        with self._lock:
            return set(self._moved_to)

    def _made(self, kind: str, data: Mapping[str, Any]) -> Event:
        self._id += 1
        return Event(self._id, self._clock(), kind, dict(data))

    def _keep(self, event: Event) -> None:
        self._events.append(event)
        version = event.data.get("version")
        if event.kind in MOVES and version is not None:
            self._moved_to.append(version)

    def _read(self, kinds: Sequence[str] | None) -> list[Event]:
        if self._log is None:
            return []
        try:
            return events_of(self._log.read(_EVENTS if kinds is None else _REMEMBERED_MOVES, kinds))
        except LearningError as error:
            logger.warning("what has happened before is not known: %s", error)
            return []
