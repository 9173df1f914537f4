"""The learning loop: rounds of the stream, learned by the shards, consolidated into versions.

It only strings references together, and Ray carries rows and weights from actor to actor: nothing large passes through here.
How rounds become versions is told in sync_loop.py and async_loop.py; here is what both share: which versions there are, which
of them are durable, and who is production.
"""

import logging
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import ray
from ray import ObjectRef

from actors.durable import EVALUATOR
from actors.errors import LearningError
from actors.learning.gate.gate import Decision, Verdict
from actors.learning.gate.measurements import Measurements
from actors.learning.lineage import OffsetRange, OffsetSet
from actors.learning.promotion import Aliases, PromotionPolicy
from actors.learning.steering import is_steered
from actors.learning.versioning import Outcome, VersionHistory
from actors.records import RoundHeader, StreamPosition
from actors.version_manager import Commit
from cluster.archivist import Archivist
from cluster.calls import ATTEMPTS, DEATHS, revived, value_of
from cluster.config import PerennialConfig
from cluster.evaluation import Evaluation
from cluster.feed import Assignment, RoundFeed
from cluster.launch import System

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Landed:
    """Work that has become a version, or has left the head as it was."""

    header: RoundHeader
    commit: Commit
    seconds: float  # from the hand-out of its rows to its version


