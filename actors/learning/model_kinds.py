"""Which class learns and which one answers, by `model.kind`."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from actors.learning.answer import Answer, NetworkReader
from actors.learning.inputs import InputLayout
from actors.learning.learner import Findings, Learner, LocalRound
from actors.learning.models.config import ModelConfig
from actors.learning.optimizers import OptimizerConfig
from actors.learning.regularizers.config import RegularizationConfig, RegularizerKind
from actors.learning.state import LocalChange, ModelState
from actors.learning.task import TaskConfig


class Reader(Protocol):
    """Answers with one version after another; what it answers is what a learner shard would predict from that version."""

    def load(self, state: ModelState) -> None: ...

    def predict(self, x_ND: np.ndarray) -> Answer:
        """Answers for encoded rows, NaN where a value is missing."""


class RoundLearner(Reader, Protocol):
    """One shard's model: `load` a version, do a `round`, take the `change`."""

    def round(self, work: LocalRound) -> Answer: ...

    def train(self, x_ND: np.ndarray, y_N: np.ndarray) -> None: ...

    def findings(self) -> Findings:
        """What the round tells of rows."""

    def change(self, classes: tuple[Any, ...] = ()) -> LocalChange: ...


def make_reader(
    model: ModelConfig,
    task: TaskConfig,
    inputs: int | InputLayout,
    *,
    seed: int,
    initial: Mapping[str, np.ndarray] | None = None,
) -> Reader:
    if model.kind == "ensemble":
        from actors.learning.models.ensemble.ensemble import EnsembleReader  # numba takes a second to import

        return EnsembleReader(model, task, inputs, seed=seed, initial=initial)
    return NetworkReader(model, task, inputs, seed=seed, initial=initial)


def make_learner(
    model: ModelConfig,
    optimizer: OptimizerConfig,
    task: TaskConfig,
    inputs: int | InputLayout,
    *,
    seed: int,
    shards: int = 1,
    initial: Mapping[str, np.ndarray] | None = None,
    device: str = "cpu",
    epochs: int = 1,
    regularizer: RegularizerKind = "none",
    regularization: RegularizationConfig | None = None,
) -> RoundLearner:
    """The last three are for networks; an ensemble has ways of its own."""
    if model.kind == "ensemble":
        from actors.learning.models.ensemble.ensemble import EnsembleLearner

        return EnsembleLearner(model, task, inputs, seed=seed, initial=initial, device=device)
    return Learner(
        model,
        optimizer,
        task,
        inputs,
        seed=seed,
        shards=shards,
        initial=initial,
        device=device,
        epochs=epochs,
        regularizer=regularizer,
        regularization=regularization,
    )
