"""The desk where replicas learn which version to serve, and where people move it.

Part of the version manager. Replicas ask and wait (long-poll): each question tells what the replica serves, so it is an
acknowledgement, too, and a sign of life. Questions come on threads of their own; everything here is under one lock.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from actors.audit_log import AuditLog
from actors.errors import NotFollowedError, UnknownVersionError
from actors.event_journal import Event, EventJournal
from actors.learning.gate.gate import Decision, Verdict
from actors.learning.inputs import InputLayout
from actors.learning.models.config import ModelConfig
from actors.learning.promotion import Aliases, PromotionConfig
from actors.learning.schema import Schema
from actors.learning.state import ModelState
from actors.learning.task import TaskConfig, TaskKind

_ALIVE_S = 3.0  # a replica asks at least once a second,
_TAKING_OVER_S = 10.0  # unless it has a version to take over
_UNSERVED = 1_000  # versions whose freshness is still to be measured
_KINDS = {
    Verdict.PROMOTE: "promoted",
    Verdict.ROLL_BACK: "rolled_back",
    Verdict.REJECT: "rejected",
    Verdict.REPIN: "repinned",
}
PRODUCTION, SHADOW = "production", "shadow"
WAITING_GROUP = "waiting"  # the threads on which questions wait
ARCHIVE_GROUP = "archive"  # the thread on which versions are written


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What a replica needs besides a version's state to answer with it."""

    schema: Schema
    task: TaskConfig
    model: ModelConfig
    inputs: InputLayout
    seed: int
    initial: Mapping[str, np.ndarray] | None = field(default=None, compare=False)

    def empty_state(self) -> ModelState:
        """The version before the first label."""
        return ModelState.empty(int(self.inputs), 1 if self.task.kind is TaskKind.REGRESSION else 0)


@dataclass(frozen=True, slots=True)
class Place:
    """A point in the moves of an alias: `serial` counts them within one life of the version manager."""

    epoch: str
    serial: int


@dataclass(frozen=True, slots=True)
class Release:
    """What a role is to serve from now on. `state` is as the desk's `share` gave it; `blueprint` comes once an epoch."""

    place: Place
    version: int
    state: Any
    blueprint: Blueprint | None


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """A serving actor's word on itself. `counts` only ever grow, during its life."""

    name: str
    role: str
    replica_id: str
    pid: int
    node: str
    version: int | None = None
    counts: Mapping[str, float] = field(default_factory=dict)
    latency_ms: float | None = None  # the 95th percentile of a single request's own time with that version


@dataclass(frozen=True, slots=True)
class Moved:
    """An alias has moved, and every production replica answers with it."""

    production: int
    previous: int | None
    effective_ms: float


@dataclass(slots=True)
class _Follower:
    report: ReplicaReport
    place: Place | None
    alive_until: float


