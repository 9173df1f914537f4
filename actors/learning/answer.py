"""From a network's outputs to an answer: the same for the learner that tests and for the replica that serves."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from actors.learning.models.config import ModelConfig
from actors.learning.models.factory import module_builder
from actors.learning.network import Network
from actors.learning.running_stats import RunningStats
from actors.learning.state import ModelState
from actors.learning.task import TaskConfig, TaskKind


@dataclass(frozen=True, slots=True)
class Answer:
    """For N rows: class codes (-1 while no class is known) and probabilities, or values."""

    code_N: np.ndarray | None
    probability_NK: np.ndarray | None
    value_N: np.ndarray | None


def no_classes(rows: int, classes: int) -> Answer:
    """While no label has come there is nothing to choose from."""
    return Answer(np.full(rows, -1, np.int64), np.zeros((rows, classes), np.float32), None)


def classes_of(out_NK: Tensor, seen_K: np.ndarray) -> Answer:
    """Softmax over the classes of which a label has come; the others have probability zero."""
    known = len(seen_K)
    if not seen_K.all() or known < out_NK.shape[1]:
        unseen_K = torch.from_numpy(~np.append(seen_K, np.zeros(out_NK.shape[1] - known, bool)))
        out_NK = out_NK.masked_fill(unseen_K.to(out_NK.device), -torch.inf)
    probability_NK = functional.softmax(out_NK, dim=1).cpu().numpy()
    return Answer(probability_NK.argmax(axis=1), probability_NK, None)


def values_of(out_N1: Tensor, target: RunningStats) -> Answer:
    """Estimates on the scale of the label."""
    value_N = out_N1[:, 0].cpu().numpy().astype(np.float64)
    return Answer(None, None, value_N * target.scale_D[0] + target.mean_D[0])


def outputs_of(state: ModelState, task: TaskConfig) -> int:
    """How many outputs the network of this version has."""
    if task.kind is TaskKind.REGRESSION:
        return 1
    return len(task.classes) if isinstance(task.classes, list) else len(state.class_counts_K)


class VersionReader:
    """Answers with one version after another; what it answers is what a learner shard would predict from that version."""

    def __init__(
        self,
        model: ModelConfig,
        task: TaskConfig,
        inputs: int,
        *,
        seed: int,
        initial: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self._task = task
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
        seen_K = state.class_counts_K > 0
        if not state.layout or not (is_regression or seen_K.any()):
            return no_classes(len(x_ND), len(seen_K))
        with torch.no_grad():
            out_NK = self._network(torch.from_numpy(state.features.standardise(x_ND)))
            return values_of(out_NK, state.target) if is_regression else classes_of(out_NK, seen_K)
