"""Rounds of the stream as they come from the ingestor, dealt into work, with what the replay shards give to each."""

import logging
import math
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from ray import ObjectRef

from actors.durable import replay_part
from actors.errors import LearningError
from actors.learning.dealing import Slice, deal, offsets_of
from actors.learning.order import Shrink
from actors.records import RoundHeader, StreamPosition, Work
from actors.version_store import Manifest
from cluster.calls import ATTEMPTS, CALL_TIMEOUT_S, DEATHS, await_life, has_died, revived, value_of
from cluster.config import PerennialConfig
from cluster.launch import System, drawers_of

_REMEMBERED_ROUNDS = 2_000  # should storage refuse versions for long

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class StandingOrder:
    """What is to be done with a round: the evaluator's answer, once it is there. It is asked again where somebody died."""

    ref: ObjectRef


@dataclass(slots=True)
class Assignment:
    """A piece of work, and the references of what it needs and gives. `base` is its own where its round left it behind."""

    work: Work
    header: RoundHeader
    batch: ObjectRef
    replay: ObjectRef | None
    base: ObjectRef | None = None
    learner: int = -1
    sent: float = 0.0
    change: ObjectRef | None = None
    predictions: ObjectRef | None = None
    receipt: ObjectRef | None = None


@dataclass(frozen=True, slots=True)
class DealtRound:
    """A round and its work, a piece for each learner that gets any."""

    header: RoundHeader
    batch: ObjectRef
    assignments: tuple[Assignment, ...]


@dataclass(frozen=True, slots=True)
class ReplayHolding:
    rows: int = 0
    nbytes: int = 0


@dataclass(frozen=True, slots=True)
class _Remembered:
    """What the replay shards were given in a round, and what they drew for the next, by learner shard."""

    number: int
    batch: ObjectRef
    slices: tuple[tuple[Slice, ...], ...]  # by replay shard
    shrink: Shrink | None
    samples: dict[int, ObjectRef | None] = field(default_factory=dict)


