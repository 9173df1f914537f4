"""The learning loop: rounds of the stream, learned by the shards, consolidated into versions.

It only strings references together: a round's learning waits for the version before it, its commit for the round's
contributions, and Ray carries rows and weights from actor to actor. So the next round is on its way before this one's
version is back, and nothing large passes through here.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray import ObjectRef

from actors.durable import EVALUATOR
from actors.errors import LearningError
from actors.evaluator import Observation
from actors.learning.gate.gate import Decision, Verdict
from actors.learning.gate.measurements import Measurements
from actors.learning.lineage import OffsetRange, OffsetSet
from actors.learning.promotion import Aliases, PromotionPolicy
from actors.learning.steering import is_steered
from actors.learning.versioning import Outcome, VersionHistory
from actors.records import RoundHeader, StreamPosition
from actors.version_manager import Commit
from cluster.archivist import Archivist
from cluster.calls import ATTEMPTS, DEATHS, SLICE_S, await_life, has_died, is_ready, revived, value_of
from cluster.config import PerennialConfig
from cluster.feed import Assignment, RoundFeed, StandingOrder
from cluster.launch import System

logger = logging.getLogger(__name__)

_WINDOW = 2  # rounds under way at once: one that learns, one that stands ready behind it
_OBSERVATIONS = 4  # calls that the evaluator may be behind
_REMEMBERED_OBSERVATIONS = 4_000  # should storage refuse versions for long


@dataclass(slots=True)
class _Observed:
    """What the evaluator was given, from a round on, as a call of its own; and its answer."""

    round: int
    # observe or steer: the labels of a round, or None, and predictions; compare: versions; recall: the head; measure
    method: str
    arguments: list[Any]
    order: StandingOrder | None = None  # for the rounds to come, where learning is steered
    answer: ObjectRef = field(init=False)


@dataclass(slots=True)
class _Flight:
    """Work that becomes one version: the base it starts from, and the commit that ends it."""

    header: RoundHeader
    assignments: list[Assignment]
    base: ObjectRef
    started: float
    head: ObjectRef | None = None
    commit: ObjectRef | None = None
    observation: _Observed | None = None
    order: StandingOrder | None = None
    batch: ObjectRef | None = None  # whose labels the evaluator has not seen yet
    attempts: int = 0
    is_recalled: bool = False  # its head is scored on past regimes


@dataclass(frozen=True, slots=True)
class Landed:
    """A flight that has become a version, or has left the head as it was."""

    header: RoundHeader
    commit: Commit
    seconds: float  # from the hand-out of its rows to its version


@dataclass(slots=True)
class LearningLoop:
    """`step` brings the next version. While it waits it calls `tick` several times a second."""

    config: PerennialConfig
    system: System
    tick: Callable[[], None]
    version: int = 0
    observation: Observation | None = None
    feed: RoundFeed = field(init=False)
    _head: ObjectRef = field(init=False)  # of what has been asked for
    # What has come back, and a version manager that was started again goes on from.
    _kept: dict[int, ObjectRef] = field(init=False)
    _history: VersionHistory = field(init=False)
    aliases: Aliases = field(default_factory=Aliases)
    _flights: deque[_Flight] = field(default_factory=deque)
    _leftovers: deque[Assignment] = field(default_factory=deque)  # given up by their round, on their own base
    _queue: deque[Assignment] = field(default_factory=deque)  # async: dealt, not yet given to a learner
    _learning: list[Assignment] = field(default_factory=list)  # async: at a learner
    _observations: deque[_Observed] = field(default_factory=deque)  # not taken yet
    _compared: _Observed | None = None  # the last comparison before these
    _told: tuple[bool, int | None, int | None] = (False, None, None)  # who is compared, and whether the gate decides
    _recalled: int = 0  # how often a head has been scored on past regimes
    _measured: Measurements | None = None  # that the evaluator knows of
    _regretted: Decision | None = None  # the last rollback of the gate
    _observed: deque[_Observed] = field(default_factory=lambda: deque(maxlen=_REMEMBERED_OBSERVATIONS))  # not durable yet
    _observed_round: int = -1
    _steers: bool = field(init=False)
    _standing: StandingOrder | None = None  # of the newest round that the evaluator was given
    _quiet: _Observed | None = None  # the last round without rows that it was given
    _watched_since: float = 0.0
    archivist: Archivist = field(init=False)
    _rows: int = 0  # learned by the head

    def __post_init__(self) -> None:
        self._steers = is_steered(self.config.drift, self.config.update)
        first, self._standing = self._orders_before()
        self.feed = RoundFeed(self.config, self.system, self.tick, self._saw, first, lambda: self._standing, self._mend_order)
        self.archivist = Archivist(self.config, self.system, self._mend_parts)
        self._head = self.system.head
        self._history = VersionHistory(self.config.consolidation.max_staleness)
        if resumed := self.system.resumed:
            self._history.restore(resumed.history)
            self.version, self._rows, self.aliases = self._history.head, resumed.states[-1].rows, resumed.aliases
            self._is_recall_due(resumed.position)
        self._kept = {self.version: self._head}
        for state in self.system.resumed.states[:-1] if self.system.resumed else ():
            self._kept[state.version] = ray.put(state)
        self._tell_pair()

    @property
    def has_work(self) -> bool:
        return not self.feed.is_over or bool(self._flights or self._leftovers or self._queue or self._learning)

    def step(self) -> Landed | None:
        """None where the stream had nothing new. Raises PerennialError where the loop cannot go on."""
        return self._step_async() if self.config.consolidation.mode == "async" else self._step_sync()

    def wind_down(self) -> None:
        """Takes no further round: `step` brings home what is under way until `has_work` is false."""
        self.feed.close()

    def finish(self) -> None:
        """Waits for what the evaluator still has in hand."""
        self._take_observations(0)

    def commit(self) -> None:
        """Makes the head durable, and waits for it. Raises LearningError where it cannot be."""
        for _ in range(ATTEMPTS):
            self.archivist.finish()
            place = self.feed.place
            if place and self._steers and 0 < self.version == self._known and place[1] != self.archivist.position:
                self._mark(*place)
            if not self._is_cut_open:
                return
            self.archivist.trigger = "end"
            self._cut()
        raise LearningError(f"version {self.version} has not become durable, for roles died again and again")

    # --- durable versions

    @property
    def _is_cut_due(self) -> bool:
        """Whether rounds are to come home, and none go out, until a version has been cut."""
        return self.archivist.is_due(self.version, self._rows)

    @property
    def _is_cut_open(self) -> bool:
        """Whether there is a head that is not durable, and nothing on its way into the next one."""
        return self.version > self._known and not (self._flights or self._leftovers or self._queue or self._learning)

    @property
    def _known(self) -> int:
        """The newest durable version."""
        return self.archivist.durable.version if self.archivist.durable else 0

    def _cut(self) -> None:
        place, seen = self.feed.place, self.observation
        assert place is not None
        scores = {"metric": seen.metric, "recent": seen.recent, "overall": seen.overall} if seen else None
        head = self._kept[self.version]
        self.archivist.commit(self.version, self._rows, head, place, self._history, self.aliases, scores)

    def _mark(self, round_number: int, position: StreamPosition) -> None:
        """A version for what has been predicted, scored and kept waiting since the last one, with its weights."""
        for _ in range(ATTEMPTS):
            mark = self.system.version_manager.handle.mark.options(num_returns=2)
            commit_ref, head = mark.remote(self.version, round_number, position)
            try:
                commit: Commit = value_of(commit_ref)
            except DEATHS:
                self._ensure_version_manager()
                continue
            self._head = head
            self._note_version(commit, head)
            return
        raise LearningError(f"the version manager died {ATTEMPTS} times in a row; Ray's logs tell why")

    # --- sync: a round of all shards becomes one version

    def _step_sync(self) -> Landed | None:
        while True:
            is_cut_due = self._is_cut_due
            if is_cut_due and self._is_cut_open:
                self._cut()
                continue
            header = self.feed.next_header
            is_open = header is not None and len(self._flights) < _WINDOW and not is_cut_due
            if header is not None and is_open and (not self._flights or is_ready(header)):
                dealt = self.feed.take()
                if dealt is not None:
                    self._launch(
                        _Flight(dealt.header, list(dealt.assignments), self._head, time.monotonic(), batch=dealt.batch)
                    )
                    continue
                if not self._flights and not self._leftovers:
                    return None
                continue
            if not self._flights:
                if not self._leftovers:
                    return None
                self._launch(_Flight(self._leftovers[-1].header, [], self._head, time.monotonic()))
            if self._wait_for_commit(also=header if is_open else None):
                return self._land()

    def _launch(self, flight: _Flight) -> None:
        if not self._flights:
            self._watched_since = time.monotonic()
        flight.assignments.extend(self._leftovers)
        self._leftovers.clear()
        self._send_flight(flight)
        self._flights.append(flight)

    def _send_flight(self, flight: _Flight) -> None:
        """Gives out what has no answer yet, and strings the commit and the evaluation behind it."""
        flight.attempts += 1
        for a in flight.assignments:
            if a.receipt is None:
                self._send(a, a.work.shard, a.base or flight.base)
        flight.commit, flight.head = self._commit_of(flight.header, flight.assignments)
        self._head = flight.head
        flight.observation = self._observe(flight.header, flight.batch, flight.assignments, flight.order)
        flight.order = flight.observation.order
        flight.is_recalled |= self._is_recall_due(flight.header.position)
        if flight.is_recalled:
            self._tell_evaluator(flight.header.round, "recall", [flight.head])

    def _wait_for_commit(self, also: ObjectRef | None = None) -> bool:
        """True once the first flight's commit is there; False where it was interrupted: by a slice's end, or by `also`."""
        commit = self._flights[0].commit
        ray.wait([commit, also] if also is not None else [commit], num_returns=1, timeout=SLICE_S)
        self.tick()
        self._take_observations(_OBSERVATIONS)
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
            assert flight.observation is not None
            self._observations.append(flight.observation)
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
                self._leftovers.append(replace(a, base=a.base or flight.base, receipt=None))
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

    # --- async: every contribution becomes a version, no shard waits for another

    def _step_async(self) -> Landed | None:
        while True:
            self._queue.extend(self._leftovers)
            self._leftovers.clear()
            is_cut_due = self._is_cut_due
            if is_cut_due and self._is_cut_open:
                self._cut()
                continue
            while len(self._learning) < len(self.system.learners) and (self._queue or not self.feed.is_over):
                if not self._queue:
                    if is_cut_due:
                        break
                    if self._learning and not is_ready(self.feed.next_header):
                        break
                    dealt = self.feed.take()
                    self._queue.extend(dealt.assignments if dealt else ())
                    if dealt is None:
                        break
                free = sorted(set(range(len(self.system.learners))) - {a.learner for a in self._learning})
                assignment = self._queue.popleft()
                self._send(assignment, assignment.work.shard if assignment.work.shard in free else free[0], self._head)
                self._learning.append(assignment)
            if not self._learning:
                return None
            ready, _ = ray.wait([a.receipt for a in self._learning], num_returns=1, timeout=SLICE_S)
            self.tick()
            self._take_observations(_OBSERVATIONS)
            for a in [a for a in self._learning if a.receipt in ready]:
                if has_died(a.receipt):
                    self._revive(a)
                    continue
                self._learning.remove(a)
                return self._land_one(a)
            for a in self._learning:
                if time.monotonic() - a.sent > self.config.learners.round_timeout_s:
                    ray.kill(self.system.learners[a.learner].handle, no_restart=False)
                    self._revive(a)

    def _land_one(self, a: Assignment) -> Landed:
        is_new = a.header.round > self._observed_round
        self._observed_round = max(self._observed_round, a.header.round)
        self._observations.append(self._observe(a.header, a.batch if is_new else None, [a]))
        for _ in range(ATTEMPTS):
            commit_ref, self._head = self._commit_of(a.header, [a])
            try:
                commit: Commit = value_of(commit_ref)
            except DEATHS:
                self._ensure_version_manager()
                continue
            self._note(a.header, commit, self._head)
            if self._is_recall_due(a.header.position):
                self._tell_evaluator(a.header.round, "recall", [self._head])
            self._learn_stale_again([a], commit)
            return Landed(a.header, commit, time.monotonic() - a.sent)
        raise LearningError(f"the version manager died {ATTEMPTS} times in a row; Ray's logs tell why")

    def _revive(self, a: Assignment) -> None:
        """The same work again. From the newer head if need be: in async mode no two runs are alike anyway."""
        logger.warning("contribution %s is given out again: its learner died or hung", a.work.contribution_id)
        await_life(self.system.learners[a.learner], self.tick)
        self.feed.mend(a)
        self._send(a, a.learner, a.base or self._head)

    # --- both

    def _note(self, header: RoundHeader, commit: Commit, head: ObjectRef | None) -> None:
        assert head is not None
        self._history.saw(header.read, header.quarantined)
        self._note_version(commit, head)

    def _note_version(self, commit: Commit, head: ObjectRef) -> None:
        if commit.record is not None:
            self._history.commit(commit.record)
        self.version, self._rows = max(self.version, commit.version), commit.rows
        if self.archivist.durable is not None:
            self.feed.forget(self.archivist.durable, self.archivist.round)
            while self._observed and self._observed[0].round <= self.archivist.round:
                passed = self._observed.popleft()
                self._compared = passed if passed.method == "compare" else self._compared
        self._kept[commit.version] = head
        self._kept = {version: ref for version, ref in self._kept.items() if version in {*commit.kept, commit.version}}
        self.take_aliases(commit.version, commit.aliases)

    def _saw(self, header: RoundHeader, batch: ObjectRef) -> None:
        """A round without rows to work on. Time goes by in it, and what it has set aside is settled."""
        if header.read or header.quarantined:
            self._history.saw(header.read, header.quarantined)
            self.system.version_manager.handle.saw.remote(header)
        if self._steers and header.labelled_rows:
            self._observations.append(self._tell_evaluator(header.round, "steer", [batch]))
            self._standing = self._observations[-1].order
        elif self._steers:
            self._quiet = self._asked(_Observed(header.round, "steer", [batch]))
            self._standing = self._quiet.order

    def _orders_before(self) -> tuple[StandingOrder | None, StandingOrder | None]:
        """For the first round of this run, and the next, as what went before it has decided."""
        if not self._steers:
            return None, None
        number = self.system.resumed.round + 1 if self.system.resumed else 0
        orders = self.system.orders
        first = next((order for order in reversed(orders) if order.round <= number - 2), orders[0])
        return StandingOrder(ray.put(first)), StandingOrder(ray.put(orders[-1]))

    def take_aliases(self, head: int, aliases: Aliases) -> bool:
        """False where the version manager, with `head`, knows nothing of what was: it has been started again, and is told."""
        if head == 0 and self.version > 0:
            self.system.version_manager.handle.resume.remote(self._history, self.aliases, *self._kept.values())
            return False
        if head >= self.version:  # otherwise a commit has told since
            self.aliases = aliases
            self._tell_pair()
        return True

    def _is_recall_due(self, position: StreamPosition) -> bool:
        """Whether the head at this place is to be scored on past regimes; once for every so many rows."""
        before = self._recalled
        self._recalled = max(before, position.row // self.config.promotion.regimes.score_every_rows)
        return self._recalled > before

    def take_unwanted(self) -> tuple[OffsetRange, ...]:
        """Once after every rollback of the gate that production has followed: the rows that the worse version had learned, and
        the better had not. None where that is too long ago to be known."""
        regretted = self._regretted
        if regretted is None or self.aliases.production != regretted.incumbent:
            return ()
        self._regretted = None
        between = range(regretted.incumbent + 1, regretted.candidate + 1)
        records = [record for record in self._history.records() if record.version in between]
        if len(records) < len(between):
            logger.warning(
                "the learner goes on as it is: what lies between versions %d and %d is not known any more",
                regretted.incumbent, regretted.candidate,
            )  # fmt: skip
            return ()
        return OffsetSet(o for record in records for each in record.contributions for o in each.trained).ranges()

    def take_measurements(self, found: Measurements) -> None:
        """What the replicas have measured; the gate is told where it examines that shadow, and of what is new to it."""
        if self._told[0] and self._told[2] == found.shadow and found != self._measured:
            self._measured = found
            place = self.feed.place
            self._tell_evaluator(place[0] if place else -1, "measure", [found])

    def _ensure_version_manager(self) -> None:
        """Where it has been started again, it goes on from the last version that has come back."""
        revived(self.system.version_manager, self.tick, "resume", self._history, self.aliases, *self._kept.values())

    def _send(self, a: Assignment, learner: int, base: ObjectRef) -> None:
        a.learner, a.sent = learner, time.monotonic()
        learn = self.system.learners[learner].handle.learn.options(num_returns=3)
        a.change, a.predictions, a.receipt = learn.remote(a.work, base, a.batch, a.replay)

    def _commit_of(self, header: RoundHeader, assignments: Sequence[Assignment]) -> tuple[ObjectRef, ObjectRef]:
        commit = self.system.version_manager.handle.commit.options(num_returns=2)
        refs: list[ObjectRef] = commit.remote(header, *(a.receipt for a in assignments), *(a.change for a in assignments))
        return refs[0], refs[1]

    def _observe(
        self,
        header: RoundHeader,
        batch: ObjectRef | None,
        assignments: Sequence[Assignment],
        order: StandingOrder | None = None,
    ) -> _Observed:
        """Predictions for the evaluator, with the labels of a round the first time that it comes; `order` if it had one."""
        predictions = [a.predictions for a in assignments if a.work.test_slices and a.predictions is not None]
        observed = self._tell_evaluator(header.round, "steer" if self._steers else "observe", [batch, *predictions], order)
        self._standing = observed.order
        return observed

    def _tell_evaluator(
        self, round_number: int, method: str, arguments: list[Any], order: StandingOrder | None = None
    ) -> _Observed:
        observed = self._asked(_Observed(round_number, method, arguments, order))
        self._observed.append(observed)
        return observed

    def _asked(self, observed: _Observed) -> _Observed:
        """Asks the evaluator, the first time or again."""
        call = getattr(self.system.evaluator.handle, observed.method)
        if observed.method != "steer":
            observed.answer = call.remote(*observed.arguments)
            return observed
        observed.answer, ref = call.options(num_returns=2).remote(*observed.arguments)
        if observed.order is None:
            observed.order = StandingOrder(ref)
        observed.order.ref = ref
        return observed

    def _tell_pair(self) -> None:
        """Who is production and who the shadow, where that is more than the head and the head."""
        policy, aliases = self.config.promotion.policy, self.aliases
        is_judged = policy is PromotionPolicy.EVIDENCE and aliases.is_pinned
        pair = (aliases.production, aliases.shadow)
        is_compared = is_judged or aliases.is_held or policy is PromotionPolicy.MANUAL
        told = (is_judged, *(pair if is_compared and None not in pair and pair[0] != pair[1] else (None, None)))
        if told == self._told:
            return
        self._told = told
        place = self.feed.place
        states = [None if version is None else self._state_of(version) for version in told[1:]]
        self._tell_evaluator(place[0] if place else -1, "compare", [is_judged, *states])

    def _state_of(self, version: int) -> ObjectRef:
        """Of a version that an alias names; None at its end where the version manager does not have it either."""
        ref: ObjectRef = self._kept.get(version) or self.system.version_manager.handle.state.remote(version)
        return ref

    def _take_observations(self, allowed: int) -> None:
        """Takes what the evaluator has answered; waits where it is more than `allowed` calls behind."""
        while self._observations and (len(self._observations) > allowed or is_ready(self._observations[0].answer)):
            try:
                self.observation = value_of(self._observations[0].answer)
            except DEATHS as error:
                self._mend_evaluator(error)
                continue
            for decision in self.observation.decisions if self.observation else ():
                self._regretted = decision if decision.verdict is Verdict.ROLL_BACK else self._regretted
                self.system.version_manager.handle.decide.remote(decision)
            self._observations.popleft()

    def _mend_parts(self, parts: Collection[str]) -> None:
        self._ensure_version_manager()
        if EVALUATOR in parts:
            self._mend_evaluator("found when a version was made durable")
        self.feed.mend_parts(parts)

    def _mend_evaluator(self, why: object) -> None:
        """It gets back what it knew: from the newest durable version, and what it has been given since."""
        if self.system.writes_predictions:
            raise LearningError(f"the evaluator died, and with it the predictions file of this run: {why}")
        logger.warning("the evaluator died (%s); it is started again and gets back what it knew", why)
        evaluator, durable = self.system.evaluator, self.archivist.durable
        state = None if durable is None else self.system.version_store.load(durable, EVALUATOR)[0]
        revived(evaluator, self.tick, "begin", state)
        for observed in ([self._compared] if self._compared else []) + list(self._observed):
            self._asked(observed)
        if self._quiet is not None and self._quiet.order is self._standing:
            self._asked(self._quiet)

    def _mend_order(self, error: Exception) -> None:
        """Somebody died under the round that the order follows from: a learner, or the evaluator."""
        if self._flights and has_died(self._flights[0].commit):
            self._recover(error)
        else:
            self._mend_evaluator(error)

    def _learn_stale_again(self, assignments: Sequence[Assignment], commit: Commit) -> None:
        """Rows of a contribution that came too late have been predicted; they are learned from the present head."""
        stale = {j.contribution_id for j in commit.judgements if j.outcome is Outcome.STALE}
        for a in assignments:
            if a.work.contribution_id in stale:
                work = replace(a.work, contribution_id=f"{a.work.contribution_id}+", test_slices=())
                self._leftovers.append(Assignment(work, a.header, a.batch, a.replay))
