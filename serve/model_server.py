"""Answers requests with one version at a time: concurrent requests in one batch, a new version between two batches.

A model that answers within 2 ms does so on the event loop: handing a row to another thread would cost as much again.

A version is read into the module that is not in use; then the two change places. So no request waits for a version to be
read, and no batch meets two versions.
"""

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from actors.learning.answer import Answer, drawn
from actors.learning.model_kinds import Reader, make_reader
from actors.learning.state import ModelState
from actors.learning.task import TaskKind
from actors.release_desk import Blueprint
from serve.instances import InstanceEncoder
from serve.interfaces import Reply, RequestError

_BATCH_ROWS = 1024
_INLINE_S, _INLINE_ROWS = 0.002, 32
_RETRY_AFTER_S = 1.0
_LATENCIES, _FEWEST_LATENCIES = 512, 32
_MEASURE_EVERY_S, _MEASURE_AFTER_S = 0.05, 0.005
_MEASURE_SPARING = 50.0  # a measurement costs at most a fiftieth of the time


@dataclass(slots=True)
class _Request:
    x_ND: np.ndarray
    request_ids: Sequence[str]
    replies: "asyncio.Future[list[Reply]]"


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A version with all that is needed to answer with it."""

    reader: Reader
    state: ModelState
    blueprint: Blueprint
    encoder: InstanceEncoder


class ModelServer:
    """At most `max_waiting_rows` rows wait; further requests are refused with 503. To be made where an event loop runs."""

    def __init__(self, max_waiting_rows: int = 8_192) -> None:
        torch.set_num_threads(1)
        self._max_waiting_rows = max_waiting_rows
        self._thread = ThreadPoolExecutor(1, "predict")
        self._waiting: deque[_Request] = deque()
        self._waiting_rows = 0
        self._wake = asyncio.Event()
        self._present: _Loaded | None = None
        self._next: _Loaded | None = None
        self._spare: Reader | None = None
        self._swapped = asyncio.Event()
        self._predict_s = 0.0  # for one row
        self._latencies_ms: deque[float] = deque(maxlen=_LATENCIES)  # of the present version
        self._measure_at = 0.0
        self._task = asyncio.get_running_loop().create_task(self._work())

    @property
    def blueprint(self) -> Blueprint | None:
        return self._present.blueprint if self._present else None

    @property
    def state(self) -> ModelState | None:
        """The version that answers; None before there is one."""
        return self._present.state if self._present else None

    @property
    def latency_ms(self) -> float | None:
        """The 95th percentile of what a request takes by itself, None before there is enough to tell.

        Production and the shadow are measured alike: one instance is answered once more by itself, whatever batch it came in.
        """
        if len(self._latencies_ms) < _FEWEST_LATENCIES:
            return None
        return float(np.percentile(np.array(self._latencies_ms), 95))

    async def swap(self, state: ModelState, blueprint: Blueprint | None) -> None:
        """Answers with `state` from the next batch on; returns once it does. `blueprint`: None where it is as before."""
        present = self._present
        if blueprint is None:
            assert present is not None
            blueprint, encoder = present.blueprint, present.encoder
        else:
            self._spare, encoder = None, InstanceEncoder(blueprint.schema)
        reader = self._spare or self._reader(blueprint)
        predict_s = await asyncio.to_thread(_prepared, reader, state, int(blueprint.inputs))
        self._next = _Loaded(reader, state, blueprint, encoder)
        self._predict_s = predict_s
        self._swapped.clear()
        self._wake.set()
        await self._swapped.wait()

    async def answer(self, instances: Sequence[Mapping[str, Any]], request_ids: Sequence[str]) -> list[Reply]:
        """One reply for each instance, all from one version. Raises RequestError: 422 for a wrong feature, else 503."""
        present = self._present
        if present is None:
            raise RequestError(
                503, "not_ready", "there is no version to answer with yet: the first labels are still being learned",
                retry_after_s=_RETRY_AFTER_S,
            )  # fmt: skip
        x_ND = present.encoder.encode(instances)
        if time.monotonic() >= self._measure_at:
            self._measure_at = time.monotonic() + _MEASURE_EVERY_S
            asyncio.get_running_loop().call_later(_MEASURE_AFTER_S, self._measure, present, instances[:1])
        if self._predict_s < _INLINE_S and len(x_ND) <= _INLINE_ROWS and not self._waiting:
            return _replies(present, present.reader.predict(x_ND), request_ids)
        if self._waiting_rows + len(x_ND) > self._max_waiting_rows:
            message = f"{self._waiting_rows:,} rows wait for their prediction, at most {self._max_waiting_rows:,} may"
            raise RequestError(503, "overloaded", message, retry_after_s=_RETRY_AFTER_S)
        request = _Request(x_ND, request_ids, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._waiting_rows += len(x_ND)
        self._wake.set()
        return await request.replies

    def _reader(self, blueprint: Blueprint) -> Reader:
        b = blueprint
        return make_reader(b.model, b.task, b.inputs, seed=b.seed, initial=b.initial)

    def _measure(self, loaded: _Loaded, instances: Sequence[Mapping[str, Any]]) -> None:
        """Once the answer is on its way; where a model is slow, on the thread on which it answers."""

        def measured() -> float:
            started = time.perf_counter()
            _replies(loaded, loaded.reader.predict(loaded.encoder.encode(instances)), ("",))
            return 1000 * (time.perf_counter() - started)

        def note(latency_ms: float) -> None:
            self._measure_at = max(self._measure_at, time.monotonic() + _MEASURE_SPARING * latency_ms / 1000)
            if self._present is loaded:
                self._latencies_ms.append(latency_ms)

        if self._present is not loaded:
            return
        if self._predict_s < _INLINE_S:
            note(measured())
            return
        measuring = asyncio.get_running_loop().run_in_executor(self._thread, measured)
        measuring.add_done_callback(lambda done: None if done.cancelled() or done.exception() else note(done.result()))

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._next is not None or self._waiting:
                self._drop_those_given_up()
                if self._next is not None:
                    self._spare = self._present.reader if self._present else None
                    self._present, self._next = self._next, None
                    self._latencies_ms.clear()
                    self._swapped.set()
                if self._waiting:
                    await self._answer_batch(self._take())

    def _drop_those_given_up(self) -> None:
        while self._waiting and self._waiting[0].replies.done():
            self._waiting_rows -= len(self._waiting.popleft().x_ND)

    def _take(self) -> list[_Request]:
        batch = [self._waiting.popleft()]
        rows = len(batch[0].x_ND)
        while self._waiting and rows + len(self._waiting[0].x_ND) <= _BATCH_ROWS:
            batch.append(self._waiting.popleft())
            rows += len(batch[-1].x_ND)
        self._waiting_rows -= rows
        return batch

    async def _answer_batch(self, batch: list[_Request]) -> None:
        assert self._present is not None
        present = self._present
        try:
            x_ND = batch[0].x_ND if len(batch) == 1 else np.concatenate([request.x_ND for request in batch])
            answer = await asyncio.get_running_loop().run_in_executor(self._thread, present.reader.predict, x_ND)
            request_ids = [request_id for request in batch for request_id in request.request_ids]
            replies = _replies(present, answer, request_ids)
            for request in batch:
                made, replies = replies[: len(request.x_ND)], replies[len(request.x_ND) :]
                if not request.replies.done():  # its client may have gone
                    request.replies.set_result(made)
        except Exception as error:  # a user's module may raise anything; the next batch may fare better
            for request in batch:
                if not request.replies.done():
                    request.replies.set_exception(error)


def _replies(loaded: _Loaded, answer: Answer, request_ids: Sequence[str]) -> list[Reply]:
    state = loaded.state
    if answer.value_N is not None:
        values = zip(request_ids, answer.value_N.tolist(), strict=True)
        return [Reply(request_id, value, None, state.version) for request_id, value in values]
    assert answer.code_N is not None and answer.probability_NK is not None
    names = [class_key(value) for value in state.classes]
    is_feedback = loaded.blueprint.task.kind is TaskKind.FEEDBACK
    codes = drawn(answer.probability_NK, request_ids) if is_feedback else answer.code_N.tolist()
    rows = zip(request_ids, codes, answer.probability_NK.tolist(), strict=True)
    return [
        Reply(request_id, state.classes[code], dict(zip(names, probability_K, strict=False)), state.version)
        for request_id, code, probability_K in rows
    ]


def _prepared(reader: Reader, state: ModelState, inputs: int) -> float:
    """Reads the version, and predicts a row twice: torch loads code at the first one. The seconds that the second took."""
    reader.load(state)
    row = np.zeros((1, inputs), np.float32)
    reader.predict(row)
    started = time.perf_counter()
    reader.predict(row)
    return time.perf_counter() - started


def class_key(value: Any) -> str:
    """A class as the key of a JSON object."""
    return str(value).lower() if isinstance(value, bool) else str(value)
