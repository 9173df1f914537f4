"""The server of one replica: versions change between batches, and every reply is of one version."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
import torch

from actors.learner_config import LearnersConfig
from actors.learning.learner import Learner
from actors.learning.models.config import ModelConfig
from actors.learning.schema import Column, ColumnKind, LabelType, Schema
from actors.learning.state import ModelState
from actors.learning.task import TaskConfig, TaskKind
from actors.release_desk import Blueprint
from serve import model_server
from serve.interfaces import RequestError
from serve.model_server import ModelServer

NAMES = ("a", "b", "c")
SCHEMA = Schema(tuple(Column(name, ColumnKind.NUMERIC) for name in NAMES), "class", LabelType.BOOLEAN)


def learned(task: TaskConfig, steps: int) -> ModelState:
    """What a learner makes of some rows: the version that is to be served."""
    model = ModelConfig(kind="mlp", hidden=[8])
    learner = Learner(model, LearnersConfig().optimizer, task, 3, seed=1)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        x_ND = rng.normal(size=(16, 3)).astype(np.float32)
        y_N = x_ND[:, 0].astype(np.float64) if task.kind is TaskKind.REGRESSION else (x_ND[:, 0] > 0).astype(np.int64)
        learner.train(x_ND, y_N)
    change = learner.change((False, True))
    return ModelState(
        change.layout, change.flat_P, change.optimizer, change.buffers, change.features, change.target,
        change.class_counts_K, change.classes, rows=16 * steps, version=steps,
    )  # fmt: skip


def blueprint(task: TaskConfig) -> Blueprint:
    return Blueprint(SCHEMA, task, ModelConfig(kind="mlp", hidden=[8]), 3, 1)


def instances(rows: int) -> list[dict[str, float]]:
    return [dict(zip(NAMES, map(float, row), strict=True)) for row in np.random.default_rng(1).normal(size=(rows, 3))]


def ids(rows: int) -> list[str]:
    return [str(i) for i in range(rows)]


@pytest.mark.parametrize("kind", [TaskKind.CLASSIFICATION, TaskKind.REGRESSION])
@pytest.mark.parametrize("inline_s", [0.0, 60.0], ids=["in a thread", "at once"])
def test_a_reply_is_what_the_learner_would_have_predicted(kind, inline_s, monkeypatch):
    monkeypatch.setattr(model_server, "_INLINE_S", inline_s)
    task = TaskConfig(kind=kind)
    state = learned(task, 30)

    async def serve():
        server = ModelServer()
        await server.swap(state, blueprint(task))
        return await server.answer(instances(5), ids(5))

    replies = asyncio.run(serve())
    learner = Learner(ModelConfig(kind="mlp", hidden=[8]), LearnersConfig().optimizer, task, 3, seed=1)
    learner.load(state)
    answer = learner.predict(np.array([list(each.values()) for each in instances(5)], np.float32))
    assert [reply.request_id for reply in replies] == ids(5) and {reply.version for reply in replies} == {30}
    if kind is TaskKind.REGRESSION:
        assert [reply.prediction for reply in replies] == answer.value_N.tolist()
        assert {reply.probabilities for reply in replies} == {None}
    else:
        assert [reply.prediction for reply in replies] == [bool(code) for code in answer.code_N]
        expected = [dict(zip(("false", "true"), row, strict=True)) for row in answer.probability_NK.tolist()]
        assert [reply.probabilities for reply in replies] == expected


def test_before_the_first_version_and_beyond_its_bound_it_refuses(monkeypatch):
    monkeypatch.setattr(model_server, "_INLINE_S", 0.0)

    async def serve():
        server = ModelServer(max_waiting_rows=10)
        with pytest.raises(RequestError) as not_ready:
            await server.answer(instances(1), ids(1))
        await server.swap(learned(TaskConfig(), 3), blueprint(TaskConfig()))
        waiting = [asyncio.create_task(server.answer(instances(5), ids(5))) for _ in range(3)]
        done = await asyncio.gather(*waiting, return_exceptions=True)
        return not_ready.value, done

    not_ready, (first, second, third) = asyncio.run(serve())
    assert (not_ready.status, not_ready.code) == (503, "not_ready")
    assert len(first) == len(second) == 5
    assert (third.status, third.code) == (503, "overloaded") and third.retry_after_s


@pytest.mark.parametrize("inline_s", [0.0, 60.0], ids=["in a thread", "at once"])
def test_while_versions_change_each_reply_is_of_one_and_none_fails(inline_s, monkeypatch):
    monkeypatch.setattr(model_server, "_INLINE_S", inline_s)
    task = TaskConfig()
    states = {}
    for number, sign in enumerate((1.0, -1.0), 1):
        state = learned(task, 3)
        states[number] = replace(state, flat_P=sign * state.flat_P, version=number)

    async def serve():
        server = ModelServer()
        await server.swap(states[1], blueprint(task))
        asked = instances(4)
        alone = {}
        for number, state in states.items():
            await server.swap(state, None)
            alone[number] = [r.probabilities["true"] for r in await server.answer(asked, ids(4))]
        replies = []

        async def ask():
            while len(replies) < 400 or len({reply[0].version for reply in replies}) < 2:
                replies.append(await server.answer(asked, ids(4)))
                await asyncio.sleep(0)

        asking = [asyncio.create_task(ask()) for _ in range(4)]
        move = 0
        while not all(each.done() for each in asking):
            await server.swap(states[1 + move % 2], None)
            move += 1
        await asyncio.gather(*asking)
        return alone, replies

    alone, replies = asyncio.run(serve())
    assert {reply[0].version for reply in replies} == {1, 2}
    for reply in replies:
        assert len({each.version for each in reply}) == 1
        expected = alone[reply[0].version]
        assert [each.probabilities["true"] for each in reply] == pytest.approx(expected, abs=1e-6)


def test_a_module_that_raises_fails_its_request_and_no_other(monkeypatch):
    monkeypatch.setattr(model_server, "_INLINE_S", 0.0)

    async def serve():
        server = ModelServer()
        await server.swap(learned(TaskConfig(), 3), blueprint(TaskConfig()))
        with monkeypatch.context() as broken:
            broken.setattr(torch.nn.Linear, "forward", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await server.answer(instances(1), ids(1))
        return await server.answer(instances(1), ids(1))

    assert len(asyncio.run(serve())) == 1


@pytest.mark.parametrize("inline_s", [0.0, 60.0], ids=["in a thread", "at once"])
def test_what_a_request_takes_by_itself_is_measured_anew_for_every_version(inline_s, monkeypatch):
    monkeypatch.setattr(model_server, "_INLINE_S", inline_s)
    monkeypatch.setattr(model_server, "_MEASURE_EVERY_S", 0.0)
    monkeypatch.setattr(model_server, "_MEASURE_AFTER_S", 0.0)
    monkeypatch.setattr(model_server, "_MEASURE_SPARING", 0.0)

    async def measured(server):
        while server.latency_ms is None:
            await server.answer(instances(3), ids(3))
            await asyncio.sleep(0)
        return server.latency_ms

    async def serve():
        server = ModelServer()
        await server.swap(learned(TaskConfig(), 3), blueprint(TaskConfig()))
        assert server.latency_ms is None
        first = await measured(server)
        await server.swap(learned(TaskConfig(), 4), None)
        assert server.latency_ms is None, "that was another version"
        return first, await measured(server)

    assert all(latency_ms > 0 for latency_ms in asyncio.run(asyncio.wait_for(serve(), 60)))
