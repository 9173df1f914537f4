"""Who of the system is alive: asked without waiting, and remembered until the next answer."""

import time
from collections import Counter, deque
from collections.abc import Iterable

import ray
from ray import ObjectRef
from ray.exceptions import RayActorError, RayError

from actors.status import ActorHealth
from cluster.launch import Member
from cluster.vitals import Vitals

_SILENT_AFTER_S = 15.0
_BUSY_WINDOW_S = 10.0


class HealthWatch:
    """`ask` sends a question to every actor that has none open; `answers` takes what has come back."""

    def __init__(self, members: Iterable[Member]) -> None:
        self._members = list(members)
        self._open: dict[str, tuple[ObjectRef, float]] = {}
        self._vitals: dict[str, Vitals] = {}
        self._is_dead: dict[str, bool] = {}
        self._busy: dict[str, deque[tuple[float, float]]] = {}
        self.restarts: Counter[str] = Counter()

    def ask(self) -> None:
        self._take_answers()
        for member in self._members:
            if member.name not in self._open:
                question = member.handle.vitals.options(concurrency_group="control").remote()
                self._open[member.name] = (question, time.monotonic())

    def worked(self, name: str, seconds: float) -> None:
        """`name` has spent `seconds` at work until now."""
        self._busy.setdefault(name, deque(maxlen=1000)).append((time.monotonic(), seconds))

    def actors(self) -> tuple[ActorHealth, ...]:
        now = time.monotonic()
        return tuple(self._health(member, now) for member in self._members)

    def _health(self, member: Member, now: float) -> ActorHealth:
        vitals = self._vitals.get(member.name)
        asked = self._open.get(member.name)
        is_silent = asked is not None and now - asked[1] > _SILENT_AFTER_S
        return ActorHealth(
            name=member.name,
            role=member.role,
            pid=vitals.pid if vitals else None,
            node=vitals.node if vitals else None,
            alive=not self._is_dead.get(member.name, False) and not is_silent and vitals is not None,
            restarts=self.restarts[member.name],
            busy_fraction=self._busy_fraction(member.name, now),
        )

    def _busy_fraction(self, name: str, now: float) -> float | None:
        spans = self._busy.get(name)
        if not spans:
            return None
        while spans and spans[0][0] < now - _BUSY_WINDOW_S:
            spans.popleft()
        return min(1.0, sum(seconds for _, seconds in spans) / _BUSY_WINDOW_S)

    def _take_answers(self) -> None:
        if not self._open:
            return
        refs = {ref: name for name, (ref, _) in self._open.items()}
        ready, _ = ray.wait(list(refs), num_returns=len(refs), timeout=0)
        for ref in ready:
            name = refs[ref]
            del self._open[name]
            try:
                vitals: Vitals = ray.get(ref, timeout=1.0)
            except RayActorError:
                self._is_dead[name] = True
                continue
            except RayError:
                continue
            known = self._vitals.get(name)
            self.restarts[name] += known is not None and known.pid != vitals.pid
            self._vitals[name], self._is_dead[name] = vitals, False
