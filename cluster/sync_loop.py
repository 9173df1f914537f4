"""Sync mode: a round of all shards becomes one version.

A round's learning waits for the version before it, its commit for the round's contributions. So the next round is on its way
before this one's version is back.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import ray
from ray import ObjectRef

from actors.errors import LearningError
from actors.records import RoundHeader
from actors.version_manager import Commit
from cluster.calls import ATTEMPTS, DEATHS, SLICE_S, await_life, has_died, is_ready, value_of
from cluster.config import PerennialConfig
from cluster.evaluation import Question
from cluster.feed import Assignment, StandingOrder
from cluster.launch import System
from cluster.loop import Landed, LearningLoop

logger = logging.getLogger(__name__)

_WINDOW = 2  # rounds under way at once: one that learns, one that stands ready behind it


@dataclass(slots=True)
class _Flight:
    """Work that becomes one version: the base it starts from, and the commit that ends it."""

    header: RoundHeader
    assignments: list[Assignment]
    base: ObjectRef
    started: float = field(default_factory=time.monotonic)
    head: ObjectRef | None = None
    commit: ObjectRef | None = None
    question: Question | None = None  # for the evaluator
    order: StandingOrder | None = None
    batch: ObjectRef | None = None  # whose labels the evaluator has not seen yet
    attempts: int = 0
    is_recalled: bool = False  # its head is scored on past regimes


class SyncLoop(LearningLoop):
    """Every version is what all shards learned of one round."""

    def __init__(self, config: PerennialConfig, system: System, tick: Callable[[], None]) -> None:
        self._flights = deque[_Flight]()
        self._watched_since = 0.0
        super().__init__(config, system, tick)

    @property
    def _is_idle(self) -> bool:
        return not self._flights and not self._waiting

    def step(self) -> Landed | None:
        while True:
            is_cut_due = self._cut_if_due()
            header = self.feed.next_header
            is_open = header is not None and len(self._flights) < _WINDOW and not is_cut_due
            if header is not None and is_open and (not self._flights or is_ready(header)):
                dealt = self.feed.take()
                if dealt is not None:
                    self._launch(_Flight(dealt.header, list(dealt.assignments), self._head, batch=dealt.batch))
                    continue
                if not self._flights and not self._waiting:
                    return None
                continue
            if not self._flights:
                if not self._waiting:
                    return None
                self._launch(_Flight(self._waiting[-1].header, [], self._head))
            if self._wait_for_commit(also=header if is_open else None):
                return self._land()

    def _launch(self, flight: _Flight) -> None:
        if not self._flights:
            self._watched_since = time.monotonic()
        flight.assignments.extend(self._waiting)
        self._waiting.clear()
        self._send_flight(flight)
        self._flights.append(flight)
        self.feed.sent(flight.assignments)

    def _send_flight(self, flight: _Flight) -> None:
        """Gives out what has no answer yet, and strings the commit and the evaluation behind it."""
        flight.attempts += 1
        for a in flight.assignments:
            if a.receipt is None:
                self._send(a, a.work.shard, a.base or flight.base)
        flight.commit, flight.head = self._commit_of(flight.header, flight.assignments)
        self._head = flight.head
        flight.question = self.evaluation.observe(flight.header, flight.batch, flight.assignments, flight.order)
        flight.order = flight.question.order
        flight.is_recalled |= self._is_recall_due(flight.header.position)
        if flight.is_recalled:
            self.evaluation.recall(flight.header.round, flight.head)

    def _wait_for_commit(self, also: ObjectRef | None = None) -> bool:
        """True once the first flight's commit is there; False where it was interrupted: by a slice's end, or by `also`."""
        commit = self._flights[0].commit
        ray.wait([commit, also] if also is not None else [commit], num_returns=1, timeout=SLICE_S)
        self.tick()
        self.evaluation.take()
        if is_ready(commit):
            return True
        if time.monotonic() - self._watched_since > self.config.learners.round_timeout_s:
            self._stop_the_late()
        return False

    def _land(self) -> Landed:
        while True:
            while not self._wait_for_commit():
                pass
            flight = self._flights[0]
            try:
                commit: Commit = value_of(flight.commit)
            except DEATHS as error:
                self._recover(error)
                continue
            self._flights.popleft()
            self._note(flight.header, commit, flight.head)
            assert flight.question is not None
            self.evaluation.wait_for(flight.question)
            self._watched_since = time.monotonic()
            self._learn_stale_again(flight.assignments, commit)
            return Landed(flight.header, commit, time.monotonic() - flight.started)

    def _stop_the_late(self) -> None:
        flight = self._flights[0]
        late = [a for a in flight.assignments if not is_ready(a.receipt)]
        if not late:
            raise LearningError(f"the version manager has not committed round {flight.header.round} in time")
        for a in late:
            logger.warning("contribution %s is late; its learner is started again", a.work.contribution_id)
            ray.kill(self.system.learners[a.learner].handle, no_restart=False)
        self._watched_since = time.monotonic()
        answered = len(flight.assignments) - len(late)
        if answered and answered >= math.ceil(self.config.consolidation.quorum * len(flight.assignments)):
            # The round goes on without them. They keep their base: from a newer one they would predict with labels in mind
            # that come later in the stream.
            for a in late:
                self._waiting.append(replace(a, base=a.base or flight.base, receipt=None))
            flight.assignments = [a for a in flight.assignments if a not in late]

    def _recover(self, error: Exception) -> None:
        """Somebody died under the first flight. Gives out again what came to nothing, on the same base: the same answers."""
        first = self._flights[0]
        if first.attempts >= ATTEMPTS:
            raise LearningError(f"round {first.header.round} failed {first.attempts} times; the last time: {error}") from error
        logger.warning("round %d is given out again: %s", first.header.round, error)
        self._ensure_version_manager()
        for member in self.system.learners:
            await_life(member, self.tick)
        base = first.base
        for flight in self._flights:
            flight.base = base
            for a in flight.assignments:
                if flight is not first or has_died(a.receipt):
                    a.receipt = None
                    self.feed.mend(a)
            self._send_flight(flight)
            base = flight.head
        self._watched_since = time.monotonic()

    def _mend_order(self, error: Exception) -> None:
        if self._flights and has_died(self._flights[0].commit):
            self._recover(error)
        else:
            super()._mend_order(error)
