"""A shard on a GPU learns what a shard on a CPU learns, and a version goes from one to the other."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from actors.learning.answer import Answer
from actors.learning.consolidation import Contribution, consolidate
from actors.learning.inputs import InputKind, InputLayout
from actors.learning.labels import FEEDBACK
from actors.learning.learner import LocalRound
from actors.learning.model_kinds import RoundLearner, make_learner, make_reader
from actors.learning.models.config import ModelConfig
from actors.learning.optimizers import OptimizerConfig
from actors.learning.part import pack, unpack
from actors.learning.state import ModelState
from actors.learning.task import TaskConfig

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

NUMBERS, ROUND_ROWS, ROUNDS = 4, 256, 8
WITH_USERS = InputLayout((InputKind.CATEGORY, *[InputKind.NUMBER] * (NUMBERS - 1)))
TASKS = {
    "classes": TaskConfig(classes=[0, 1, 2]),
    "values": TaskConfig(kind="regression"),
    "scores": TaskConfig(kind="feedback", classes=["a", "b", "c"]),
}


@pytest.fixture(autouse=True)
def as_in_a_shard() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def stream(task: str, layout: InputLayout | int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x_ND = rng.normal(1, 2, (ROUND_ROWS * ROUNDS, NUMBERS)).astype(np.float32)
    code_N = (x_ND[:, 1:] @ rng.normal(size=(NUMBERS - 1, 3))).argmax(axis=1)
    if layout is WITH_USERS:
        user_N = rng.integers(1, 40, len(x_ND))
        x_ND[:, 0], code_N = user_N, np.where(rng.random(len(x_ND)) < 0.5, user_N % 3, code_N)
    if task == "classes":
        return x_ND, code_N
    if task == "values":
        return x_ND, 100.0 + 7.0 * x_ND[:, 1] * x_ND[:, 2]
    y_N = np.zeros(len(x_ND), FEEDBACK)
    y_N["code"] = rng.integers(3, size=len(x_ND))
    y_N["score"], y_N["propensity"] = y_N["code"] == code_N, 1 / 3
    return x_ND, y_N


def learner_on(device: str, model: dict[str, Any], task: str, layout: InputLayout | int, **more: Any) -> RoundLearner:
    config = ModelConfig(**model) if model["kind"] == "ensemble" else ModelConfig(hidden=[16], **model)
    optimizer = OptimizerConfig(name=more.pop("optimizer", "adam"), learning_rate=1e-2)
    return make_learner(config, optimizer, TASKS[task], layout, seed=7, device=device, **more)


def learned(
    learners: list[RoundLearner], x_ND: np.ndarray, y_N: np.ndarray, model: str, task: str
) -> tuple[list[Answer], ModelState]:
    """Round after round, by the learners in turn. Each round replays the rows of the first."""
    head, answers = ModelState.empty(NUMBERS, 1 if task == "values" else 0), []
    steps = tuple((start, start + 32) for start in range(0, ROUND_ROWS, 32))
    for at in range(ROUNDS):
        rows = slice(at * ROUND_ROWS, (at + 1) * ROUND_ROWS)
        row_N, x, y = np.arange(rows.start, rows.stop), x_ND[rows], y_N[rows]
        each = learners[at % len(learners)]
        each.load(head)
        replayed: dict[str, Any] = {}
        if at:
            replayed = {"replay_x_ND": x_ND[:64], "replay_y_N": y_N[:64], "replay_weight_N": np.full(64, 0.5, np.float32)}
            if model == "mlp":
                replayed["replay_logits_NK"] = np.ones((64, 1 if task == "values" else 3), np.float32)
        answers.append(each.round(LocalRound(row_N, x, row_N, x, y, steps, steps, 0, **replayed)))
        head = consolidate(head, [Contribution(head, 0, each.change())], 1)
        head = ModelState.from_state(unpack(pack(head.to_state())))  # as it is written down and read again
    return answers, head


def assert_alike(one: Answer, other: Answer) -> None:
    if one.value_N is not None:
        np.testing.assert_allclose(other.value_N, one.value_N, rtol=2e-2, atol=0.2)
        return
    np.testing.assert_allclose(other.probability_NK, one.probability_NK, atol=2e-2)


CASES = {
    "mlp": {"model": {"kind": "mlp"}},
    "mlp, sgd": {"model": {"kind": "mlp"}, "optimizer": "sgd"},
    "mlp, rmsprop, twice": {"model": {"kind": "mlp"}, "optimizer": "rmsprop", "epochs": 2},
    "mlp, ewc": {"model": {"kind": "mlp"}, "regularizer": "ewc"},
    "mlp, lwf": {"model": {"kind": "mlp"}, "regularizer": "lwf"},
    "mlp, der": {"model": {"kind": "mlp"}, "regularizer": "der"},
    "mlp, categories": {"model": {"kind": "mlp"}, "layout": WITH_USERS},
    "linear": {"model": {"kind": "linear"}},
    "ensemble": {"model": {"kind": "ensemble"}},
    "ensemble, categories": {"model": {"kind": "ensemble"}, "layout": WITH_USERS},
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("case", CASES)
def test_a_gpu_learns_what_a_cpu_learns_and_its_versions_go_on_there(case: str, task: str) -> None:
    given = {"layout": NUMBERS, **CASES[case]}
    model, layout = given.pop("model"), given.pop("layout")
    x_ND, y_N = stream(task, layout)

    def run(*devices: str) -> tuple[list[Answer], ModelState]:
        learners = [learner_on(device, model, task, layout, **given) for device in devices]
        return learned(learners, x_ND, y_N, model["kind"], task)

    expected, version = run("cpu")
    for devices in (("cuda",), ("cuda", "cpu")):
        answers, other = run(*devices)
        for one, another in zip(expected, answers, strict=True):
            assert_alike(one, another)
        assert other.layout == version.layout and other.rows == version.rows
        config = ModelConfig(**model) if model["kind"] == "ensemble" else ModelConfig(hidden=[16], **model)
        reader = make_reader(config, TASKS[task], layout, seed=7)
        served = []
        for state in (version, other):
            reader.load(state)
            served.append(reader.predict(x_ND[:200]))
        assert_alike(*served)


@pytest.mark.parametrize("case", CASES)
def test_a_gpu_learns_the_same_bits_every_time(case: str) -> None:
    given = {"layout": NUMBERS, **CASES[case]}
    model, layout = given.pop("model"), given.pop("layout")
    x_ND, y_N = stream("classes", layout)
    digests = [
        learned([learner_on("cuda", model, "classes", layout, **given)], x_ND, y_N, model["kind"], "classes")[1].digest()
        for _ in range(2)
    ]
    assert digests[0] == digests[1]
