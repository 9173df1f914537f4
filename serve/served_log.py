"""What was served, on its way to the label joiner: gathered for a moment, sent in batches, sent again if need be."""

import asyncio
import json
import logging
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any

from actors.feedback import ServedPrediction, ShadowPrediction
from serve.interfaces import Reply
from serve.model_server import class_key
from serve.named_actor import NamedActor, UnreachableError

logger = logging.getLogger(__name__)

_CAPACITY = 50_000
_CHARACTERS = 64 << 20  # of features that wait
_BATCH, _BATCH_CHARACTERS = 512, 8 << 20
_GATHER_S = 0.05
_CALL_TIMEOUT_S = 10.0
_RETRY_S = 0.5


class ServedLog:
    """Holds at most 50,000 predictions and 64 Mi characters; beyond that the oldest are given up and counted."""

    def __init__(self, joiner: NamedActor, counts: Counter[str]) -> None:
        self._joiner, self._counts = joiner, counts
        self._waiting: deque[ServedPrediction | ShadowPrediction] = deque()
        self._characters = 0
        self._wake = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._send_all())

    def served(self, instances: Sequence[Mapping[str, Any]], replies: Sequence[Reply]) -> None:
        now = time.time()
        for instance, r in zip(instances, replies, strict=True):
            self._put(ServedPrediction(r.request_id, json.dumps(instance), r.prediction, _probability(r), r.version, now))

    def shadow_answered(self, replies: Sequence[Reply]) -> None:
        for r in replies:
            self._put(ShadowPrediction(r.request_id, r.prediction, _probability(r), r.version))

    def _put(self, prediction: ServedPrediction | ShadowPrediction) -> None:
        self._waiting.append(prediction)
        self._characters += _size(prediction)
        while len(self._waiting) > _CAPACITY or self._characters > _CHARACTERS:
            self._characters -= _size(self._waiting.popleft())
            self._counts["log_dropped"] += 1
        self._wake.set()

    def _take(self) -> list[ServedPrediction | ShadowPrediction]:
        """The oldest: one at least, and no more than one call should carry."""
        batch = [self._waiting.popleft()]
        characters = _size(batch[0])
        while self._waiting and len(batch) < _BATCH and characters + _size(self._waiting[0]) <= _BATCH_CHARACTERS:
            batch.append(self._waiting.popleft())
            characters += _size(batch[-1])
        self._characters -= characters
        return batch

    async def _send_all(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(_GATHER_S)
            self._wake.clear()
            while self._waiting:
                batch = self._take()
                try:
                    await self._joiner.call("served", batch, timeout_s=_CALL_TIMEOUT_S)
                except UnreachableError as error:
                    logger.warning("served predictions cannot be handed over yet: %s", error)
                    self._waiting.extendleft(reversed(batch))
                    self._characters += sum(map(_size, batch))
                    await asyncio.sleep(_RETRY_S)


def _size(prediction: ServedPrediction | ShadowPrediction) -> int:
    return len(prediction.features) if isinstance(prediction, ServedPrediction) else 0


def _probability(reply: Reply) -> float | None:
    return None if reply.probabilities is None else reply.probabilities[class_key(reply.prediction)]