class ReleaseDesk:
    """`share(state)` makes a state cheap to hand to many; `clock` is the time of day, `serves` whether there are replicas.

    `audit` is where moves and events are written down, and the latest come back from; `fetch` finds a version that is not at
    hand any more.
    """

    def __init__(
        self,
        config: PromotionConfig,
        blueprint: Blueprint,
        share: Callable[[ModelState], Any],
        clock: Callable[[], float],
        *,
        serves: bool,
        audit: AuditLog | None = None,
        fetch: Callable[[int], ModelState | None] = lambda version: None,
    ) -> None:
        self._fetch = fetch
        self._config, self.blueprint, self._share, self._clock, self._serves = config, blueprint, share, clock, serves
        self._changed = threading.Condition()
        self._epoch = f"{clock():.6f}"
        self._serial = {PRODUCTION: 0, SHADOW: 0}
        self._kept: OrderedDict[int, ModelState] = OrderedDict()
        self._shared: dict[int, Any] = {}
        self._followers: dict[str, _Follower] = {}
        self._journal = EventJournal(audit, clock)
        self._unserved: deque[tuple[int, float]] = deque(maxlen=_UNSERVED)
        self._freshness_s: deque[float] = deque(maxlen=_UNSERVED)
        self.aliases = Aliases()
        self.moves = {"promoted": 0, "rolled_back": 0, "rejected": 0}  # by hand or by the gate

    # --- what moves the aliases

    def resume(self, aliases: Aliases, states: Sequence[ModelState]) -> None:
        """After a restart: the aliases as they were, and the versions that are still at hand."""
        there = {state.version: state for state in states}
        for version in set(filter(None, aliases.names().values())) - there.keys():
            self._take_in(self._fetch(version))
        with self._changed:
            for _, state in sorted(there.items()):
                self._kept[state.version] = state
            self._set(aliases)

    def committed(self, state: ModelState, arrived_at: float | None) -> None:
        """A new head; `arrived_at` is when the oldest label in it arrived."""
        with self._changed:
            self._kept[state.version] = state
            if arrived_at is not None:
                self._unserved.append((state.version, arrived_at))
            self._set(self.aliases.committed(state.version, self._config.policy))
            self._drop_old()
            if not self._serves:
                self._note_served(self.aliases.production)

    def promote(self, version: int | None, reason: str, by: str, timeout_s: float) -> Moved:
        """To the head where no version is named, after which policy `always` follows again.

        Raises UnknownVersionError where the version is not kept, NotFollowedError where a replica has not followed in time.
        """
        return self._move(version, "promoted", reason, by, timeout_s)

    def rollback(self, version: int | None, reason: str, by: str, timeout_s: float) -> Moved:
        """To the previous version where none is named: said twice, it is back where it was."""
        return self._move(version, "rolled_back", reason, by, timeout_s)

    def decide(self, decision: Decision) -> None:
        """Does what the gate has decided, unless somebody has moved the aliases meanwhile."""
        with self._changed:
            aliases = self.aliases.decided(decision)
            if aliases == self.aliases:
                return
            data = {
                "version": aliases.production,
                "from": self.aliases.production,
                "shadow": decision.candidate,
                "reason": decision.reason,
                "by": "gate",
                "held": False,
            }
            kind = _KINDS[decision.verdict]
            if kind in self.moves:
                self.moves[kind] += 1
            self._journal.tell([(kind, data)])
            self._set(aliases)

    def _move(self, version: int | None, kind: str, reason: str, by: str, timeout_s: float) -> Moved:
        started = time.monotonic()
        target = self._target(version, kind)
        fetched = None if target in self.kept else self._fetch(target)  # not under the lock: replicas do not wait for storage
        with self._changed:
            self._take_in(fetched)
            if target not in self._kept:
                raise UnknownVersionError(self._unknown(target))
            head = next(reversed(self._kept))
            before = self.aliases.production
            aliases = self.aliases.promoted(target, head) if kind == "promoted" else self.aliases.rolled_back(target)
            data = {"version": target, "from": before, "reason": reason, "by": by, "held": aliases.is_held}
            self._journal.record(kind, data)
            self.moves[kind] += 1
            self._set(aliases)
            self._drop_old()
            place = Place(self._epoch, self._serial[PRODUCTION])
            if not self._changed.wait_for(lambda: not self._behind(place), timeout_s):
                late = ", ".join(f.report.name for f in self._behind(place))
                raise NotFollowedError(
                    f"production is version {target} now, but {late} has not followed within {timeout_s:g} s; it will, and "
                    f"naming version {target} again waits for it"
                )
            return Moved(target, aliases.previous, 1000 * (time.monotonic() - started))

    def _target(self, version: int | None, kind: str) -> int:
        """The version that is meant where none is named: the head, or the one before."""
        if version is not None:
            return version
        with self._changed:
            found = next(reversed(self._kept), None) if kind == "promoted" else self.aliases.previous
            if found is None:
                what = "version yet" if kind == "promoted" else "previous version to roll back to; name a version"
                raise UnknownVersionError(f"there is no {what}")
            return found

    def _take_in(self, state: ModelState | None) -> None:
        """One from storage is older than those at hand: the first to be dropped again once no alias names it."""
        with self._changed:
            if state is not None and state.version not in self._kept:
                self._kept[state.version] = state
                self._kept.move_to_end(state.version, last=False)

    def _unknown(self, target: int) -> str:
        if not self._kept:
            return f"version {target} is not kept: there is no version yet"
        return (
            f"version {target} is not kept: kept are the newest, {min(self._kept)} to {max(self._kept)} "
            "(promotion.keep_versions), those that an alias names, and the durable ones (`perennial log`)"
        )

    def _set(self, aliases: Aliases) -> None:
        before, self.aliases = self.aliases, aliases
        for role, old, new in (
            (PRODUCTION, before.production, aliases.production),
            (SHADOW, before.shadow, aliases.shadow),
        ):
            self._serial[role] += old != new
        self._changed.notify_all()

    def _drop_old(self) -> None:
        named = set(self.aliases.names().values())
        older = list(self._kept)[: -self._config.keep_versions]
        for version in list(self._kept)[:-2]:
            is_surplus = version in older or self._kept_bytes() > self._config.keep_bytes
            if is_surplus and version not in named:
                del self._kept[version]
        for version in self._shared.keys() - named:
            del self._shared[version]

    def _kept_bytes(self) -> int:
        return sum(state.nbytes for state in self._kept.values())

    @property
    def kept(self) -> tuple[int, ...]:
        """The versions that can be promoted or rolled back to."""
        with self._changed:
            return tuple(self._kept)

    def state(self, version: int) -> ModelState | None:
        """A version that is kept."""
        with self._changed:
            return self._kept.get(version)

    # --- what replicas ask

    def wait_release(self, report: ReplicaReport, have: Place | None, timeout_s: float) -> Release | None:
        """What `report.role` is to serve, as soon as it differs from `have`; None after `timeout_s` without news."""
        with self._changed:
            follower = self._followers[report.name] = _Follower(report, have, time.monotonic() + timeout_s + _ALIVE_S)
            self._note_followers()
            self._changed.wait_for(lambda: self._news(report.role, have), timeout_s)
            has_news = self._news(report.role, have)
            follower.alive_until = time.monotonic() + (_TAKING_OVER_S if has_news else _ALIVE_S)
            return self._release(report.role, have) if has_news else None

    def wait_events(self, report: ReplicaReport, after: int, timeout_s: float) -> list[Event]:
        """Events with a larger id, as soon as there are any; none after `timeout_s`."""
        with self._changed:
            follower = self._followers[report.name] = _Follower(report, None, time.monotonic() + timeout_s + _ALIVE_S)
            self._changed.wait_for(lambda: self._journal.newest > after, timeout_s)
            follower.alive_until = time.monotonic() + _ALIVE_S
            return self._journal.after(after)

    def tell(self, events: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """What has happened elsewhere, by kind."""
        self._journal.tell(events)
        with self._changed:
            self._changed.notify_all()

    @property
    def moved_to(self) -> set[int]:
        """The versions that production was moved to, by hand or by the gate: the latest moves, of earlier runs too."""
        with self._changed:
            return self._journal.moved_to

    def reports(self) -> tuple[tuple[ReplicaReport, bool], ...]:
        """Every serving actor that has asked, and whether it is alive."""
        with self._changed:
            return tuple((f.report, self._is_alive(f)) for f in self._followers.values())

    def take_freshness(self) -> tuple[float, ...]:
        """Seconds from a label's arrival until production served what was learned from it, of versions since the last call."""
        with self._changed:
            taken = tuple(self._freshness_s)
            self._freshness_s.clear()
            return taken

    def _news(self, role: str, have: Place | None) -> bool:
        version = getattr(self.aliases, role)
        return version in self._kept and (have is None or have != Place(self._epoch, self._serial[role]))

    def _release(self, role: str, have: Place | None) -> Release:
        version = getattr(self.aliases, role)
        if version not in self._shared:
            self._shared[version] = self._share(self._kept[version])
        place = Place(self._epoch, self._serial[role])
        is_new_here = have is None or have.epoch != self._epoch
        return Release(place, version, self._shared[version], self.blueprint if is_new_here else None)

    def _is_alive(self, follower: _Follower) -> bool:
        return time.monotonic() < follower.alive_until

    def _behind(self, place: Place) -> list[_Follower]:
        """Live production replicas that do not serve what was released at `place`, or later."""
        return [
            f
            for f in self._followers.values()
            if f.report.role == PRODUCTION
            and self._is_alive(f)
            and (f.place is None or f.place.epoch != place.epoch or f.place.serial < place.serial)
        ]

    def _note_followers(self) -> None:
        """A replica has told where it is: somebody may have waited for that, and labels may have become served."""
        versions = [
            f.report.version
            for f in self._followers.values()
            if f.report.role == PRODUCTION and self._is_alive(f) and f.report.version is not None
        ]
        self._note_served(min(versions, default=None))
        self._changed.notify_all()

    def _note_served(self, version: int | None) -> None:
        while version is not None and self._unserved and self._unserved[0][0] <= version:
            self._freshness_s.append(max(0.0, self._clock() - self._unserved.popleft()[1]))