class RoundFeed:
    """`take` gives the next round; the one after it is being read meanwhile. Rows never pass through here.

    `saw` is told of a round that has no rows to work on. `order` gives what the round that is asked for next is to obey, None
    where learning is not steered; `first_order` is that of the first one. `mend_order` sees to it that an order is given where
    somebody died over it. The rounds since the newest durable version are kept at hand (references to them), so that a replay
    shard that dies becomes what it was.
    """

    def __init__(
        self,
        config: PerennialConfig,
        system: System,
        tick: Callable[[], None],
        saw: Callable[[RoundHeader, ObjectRef], None],
        first_order: StandingOrder | None,
        order: Callable[[], StandingOrder | None],
        mend_order: Callable[[Exception], None],
    ) -> None:
        self._config, self._system, self._tick, self._saw = config, system, tick, saw
        self._order, self._mend_order = order, mend_order
        self.is_over = False
        self.backlog_rows = 0  # labelled, and waiting to be learned
        self.holdings = [ReplayHolding() for _ in system.replays]
        self._holding_refs: list[tuple[ObjectRef, ObjectRef]] = []
        self._remembered: deque[_Remembered] = deque(maxlen=_REMEMBERED_ROUNDS)
        self._restart_from: Manifest | None = system.resumed.manifest if system.resumed else None
        resumed = system.resumed
        self._number = resumed.round + 1 if resumed else 0
        self._position = resumed.position if resumed else None
        self._drawn = dict(enumerate(system.samples))  # for the next round, by learner shard
        self._obeyed = first_order
        self._next = self._request_again()

    @property
    def next_header(self) -> ObjectRef | None:
        """Ready once `take` would not wait; None where the stream is over."""
        return None if self.is_over else self._next[1]

    @property
    def place(self) -> tuple[int, StreamPosition] | None:
        """The last round that was taken, and where the stream goes on; None before the first."""
        return None if self._position is None else (self._number - 1, self._position)

    def close(self) -> None:
        """No further round; what has been read ahead is read again by the next run."""
        self.is_over = True

    def take(self) -> DealtRound | None:
        """The next round, as soon as there is one; None where there was nothing new in it."""
        batch, header = self._fetch()
        self._note_holdings()
        self._position, self.is_over, self.backlog_rows = header.position, header.is_last, header.backlog_rows
        self._number += 1
        if not header.is_last:
            self._next = self._request()
        if not header.test_rows and not header.train_rows:
            self._saw(header, batch)
            return None
        assignments = self._deal(header, batch)
        self._remember(header, batch)
        return DealtRound(header, batch, assignments)

    def _request(self) -> tuple[ObjectRef, ObjectRef]:
        self._obeyed = self._order()
        return self._request_again()

    def _request_again(self) -> tuple[ObjectRef, ObjectRef]:
        next_round = self._system.ingestor.handle.next_round.options(num_returns=2)
        self._obeyed_ref = self._obeyed.ref if self._obeyed else None
        order = () if self._obeyed_ref is None else (self._obeyed_ref,)
        refs: list[ObjectRef] = next_round.remote(self._number, *order)
        return refs[0], refs[1]

    def _fetch(self) -> tuple[ObjectRef, RoundHeader]:
        for _ in range(ATTEMPTS):
            batch, header_ref = self._next
            try:
                header: RoundHeader = value_of(header_ref, CALL_TIMEOUT_S + self._config.learners.round_wait_s)
                return batch, header
            except DEATHS as error:
                if self._obeyed is not None and has_died(self._obeyed_ref):
                    if self._obeyed.ref is self._obeyed_ref:  # nobody has asked for it again yet
                        self._mend_order(error)
                    self._next = self._request_again()
                    continue
                logger.warning("the ingestor died (%s); started again, it goes on from its last position", error)
                if self._position is not None:
                    revived(self._system.ingestor, self._tick, "resume", self._position, self._number)
                else:
                    await_life(self._system.ingestor, self._tick)
                self._next = self._request_again()
        raise LearningError(f"the ingestor died {ATTEMPTS} times in a row; Ray's logs tell why")

    def _deal(self, header: RoundHeader, batch: ObjectRef) -> tuple[Assignment, ...]:
        learners, shards = self._config.learners, len(self._system.learners)
        tests = deal(header.test_rows, shards, learners.micro_batch_rows)
        trains = deal(header.train_rows, shards, learners.micro_batch_rows)
        assignments = []
        for shard, (test, train) in enumerate(zip(tests, trains, strict=True)):
            if not test and not train:
                continue
            work = Work(
                contribution_id=f"{header.round}/{shard}",
                round=header.round,
                shard=shard,
                test_slices=tuple(test),
                train_slices=tuple(train),
                trained=offsets_of(train, header.train_spans),
                label_delay_rows=self._config.stream.label_delay_rows,
                replay_rows=round(self._config.replay.ratio * sum(stop - start for start, stop in train)),
                learning_rate_factor=header.order.learning_rate_factor if header.order else 1.0,
            )
            assignments.append(Assignment(work, header, batch, self._drawn.get(shard)))
        return tuple(assignments)

    def _remember(self, header: RoundHeader, batch: ObjectRef) -> None:
        """Gives the round's rows to the replay shards and draws for the next round: one call per shard and round.

        The draw for a round comes before its rows join the memory, so no step replays a row that it is about to learn.
        """
        replays = self._system.replays
        if not replays:
            return
        dealt = deal(header.train_rows, len(replays), self._config.learners.micro_batch_rows)
        shrink = header.order.shrink if header.order else None
        round_ = _Remembered(header.round, batch, tuple(map(tuple, dealt)), shrink)
        self._remembered.append(round_)
        self._holding_refs = [self._add(at, round_) for at in range(len(replays))]
        self._drawn = round_.samples

    def _add(self, at: int, round_: "_Remembered") -> tuple[ObjectRef, ObjectRef]:
        rows = math.ceil(self._config.replay.ratio * self._config.learners.for_model(self._config.model.kind).rows_per_round)
        drawers = drawers_of(at, len(self._system.replays), len(self._system.learners), round_.number)
        add = self._system.replays[at].handle.add.options(num_returns=len(drawers) + 2)
        *samples, held, nbytes = add.remote(round_.batch, round_.slices[at], (rows,) * len(drawers), round_.shrink)
        round_.samples.update(zip(drawers, samples, strict=True))
        return held, nbytes

    def _note_holdings(self) -> None:
        self.holdings[: len(self._holding_refs)] = [self._holding(at) for at in range(len(self._holding_refs))]

    def _holding(self, at: int) -> ReplayHolding:
        for _ in range(ATTEMPTS):
            held, nbytes = self._holding_refs[at]
            try:
                return ReplayHolding(value_of(held), value_of(nbytes))
            except DEATHS as error:
                self._mend(at, error)
        raise LearningError(f"replay shard {at} died {ATTEMPTS} times in a row; Ray's logs tell why")

    # --- replay shards that die

    def forget(self, durable: Manifest, round_number: int) -> None:
        """The rounds up to this one are in a durable version."""
        self._restart_from = durable
        while self._remembered and self._remembered[0].number <= round_number:
            self._remembered.popleft()

    def mend_parts(self, parts: Collection[str]) -> None:
        """The replay shards among `parts` of a durable version as they were."""
        for at in range(len(self._system.replays)):
            if replay_part(at) in parts:
                self._mend(at, "found when a version was made durable")

    def mend(self, assignment: Assignment) -> None:
        """Gives the assignment the sample it had, where the shard that drew it has died."""
        if assignment.replay is None or not has_died(assignment.replay):
            return
        for round_ in self._remembered:
            if round_.number == assignment.work.round - 1:
                at = (assignment.work.shard + round_.number) % len(self._system.replays)
                if has_died(round_.samples[assignment.work.shard]):
                    self._mend(at, "found when its sample was missing")
                assignment.replay = round_.samples[assignment.work.shard]
                return
        assignment.replay = None

    def _mend(self, at: int, why: object) -> None:
        """The shard as it was: from the newest durable version, and what has come since."""
        logger.warning("replay shard %d died (%s); it is started again and gets back what it held", at, why)
        part, durable = replay_part(at), self._restart_from
        is_known = durable is not None and part in durable.parts
        states = self._system.version_store.load(durable, part) if durable is not None and is_known else []
        revived(self._system.replays[at], self._tick, "begin", states)
        for round_ in self._remembered:
            self._holding_refs[at] = self._add(at, round_)
