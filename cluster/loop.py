"""The learning loop: rounds of the stream, dealt to the shards, consolidated into versions.

It passes references; rows and weights go from actor to actor through the object store and are never copied through here.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import ray
from ray import ObjectRef
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from actors.errors import LearningError, PerennialError
from actors.evaluator import Observation
from actors.learning.dealing import deal, offsets_of
from actors.learning.versioning import Outcome
from actors.records import Receipt, RoundHeader, Work
from actors.version_manager import Commit
from cluster.config import PerennialConfig
from cluster.launch import Launcher, Member, System

logger = logging.getLogger(__name__)

_CALL_TIMEOUT_S = 60.0
_ATTEMPTS = 4  # of one piece of work, and of finding a new ingestor
_SLICE_S = 0.2  # how long the loop waits before it looks after other things


@dataclass(slots=True)
class _Round:
    """A round under way: its header, its rows in the object store, and when it was handed out."""

    header: RoundHeader
    batch: ObjectRef
    started: float
    is_observed: bool = False


@dataclass(slots=True)
class _Assignment:
    """A piece of work on its way through a learner."""

    work: Work
    round: _Round
    replay: ObjectRef | None
    base: ObjectRef | None = None
    learner: int = -1
    sent: float = 0.0
    attempts: int = 0
    change: ObjectRef | None = None
    predictions: ObjectRef | None = None
    receipt: ObjectRef | None = None


@dataclass(frozen=True, slots=True)
class Progressed:
    """What one step of the loop has brought."""

    header: RoundHeader
    receipts: tuple[Receipt, ...]
    commit: Commit
    round_s: float  # from the hand-out of the round to its version
    commit_s: float


@dataclass(slots=True)
class ReplayHoldings:
    rows: int = 0
    nbytes: int = 0


@dataclass(slots=True)
class LearningLoop:
    """`step` does one round (sync) or takes one contribution (async). While it waits it calls `tick` several times a second."""

    config: PerennialConfig
    launcher: Launcher
    system: System
    tick: Callable[[], None]
    version: int = 0
    is_over: bool = False
    holdings: list[ReplayHoldings] = field(default_factory=list)
    observation: Observation | None = None
    _head: ObjectRef | None = None
    _queue: deque[_Assignment] = field(default_factory=deque)
    _in_flight: list[_Assignment] = field(default_factory=list)
    _next: tuple[ObjectRef, ObjectRef] | None = None
    _next_number: int = 0
    _last_header: RoundHeader | None = None
    _samples: list[ObjectRef | None] = field(default_factory=list)
    _observing: ObjectRef | None = None
    _holding_refs: list[tuple[ObjectRef, ObjectRef]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._samples = [None] * len(self.system.learners)
        self.holdings = [ReplayHoldings() for _ in self.system.replays]

    # --- one step

    def step(self) -> Progressed | None:
        """None where the stream had nothing new. Raises PerennialError where the loop cannot go on."""
        if not self._queue and (self._is_async or not self._in_flight or self._only_late_in_flight()):
            idle = self._take_round()
            if idle and not self._in_flight:
                return None
        self._dispatch()
        if not self._in_flight:
            return None
        done = self._collect()
        return self._commit(done) if done else None

    @property
    def has_work(self) -> bool:
        return bool(self._queue or self._in_flight) or not self.is_over

    def finish(self) -> None:
        """Waits for what the evaluator still has in hand."""
        self._settle_observation()

    @property
    def _is_async(self) -> bool:
        return self.config.consolidation.mode == "async"

    def _only_late_in_flight(self) -> bool:
        return all(time.monotonic() - a.sent > self.config.learners.round_timeout_s for a in self._in_flight)

    # --- rounds

    def _take_round(self) -> bool:
        """Deals the next round, if there is one. True where there was nothing in it."""
        if self.is_over:
            return True
        batch, header = self._fetch()
        self._last_header, self.is_over = header, header.is_last
        self._next_number += 1
        self._next = None if header.is_last else self._request()
        if not header.test_rows and not header.train_rows:
            if header.read:
                self.system.version_manager.handle.saw.remote(header)
            return True
        self._deal(_Round(header, batch, time.monotonic()))
        return False

    def _request(self) -> tuple[ObjectRef, ObjectRef]:
        refs: list[ObjectRef] = self.system.ingestor.handle.next_round.options(num_returns=2).remote(self._next_number)
        return refs[0], refs[1]

    def _fetch(self) -> tuple[ObjectRef, RoundHeader]:
        for attempt in range(_ATTEMPTS):
            batch, header = self._next or self._request()
            try:
                return batch, self._get(header, _CALL_TIMEOUT_S + self.config.learners.round_wait_s)
            except RayActorError as error:
                logger.warning("the ingestor died (%s); another takes over at its last position", error)
                position = self._last_header.position if self._last_header else None
                self.system.replace(self.system.ingestor, self._respawn(lambda p=position: self.launcher.ingestor(p)))  # type: ignore[misc]
                self._next = None
                if attempt == _ATTEMPTS - 1:
                    raise LearningError(f"the ingestor died {_ATTEMPTS} times in a row; the last time: {error}") from error
        raise AssertionError("unreachable")

    def _respawn(self, spawn: Callable[[], Member]) -> Member:
        """A name is free again only some time after its actor's death."""
        deadline = time.monotonic() + _CALL_TIMEOUT_S
        while True:
            try:
                return spawn()
            except ValueError:
                if time.monotonic() > deadline:
                    raise
                self.tick()
                time.sleep(_SLICE_S)

    def _deal(self, new: _Round) -> None:
        learners, header = self.config.learners, new.header
        shards = len(self.system.learners)
        tests = deal(header.test_rows, shards, learners.micro_batch_rows)
        trains = deal(header.train_rows, shards, learners.micro_batch_rows)
        for shard, (test, train) in enumerate(zip(tests, trains, strict=True)):
            if not test and not train:
                continue
            work = Work(
                contribution_id=f"{header.round}/{shard}",
                round=header.round,
                shard=shard,
                base_version=self.version,
                test_slices=tuple(test),
                train_slices=tuple(train),
                trained=offsets_of(train, header.train_spans),
                label_delay_rows=self.config.stream.label_delay_rows,
                replay_rows=round(self.config.replay.ratio * sum(stop - start for start, stop in train)),
            )
            self._queue.append(_Assignment(work, new, self._samples[shard]))
        self._replay(new)

    def _replay(self, new: _Round) -> None:
        """Remembers the round's rows, and draws for the next one: one call per replay shard and round.

        The rows join the memory after the draw for their own round, so no step replays a row that it is about to learn.
        """
        replays = self.system.replays
        if not replays:
            return
        slices = deal(new.header.train_rows, len(replays), self.config.learners.micro_batch_rows)
        rows = math.ceil(self.config.replay.ratio * self.config.learners.rows_per_round)
        self._settle_holdings()
        self._holding_refs = []
        for at, member in enumerate(replays):
            drawers = [s for s in range(len(self._samples)) if (s + new.header.round) % len(replays) == at]
            refs = member.handle.add.options(num_returns=len(drawers) + 2).remote(
                new.batch, tuple(slices[at]), (rows,) * len(drawers)
            )
            for shard, ref in zip(drawers, refs, strict=False):
                self._samples[shard] = ref
            self._holding_refs.append((refs[-2], refs[-1]))

    def _settle_holdings(self) -> None:
        for at, refs in enumerate(self._holding_refs):
            try:
                self.holdings[at] = ReplayHoldings(*self._get(list(refs)))
            except RayActorError as error:
                logger.warning("replay shard %d died (%s); it starts again empty", at, error)

    # --- learners

    def _dispatch(self) -> None:
        busy = {a.learner for a in self._in_flight}
        while self._queue and len(busy) < len(self.system.learners):
            assignment = self._queue.popleft()
            wanted = assignment.work.shard
            free = [k for k in range(len(self.system.learners)) if k not in busy]
            assignment.learner = wanted if wanted in free else free[0]
            busy.add(assignment.learner)
            assignment.base = self._head or self._initial_head()
            assignment.work = replace(assignment.work, base_version=self.version)
            self._send(assignment)
            self._in_flight.append(assignment)

    def _initial_head(self) -> ObjectRef:
        self._head = self.system.version_manager.handle.head_state.remote()
        return self._head

    def _send(self, a: _Assignment) -> None:
        a.attempts += 1
        a.sent = time.monotonic()
        learn = self.system.learners[a.learner].handle.learn.options(num_returns=3)
        a.change, a.predictions, a.receipt = learn.remote(a.work, a.base, a.round.batch, a.replay)

    def _collect(self) -> list[tuple[_Assignment, Receipt]]:
        """Sync: all that is in flight, or a quorum at the deadline. Async: the first that comes."""
        needed = 1 if self._is_async else math.ceil(self.config.consolidation.quorum * len(self._in_flight))
        done: list[tuple[_Assignment, Receipt]] = []
        while self._in_flight:
            by_ref = {a.receipt: a for a in self._in_flight}
            ready, _ = ray.wait(list(by_ref), num_returns=1 if self._is_async else len(by_ref), timeout=_SLICE_S)
            for ref in ready:
                receipt = self._receipt(by_ref[ref])
                if receipt is not None:
                    self._in_flight.remove(by_ref[ref])
                    done.append((by_ref[ref], receipt))
            self.tick()
            if self._is_async and done:
                break
            self._dispatch()
            late = [a for a in self._in_flight if time.monotonic() - a.sent > self.config.learners.round_timeout_s]
            if late and len(late) == len(self._in_flight) and len(done) >= needed:
                break
            for a in late:
                logger.warning("contribution %s is late; its learner is started again", a.work.contribution_id)
                ray.kill(self.system.learners[a.learner].handle, no_restart=False)
                self._again(a, f"no answer within learners.round_timeout_s, {self.config.learners.round_timeout_s:g} s")
        return done

    def _receipt(self, a: _Assignment) -> Receipt | None:
        """None where the learner died: the same work is on its way again, on the same version, for the same answer."""
        try:
            receipt: Receipt = self._get(a.receipt)
            return receipt
        except RayActorError as error:
            self._again(a, str(error))
            return None

    def _again(self, a: _Assignment, reason: str) -> None:
        if a.attempts >= _ATTEMPTS:
            what = f"learner shard {a.learner} failed {a.attempts} times at contribution {a.work.contribution_id}"
            raise LearningError(f"{what}; the last time: {reason}")
        logger.warning("contribution %s is given out again: %s", a.work.contribution_id, reason)
        if a.replay is not None and self._has_failed(a.replay):
            a.replay = None
        self._send(a)

    @staticmethod
    def _has_failed(ref: ObjectRef) -> bool:
        try:
            ray.get(ref, timeout=_CALL_TIMEOUT_S)
        except (RayActorError, GetTimeoutError):
            return True
        return False

    # --- versions

    def _commit(self, done: list[tuple[_Assignment, Receipt]]) -> Progressed:
        done.sort(key=lambda pair: (pair[0].work.round, pair[0].work.shard))
        current = done[-1][0].round
        receipts = tuple(receipt for _, receipt in done)
        started = time.monotonic()
        commit_ref, head = self.system.version_manager.handle.commit.options(num_returns=2).remote(
            current.header, receipts, *(a.change for a, _ in done)
        )
        self._observe(done)
        try:
            commit: Commit = self._get(commit_ref)
        except RayActorError as error:
            raise LearningError(f"the version manager died, and with it the history of this run: {error}") from error
        self._head, self.version = head, commit.version
        stale = {j.contribution_id for j in commit.judgements if j.outcome is Outcome.STALE}
        for a, _ in done:
            if a.work.contribution_id in stale:  # its rows have been predicted; they are learned from the present head
                again = replace(a.work, contribution_id=f"{a.work.contribution_id}+", test_slices=())
                self._queue.append(_Assignment(again, a.round, a.replay))
        now = time.monotonic()
        return Progressed(current.header, receipts, commit, now - current.started, now - started)

    def _observe(self, done: list[tuple[_Assignment, Receipt]]) -> None:
        self._settle_observation()
        rounds = {id(a.round): a.round for a, _ in done}
        fresh = [r for r in rounds.values() if not r.is_observed]
        for r in fresh[:-1]:
            self.system.evaluator.handle.observe.remote(r.batch)
        predictions = [a.predictions for a, _ in done if a.work.test_slices]
        self._observing = self.system.evaluator.handle.observe.remote(fresh[-1].batch if fresh else None, *predictions)
        for r in fresh:
            r.is_observed = True

    def _settle_observation(self) -> None:
        if self._observing is None:
            return
        try:
            self.observation = self._get(self._observing)
        except RayActorError as error:
            raise LearningError(f"the evaluator died, and with it the scores of this run: {error}") from error
        self._observing = None

    def _get(self, ref: "ObjectRef | list[ObjectRef]", timeout: float = _CALL_TIMEOUT_S):  # type: ignore[no-untyped-def]
        """The value, within a deadline; an error of ours that a role raised, as itself."""
        try:
            return ray.get(ref, timeout=timeout)
        except RayTaskError as error:
            cause = error.cause
            if isinstance(cause, PerennialError):
                raise cause from None
            raise LearningError(f"a role failed: {cause!r}. The full traceback is in Ray's logs.") from error
        except GetTimeoutError as error:
            raise LearningError(f"a role has not answered within {timeout:g} s; `ray stack` shows where it hangs") from error
