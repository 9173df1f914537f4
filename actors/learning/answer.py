"""From a network's outputs to an answer: the same for the learner that tests and for the replica that serves."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from actors.learning.inputs import InputLayout
from actors.learning.models.config import ModelConfig
from actors.learning.models.factory import module_builder
from actors.learning.network import Network
from actors.learning.running_stats import RunningStats
from actors.learning.state import ModelState
from actors.learning.task import TaskConfig, TaskKind


@dataclass(frozen=True, slots=True)
class Answer:
    """For N rows: class codes (-1 while no class is known) and probabilities, or values.

    In a feedback task the code is the best answer, and the probabilities are those with which answers are to be given.
    """

    code_N: np.ndarray | None
    probability_NK: np.ndarray | None
    value_N: np.ndarray | None


def before_labels(rows: int, classes: int, task: TaskConfig) -> Answer:
    """While no label has come: classes that were named beforehand are all as likely; else there is nothing to choose from."""
    if isinstance(task.classes, list):
        return Answer(np.zeros(rows, np.int64), np.full((rows, len(task.classes)), 1.0 / len(task.classes), np.float32), None)
    return Answer(np.full(rows, -1, np.int64), np.zeros((rows, classes), np.float32), None)


def classes_of(out_NK: Tensor, seen_K: np.ndarray) -> Answer:
    """Softmax over the classes of which a label has come; the others have probability zero."""
    known = len(seen_K)
    if not seen_K.all() or known < out_NK.shape[1]:
        unseen_K = torch.from_numpy(~np.append(seen_K, np.zeros(out_NK.shape[1] - known, bool)))
        out_NK = out_NK.masked_fill(unseen_K.to(out_NK.device), -torch.inf)
    probability_NK = functional.softmax(out_NK, dim=1).cpu().numpy()
    return Answer(probability_NK.argmax(axis=1), probability_NK, None)


def chosen(score_NK: np.ndarray, exploration: float) -> Answer:
    """The answer with the best estimated score, and the probability with which each is to be given (epsilon-greedy)."""
    rows, known = score_NK.shape
    code_N = score_NK.argmax(axis=1)
    probability_NK = np.full((rows, known), exploration / known, np.float32)
    probability_NK[np.arange(rows), code_N] += 1.0 - exploration
    return Answer(code_N, probability_NK, None)


def drawn(probability_NK: np.ndarray, request_ids: Sequence[str]) -> list[int]:
    """An answer for each request by its probability; the same request always gets the same draw."""
    digests = [hashlib.blake2b(request_id.encode(), digest_size=8).digest() for request_id in request_ids]
    even_N = np.array([int.from_bytes(digest, "big") / 2**64 for digest in digests])
    upper_NK = np.cumsum(probability_NK, axis=1, dtype=np.float64)
    code_N = (upper_NK <= (even_N * upper_NK[:, -1])[:, None]).sum(axis=1)
    return np.minimum(code_N, probability_NK.shape[1] - 1).tolist()  # type: ignore[no-any-return]


def values_of(out_N1: Tensor, target: RunningStats) -> Answer:
    """Estimates on the scale of the label."""
    value_N = out_N1[:, 0].cpu().numpy().astype(np.float64)
    return Answer(None, None, value_N * target.scale_D[0] + target.mean_D[0])


def known_classes(class_counts_K: np.ndarray, task: TaskConfig) -> np.ndarray:
    """bool [K]: those that may be answered: a label of it has come, or scores will tell what it is worth."""
    return np.ones(len(class_counts_K), bool) if task.kind is TaskKind.FEEDBACK else class_counts_K > 0


def answer_of(out_NK: Tensor, known_K: np.ndarray, target: RunningStats, task: TaskConfig) -> Answer:
    match task.kind:
        case TaskKind.REGRESSION:
            return values_of(out_NK, target)
        case TaskKind.FEEDBACK:
            return chosen(out_NK[:, : len(known_K)].cpu().numpy(), task.exploration)
        case _:
            return classes_of(out_NK, known_K)


def outputs_of(state: ModelState, task: TaskConfig) -> int:
    """How many outputs the network of this version has."""
    if task.kind is TaskKind.REGRESSION:
        return 1
    return len(task.classes) if isinstance(task.classes, list) else len(state.class_counts_K)


class NetworkReader:
    """Answers with one version of a network after another."""

    def __init__(
        self,
        model: ModelConfig,
        task: TaskConfig,
        inputs: int | InputLayout,
        *,
        seed: int,
        initial: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self._task, self._inputs = task, InputLayout.of(inputs)
        is_regression = task.kind is TaskKind.REGRESSION
        build = module_builder(model, inputs)
        self._network = Network(build, freeze=tuple(model.freeze), initial=initial, seed=seed, grows=not is_regression)
        self._state: ModelState | None = None

    def load(self, state: ModelState) -> None:
        if state.layout:
            self._network.load(state.layout, state.flat_P, state.buffers, outputs_of(state, self._task))
        self._network.module.eval()
        self._state = state

    def predict(self, x_ND: np.ndarray) -> Answer:
        """Answers for encoded rows, NaN where a value is missing. Needs a loaded version."""
        state = self._state
        assert state is not None
        is_regression = self._task.kind is TaskKind.REGRESSION
        known_K = known_classes(state.class_counts_K, self._task)
        if not state.layout or not (is_regression or known_K.any()):
            return before_labels(len(x_ND), len(known_K), self._task)
        with torch.no_grad():
            out_NK = self._network(torch.from_numpy(self._inputs.standardised(x_ND, state.features)))
            return answer_of(out_NK, known_K, state.target, self._task)
