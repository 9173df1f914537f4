"""What the loop tells the evaluator, in the order of the stream, and what the evaluator answers.

Calls follow each other as the rounds do; answers are taken later, so learning never waits for them. All calls since the newest
durable version are kept at hand (references to what they were given), so that an evaluator that dies becomes what it was.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import ObjectRef

from actors.durable import EVALUATOR
from actors.errors import LearningError
from actors.evaluator import Observation
from actors.learning.gate.gate import Decision
from actors.learning.gate.measurements import Measurements
from actors.records import RoundHeader
from actors.version_store import Manifest
from cluster.calls import DEATHS, is_ready, revived, value_of
from cluster.feed import Assignment, StandingOrder
from cluster.launch import System

logger = logging.getLogger(__name__)

_BEHIND = 4  # calls that the evaluator may be behind
_REMEMBERED = 4_000  # calls, should storage refuse versions for long


@dataclass(slots=True)
class Question:
    """What the evaluator was given, from a round on, as a call of its own; and its answer."""

    round: int
    # observe or steer: the labels of a round, or None, and predictions; compare: versions; recall: the head; measure
    method: str
    arguments: list[Any]
    order: StandingOrder | None = None  # for the rounds to come, where learning is steered
    answer: ObjectRef = field(init=False)


class Evaluation:
    """`observation` is the newest answer; `standing` the order of the newest round that the evaluator was given.

    `decided` is told every decision of the gate. Learning `steers` where drift or an update policy gives orders.
    """

    def __init__(self, system: System, steers: bool, tick: Callable[[], None], decided: Callable[[Decision], None]) -> None:
        self._system, self._steers, self._tick, self._decided = system, steers, tick, decided
        self.observation: Observation | None = None
        self.standing: StandingOrder | None = None
        self.first_order: StandingOrder | None = None  # for the first round of this run
        self._awaited: deque[Question] = deque()  # answers that have not been taken yet
        self._given: deque[Question] = deque(maxlen=_REMEMBERED)  # not durable yet
        self._compared: Question | None = None  # the last comparison before these
        self._quiet: Question | None = None  # the last round without rows
        self._restart_from: Manifest | None = system.resumed.manifest if system.resumed else None
        if steers:
            self._go_on()

    def _go_on(self) -> None:
        """For the first round of this run, and the next, as what went before it has decided."""
        number = self._system.resumed.round + 1 if self._system.resumed else 0
        orders = self._system.orders
        first = next((order for order in reversed(orders) if order.round <= number - 2), orders[0])
        self.first_order, self.standing = StandingOrder(ray.put(first)), StandingOrder(ray.put(orders[-1]))

    # --- what it is told

    def observe(
        self,
        header: RoundHeader,
        batch: ObjectRef | None,
        assignments: Sequence[Assignment],
        order: StandingOrder | None = None,
    ) -> Question:
        """Predictions, with the labels of a round the first time that it comes; `order` if it had one. To be awaited."""
        predictions = [a.predictions for a in assignments if a.work.test_slices and a.predictions is not None]
        question = self._tell(header.round, "steer" if self._steers else "observe", [batch, *predictions], order)
        self.standing = question.order
        return question

    def pass_by(self, header: RoundHeader, batch: ObjectRef) -> None:
        """A round without rows to work on: time goes by in it, and labels may have come."""
        if not self._steers:
            return
        if header.labelled_rows:
            question = self._tell(header.round, "steer", [batch])
            self.wait_for(question)
        else:
            question = self._quiet = self._asked(Question(header.round, "steer", [batch]))
        self.standing = question.order

    def compare(self, round_number: int, is_judged: bool, states: Sequence[ObjectRef | None]) -> None:
        """From now on production and shadow, or None for neither."""
        self._tell(round_number, "compare", [is_judged, *states])

    def recall(self, round_number: int, head: ObjectRef | None) -> None:
        """The head is to be scored on past regimes."""
        self._tell(round_number, "recall", [head])

    def measure(self, round_number: int, found: Measurements) -> None:
        """What the replicas have measured."""
        self._tell(round_number, "measure", [found])

    def _tell(self, round_number: int, method: str, arguments: list[Any], order: StandingOrder | None = None) -> Question:
        question = self._asked(Question(round_number, method, arguments, order))
        self._given.append(question)
        return question

    def _asked(self, question: Question) -> Question:
        """Asks, the first time or again."""
        call = getattr(self._system.evaluator.handle, question.method)
        if question.method != "steer":
            question.answer = call.remote(*question.arguments)
            return question
        question.answer, ref = call.options(num_returns=2).remote(*question.arguments)
        if question.order is None:
            question.order = StandingOrder(ref)
        question.order.ref = ref
        return question

    # --- what it answers

    def wait_for(self, question: Question) -> None:
        """Its answer is to be taken, once what it was given is no longer going to be made again."""
        self._awaited.append(question)

    def take(self, behind: int = _BEHIND) -> None:
        """Takes what has been answered; waits where the evaluator is more than `behind` calls behind."""
        while self._awaited and (len(self._awaited) > behind or is_ready(self._awaited[0].answer)):
            try:
                self.observation = value_of(self._awaited[0].answer)
            except DEATHS as error:
                self.mend(error)
                continue
            for decision in self.observation.decisions if self.observation else ():
                self._decided(decision)
            self._awaited.popleft()

    # --- where it dies

    def forget(self, durable: Manifest, round_number: int) -> None:
        """What it was told up to this round is in a durable version."""
        self._restart_from = durable
        while self._given and self._given[0].round <= round_number:
            passed = self._given.popleft()
            self._compared = passed if passed.method == "compare" else self._compared

    def mend(self, why: object) -> None:
        """It gets back what it knew: from the newest durable version, and what it has been given since."""
        if self._system.writes_predictions:
            raise LearningError(f"the evaluator died, and with it the predictions file of this run: {why}")
        logger.warning("the evaluator died (%s); it is started again and gets back what it knew", why)
        durable = self._restart_from
        state = None if durable is None else self._system.version_store.load(durable, EVALUATOR)[0]
        revived(self._system.evaluator, self._tick, "begin", state)
        for question in ([self._compared] if self._compared else []) + list(self._given):
            self._asked(question)
        if self._quiet is not None and self._quiet.order is self.standing:
            self._asked(self._quiet)
