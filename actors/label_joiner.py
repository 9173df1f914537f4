"""Joins what was served with the labels and scores that come back for it, and makes rows of the stream of both.

Receives predictions from production and its shadow, and feedback from the gateway. Returns to the gateway what became of
each piece of feedback, once that is on the disk. Holds calls that wait to be written, and nothing else: all the rest is in
the journal. If it dies, feedback that was not answered is sent again by its sender, and a joiner that is started on the
same journal goes on; predictions that waited are lost, and their labels stay unknown.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from actors.errors import LearningError, PerennialError
from actors.feedback import (
    FeedbackConfig,
    FeedbackItem,
    FeedbackOutcome,
    JoinerStatus,
    OverloadedError,
    ServedPrediction,
    ShadowPrediction,
)
from actors.journal import Journal, JournalBatch

logger = logging.getLogger(__name__)

_QUEUE_ITEMS = 20_000
_QUEUE_CHARACTERS = 64 << 20
_OVERTAKEN_S = 0.25  # production hands predictions over in batches
_IDLE_S = 1.0  # how often what time has made due is done while nothing arrives


@dataclass(slots=True)
class _Call:
    """One call that waits to be written. `done` gets the outcomes of its feedback."""

    done: "asyncio.Future[list[FeedbackOutcome]]"
    served: list[ServedPrediction] = field(default_factory=list)
    shadow: list[ShadowPrediction] = field(default_factory=list)
    feedback: list[FeedbackItem] = field(default_factory=list)
    learned: int = 0

    @property
    def items(self) -> int:
        return len(self.served) + len(self.shadow) + len(self.feedback)

    @property
    def characters(self) -> int:
        served = sum(len(each.features) for each in self.served)
        return served + sum(len(each.features or "") for each in self.feedback)


class LabelJoiner:
    """Writes all that waits in one transaction, in a thread of its own, so that many callers share the wait for the disk.

    At most `queue_items` predictions and pieces of feedback, and 64 Mi characters of their features, wait to be written.
    """

    def __init__(self, path: str, config: FeedbackConfig, clock: Callable[[], float], queue_items: int = _QUEUE_ITEMS) -> None:
        self._path, self._queue_items = path, queue_items
        self._journal = Journal(Path(path), config, clock)
        self._changed = threading.Condition()  # guards what follows
        self._calls: list[_Call] = []
        self._items = self._characters = 0
        self._dropped = self._dropped_shadow = 0  # since the last transaction
        self._overtaken: dict[str, asyncio.Future[None]] = {}  # labels whose prediction may come any moment
        self._status = self._journal.status
        self._is_closing = False
        self._trouble = ""  # what was logged last
        self._writer = threading.Thread(target=self._write, name="journal-writer", daemon=True)
        self._writer.start()

    async def served(self, predictions: Sequence[ServedPrediction | ShadowPrediction]) -> None:
        """Returns when they are in the journal, or dropped and counted. Production's and the shadow's may come together."""
        call = self._call()
        for each in predictions:
            if isinstance(each, ServedPrediction):
                call.served.append(each)
            else:
                call.shadow.append(each)
        if self._put(call):
            await call.done
            for each in call.served:
                if (overtaken := self._overtaken.pop(each.request_id, None)) is not None and not overtaken.done():
                    overtaken.set_result(None)
        else:
            self._drop([call])

    async def shadow_served(self, predictions: Sequence[ShadowPrediction]) -> None:
        await self.served(predictions)

    async def feedback(self, items: Sequence[FeedbackItem]) -> list[FeedbackOutcome]:
        """What became of each item, in order, once it is on the disk. None of them was taken where this raises.

        A label may overtake its prediction by a moment: before a request is called unknown, that moment is given to it.

        Raises OverloadedError and TooFarBehindError, after which the items may be sent again, and LearningError where the
        journal cannot be written.
        """
        call = self._call()
        call.feedback.extend(items)
        if not self._put(call):
            raise OverloadedError(
                f"{self._items} predictions and pieces of feedback wait to be written to the journal {self._path}, and "
                f"{call.items} more would be too many (at most {self._queue_items} and {_QUEUE_CHARACTERS} characters of "
                "features); send them again in a moment"
            )
        outcomes: list[FeedbackOutcome] = await call.done
        unknown = [i for i, outcome in enumerate(outcomes) if outcome is FeedbackOutcome.UNKNOWN]
        joined = await asyncio.gather(*(self._is_joined(str(call.feedback[i].request_id)) for i in unknown))
        for i, is_joined in zip(unknown, joined, strict=True):
            outcomes[i] = FeedbackOutcome.ACCEPTED if is_joined else outcomes[i]
        return outcomes

    async def _is_joined(self, request_id: str) -> bool:
        """Whether the prediction, for which the label is in the journal, comes within a moment."""
        overtaken = self._overtaken.setdefault(request_id, asyncio.get_running_loop().create_future())
        try:
            await asyncio.wait_for(asyncio.shield(overtaken), _OVERTAKEN_S)
        except TimeoutError:
            self._overtaken.pop(request_id, None)
            return False
        return True

    async def learned(self, offset: int) -> None:
        """Rows of the stream below `offset` have been learned, and may be deleted."""
        call = self._call()
        call.learned = offset
        self._put(call)
        await call.done

    async def status(self) -> JoinerStatus:
        with self._changed:
            return replace(
                self._status,
                dropped_predictions=self._status.dropped_predictions + self._dropped,
                dropped_shadow_predictions=self._status.dropped_shadow_predictions + self._dropped_shadow,
            )

    async def take_label_delays(self) -> list[float]:
        """Seconds from a prediction until its label arrived, of those joined since the last call (at most the last 10,000)."""
        delays = self._journal.label_delays_s
        return [delays.popleft() for _ in range(len(delays))]

    async def close(self) -> None:
        """Writes what waits, and takes nothing more."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        await asyncio.to_thread(self._writer.join)

    # --- the callers' side

    def _call(self) -> _Call:
        return _Call(asyncio.get_running_loop().create_future())

    def _put(self, call: _Call) -> bool:
        """False where it would be too much. A call without items, such as that of `learned`, always fits."""
        items, characters = call.items, call.characters
        with self._changed:
            if self._is_closing:
                raise LearningError(f"the label joiner of {self._path} is closed; send this again when it has been started")
            if items and (self._items + items > self._queue_items or self._characters + characters > _QUEUE_CHARACTERS):
                return False
            self._calls.append(call)
            self._items += items
            self._characters += characters
            self._changed.notify()
        return True

    def _drop(self, calls: Sequence[_Call]) -> None:
        with self._changed:
            self._dropped += sum(len(call.served) for call in calls)
            self._dropped_shadow += sum(len(call.shadow) for call in calls)

    # --- the writer's thread

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._calls or self._is_closing, timeout=_IDLE_S)
                calls, self._calls = self._calls, []
                self._items = self._characters = 0
                dropped, dropped_shadow = self._dropped, self._dropped_shadow
                if self._is_closing and not calls:
                    break
            try:
                self._commit(calls, dropped, dropped_shadow)
                self._trouble = ""
            except Exception as error:  # whatever it is, nobody may wait for ever
                self._drop(calls)
                self._complain(error)
                failure = error if isinstance(error, PerennialError) else LearningError(f"{type(error).__name__}: {error}")
                _answer(calls, [failure] * len(calls))
        try:
            self._journal.close()
        except PerennialError as error:
            self._complain(error)

    def _commit(self, calls: list[_Call], dropped: int, dropped_shadow: int) -> None:
        if not calls and not dropped and not dropped_shadow:
            self._journal.tidy()
            self._publish(0, 0)
            return
        taken: list[_Call] = []
        refused: list[_Call] = []
        room = self._journal.room
        for call in calls:
            fits = len(call.feedback) <= room
            (taken if fits else refused).append(call)
            room -= len(call.feedback) if fits else 0
        _answer(refused, [self._journal.too_far_behind() for _ in refused])
        outcomes = self._journal.apply(
            JournalBatch(
                served=[each for call in taken for each in call.served],
                shadow=[each for call in taken for each in call.shadow],
                feedback=[each for call in taken for each in call.feedback],
                learned=max((call.learned for call in taken), default=0),
                dropped_predictions=dropped,
                dropped_shadow_predictions=dropped_shadow,
            )
        )
        self._publish(dropped, dropped_shadow)
        answers: list[list[FeedbackOutcome]] = []
        start = 0
        for call in taken:
            answers.append(outcomes[start : start + len(call.feedback)])
            start += len(call.feedback)
        _answer(taken, answers)

    def _publish(self, dropped: int, dropped_shadow: int) -> None:
        with self._changed:
            self._status = self._journal.status
            self._dropped -= dropped
            self._dropped_shadow -= dropped_shadow

    def _complain(self, error: Exception) -> None:
        """Once, not for every call."""
        if str(error) != self._trouble:
            logger.error("journal=%s cannot be written", self._path, exc_info=error)
        self._trouble = str(error)


def _answer(calls: Sequence[_Call], answers: Sequence[list[FeedbackOutcome] | PerennialError]) -> None:
    """Hands the answers to the callers' event loops."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Call, Any]]] = {}
    for call, answer in zip(calls, answers, strict=True):
        by_loop.setdefault(call.done.get_loop(), []).append((call, answer))
    for loop, pairs in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits there
            loop.call_soon_threadsafe(_settle, pairs)


def _settle(pairs: Sequence[tuple[_Call, list[FeedbackOutcome] | PerennialError]]) -> None:
    for call, answer in pairs:
        if call.done.done():  # its caller waits no longer
            continue
        if not isinstance(answer, PerennialError):
            call.done.set_result(answer)
        elif call.served or call.shadow:
            call.done.set_result([])  # they are counted as dropped
        else:
            call.done.set_exception(type(answer)(str(answer)))