class LearningLoop(ABC):
    """`step` brings the next version. While it waits it calls `tick` several times a second."""

    def __init__(self, config: PerennialConfig, system: System, tick: Callable[[], None]) -> None:
        self.config, self.system, self.tick = config, system, tick
        self.version, self._rows = 0, 0  # the head, and the rows it has learned
        self.aliases = Aliases()
        self._waiting = deque[Assignment]()  # work that is to be given out: given up by its round, or to be done again
        self._told: tuple[bool, int | None, int | None] = (False, None, None)  # who is compared, and whether the gate decides
        self._recalled = 0  # how often a head has been scored on past regimes
        self._measured: Measurements | None = None  # that the evaluator knows of
        self._regretted: Decision | None = None  # the last rollback of the gate
        self._steers = is_steered(config.drift, config.update)
        self.evaluation = Evaluation(system, self._steers, tick, self._decided)
        first, order = self.evaluation.first_order, lambda: self.evaluation.standing
        self.feed = RoundFeed(config, system, tick, self._saw, first, order, self._mend_order)
        self.archivist = Archivist(config, system, self._mend_parts)
        self._head: ObjectRef = system.head  # of what has been asked for
        self._history = VersionHistory(config.consolidation.max_staleness)
        if resumed := system.resumed:
            self._history.restore(resumed.history)
            self.version, self._rows, self.aliases = self._history.head, resumed.states[-1].rows, resumed.aliases
            self._is_recall_due(resumed.position)
        # What has come back, and a version manager that was started again goes on from.
        self._kept: dict[int, ObjectRef] = {self.version: self._head}
        for state in resumed.states[:-1] if resumed else ():
            self._kept[state.version] = ray.put(state)
        self._tell_pair()

    @property
    def has_work(self) -> bool:
        return not self.feed.is_over or not self._is_idle

    @abstractmethod
    def step(self) -> Landed | None:
        """None where the stream had nothing new. Raises PerennialError where the loop cannot go on."""

    @property
    @abstractmethod
    def _is_idle(self) -> bool:
        """Whether nothing is on its way into a version."""

    def wind_down(self) -> None:
        """Takes no further round: `step` brings home what is under way until `has_work` is false."""
        self.feed.close()

    def finish(self) -> None:
        """Waits for what the evaluator still has in hand."""
        self.evaluation.take(behind=0)

    # --- durable versions

    def commit(self) -> None:
        """Makes the head durable, and waits for it. Raises LearningError where it cannot be."""
        for _ in range(ATTEMPTS):
            self.archivist.finish()
            self._forget_durable()
            place = self.feed.place
            if place and self._steers and 0 < self.version == self._known and place[1] != self.archivist.position:
                self._mark(*place)
            if not self._is_cut_open:
                return
            self.archivist.trigger = "end"
            self._cut()
        raise LearningError(f"version {self.version} has not become durable, for roles died again and again")

    def _cut_if_due(self) -> bool:
        """Whether rounds are to come home, and none go out, until a version has been cut; cuts it once none is under way."""
        is_due = self.archivist.is_due(self.version, self._rows)
        if not is_due or not self._is_cut_open:
            return is_due
        self._cut()
        return False

    @property
    def _is_cut_open(self) -> bool:
        """Whether there is a head that is not durable, and nothing on its way into the next one."""
        return self.version > self._known and self._is_idle

    @property
    def _known(self) -> int:
        """The newest durable version."""
        return self.archivist.durable.version if self.archivist.durable else 0

    def _cut(self) -> None:
        echoes = self.feed.settled_echoes()
        place, seen = self.feed.place, self.evaluation.observation
        assert place is not None
        scores = {"metric": seen.metric, "recent": seen.recent, "overall": seen.overall} if seen else None
        head = self._kept[self.version]
        self.archivist.commit(self.version, self._rows, head, place, self._history, self.aliases, scores, echoes)

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

    # --- from rows to versions

    def _send(self, a: Assignment, learner: int, base: ObjectRef) -> None:
        a.learner, a.sent = learner, time.monotonic()
        learn = self.system.learners[learner].handle.learn.options(num_returns=4)
        a.change, a.predictions, a.receipt, a.echo = learn.remote(a.work, base, a.batch, a.replay)

    def _commit_of(self, header: RoundHeader, assignments: Sequence[Assignment]) -> tuple[ObjectRef, ObjectRef]:
        """The commit, and the head after it."""
        commit = self.system.version_manager.handle.commit.options(num_returns=2)
        refs: list[ObjectRef] = commit.remote(header, *(a.receipt for a in assignments), *(a.change for a in assignments))
        return refs[0], refs[1]

    def _note(self, header: RoundHeader, commit: Commit, head: ObjectRef | None) -> None:
        assert head is not None
        self._history.saw(header.read, header.quarantined)
        self._note_version(commit, head)

    def _note_version(self, commit: Commit, head: ObjectRef) -> None:
        if commit.record is not None:
            self._history.commit(commit.record)
        self.version, self._rows = max(self.version, commit.version), commit.rows
        self._forget_durable()
        self._kept[commit.version] = head
        self._kept = {version: ref for version, ref in self._kept.items() if version in {*commit.kept, commit.version}}
        self.take_aliases(commit.version, commit.aliases)

    def _forget_durable(self) -> None:
        """Whoever dies from now on goes on from the newest durable version."""
        if self.archivist.durable is not None:
            self.feed.forget(self.archivist.durable, self.archivist.round)
            self.evaluation.forget(self.archivist.durable, self.archivist.round)

    def _learn_stale_again(self, assignments: Sequence[Assignment], commit: Commit) -> None:
        """Rows of a contribution that came too late have been predicted; they are learned from the present head."""
        stale = {j.contribution_id for j in commit.judgements if j.outcome is Outcome.STALE}
        for a in assignments:
            if a.work.contribution_id in stale:
                work = replace(a.work, contribution_id=f"{a.work.contribution_id}+", test_slices=())
                self._waiting.append(Assignment(work, a.header, a.batch, a.replay))

    def _saw(self, header: RoundHeader, batch: ObjectRef) -> None:
        """A round without rows to work on. Time goes by in it, and what it has set aside is settled."""
        if header.read or header.quarantined:
            self._history.saw(header.read, header.quarantined)
            self.system.version_manager.handle.saw.remote(header)
        self.evaluation.pass_by(header, batch)

    def _is_recall_due(self, position: StreamPosition) -> bool:
        """Whether the head at this place is to be scored on past regimes; once for every so many rows."""
        before = self._recalled
        self._recalled = max(before, position.row // self.config.promotion.regimes.score_every_rows)
        return self._recalled > before

    # --- production and shadow

    def take_aliases(self, head: int, aliases: Aliases) -> bool:
        """False where the version manager, with `head`, knows nothing of what was: it has been started again, and is told."""
        if head == 0 and self.version > 0:
            self.system.version_manager.handle.resume.remote(self._history, self.aliases, *self._kept.values())
            return False
        if head >= self.version:  # otherwise a commit has told since
            self.aliases = aliases
            self._tell_pair()
        return True

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
            self.evaluation.measure(self._last_round, found)

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
        states = [None if version is None else self._state_of(version) for version in told[1:]]
        self.evaluation.compare(self._last_round, is_judged, states)

    @property
    def _last_round(self) -> int:
        return self.feed.place[0] if self.feed.place else -1

    def _state_of(self, version: int) -> ObjectRef:
        """Of a version that an alias names; None at its end where the version manager does not have it either."""
        ref: ObjectRef = self._kept.get(version) or self.system.version_manager.handle.state.remote(version)
        return ref

    def _decided(self, decision: Decision) -> None:
        self._regretted = decision if decision.verdict is Verdict.ROLL_BACK else self._regretted
        self.system.version_manager.handle.decide.remote(decision)

    # --- where somebody dies

    def _ensure_version_manager(self) -> None:
        """Where it has been started again, it goes on from the last version that has come back."""
        revived(self.system.version_manager, self.tick, "resume", self._history, self.aliases, *self._kept.values())

    def _mend_parts(self, parts: Collection[str]) -> None:
        self._ensure_version_manager()
        if EVALUATOR in parts:
            self.evaluation.mend("found when a version was made durable")
        self.feed.mend_parts(parts)

    def _mend_order(self, error: Exception) -> None:
        """Somebody died under the round that the order for the next one follows from."""
        self.evaluation.mend(error)
