"""Test-then-train: a local round of one learner shard, from a version to what the shard made of it.

Shapes: N rows, D encoded features, K classes, P learned weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from actors.learning.answer import Answer, answer_of, known_classes, no_classes, outputs_of
from actors.learning.dealing import Slice
from actors.learning.labels import codes_of, feedback_loss
from actors.learning.models.config import ModelConfig
from actors.learning.models.factory import module_builder
from actors.learning.network import Network
from actors.learning.optimizers import OptimizerConfig, make_optimizer
from actors.learning.running_stats import RunningStats
from actors.learning.state import LocalChange, ModelState, relaid
from actors.learning.task import TaskConfig, TaskKind


@dataclass(frozen=True, slots=True)
class LocalRound:
    """What is to be done: rows to predict, rows whose labels are visible, and in which steps.

    A step of `train_slices` is taken once the label of its last row is visible, that is after a row that lies
    `label_delay_rows` later in the stream has been predicted; what is left is learned at the end of the round.
    """

    test_row_N: np.ndarray
    test_x_ND: np.ndarray
    train_row_N: np.ndarray
    train_x_ND: np.ndarray
    train_y_N: np.ndarray
    test_slices: Sequence[Slice]
    train_slices: Sequence[Slice]
    label_delay_rows: int
    replay_x_ND: np.ndarray | None = None
    replay_y_N: np.ndarray | None = None
    learning_rate_factor: float = 1.0


class Learner:
    """One shard's model. `load` a version, do a `round`, take the `LocalChange`.

    `shards` is how many work on the stream: within a round each shard counts its own rows that many times in its
    running statistics, standing in for the others, whose rows it gets to know at the next consolidation.
    """

    def __init__(
        self,
        model: ModelConfig,
        optimizer: OptimizerConfig,
        task: TaskConfig,
        inputs: int,
        *,
        seed: int,
        shards: int = 1,
        initial: Mapping[str, np.ndarray] | None = None,
        device: str = "cpu",
    ) -> None:
        self._optimizer_config, self._task, self._shards, self._device = optimizer, task, shards, device
        self._is_regression = task.kind is TaskKind.REGRESSION
        self._has_plain_forward = model.kind != "python"  # no dropout or batch statistics: one pass serves test and train
        self._network = Network(
            module_builder(model, inputs),
            freeze=tuple(model.freeze),
            initial=initial,
            seed=seed,
            grows=not self._is_regression,
            device=device,
        )
        self._optimizer: torch.optim.Optimizer | None = None
        self._learning_rate_factor = 1.0
        self.load(ModelState.empty(inputs, 1 if self._is_regression else 0))

    # --- versions

    def load(self, state: ModelState) -> None:
        """Starts from `state`; what was learned since the last load is dropped."""
        self._begin(state)
        if state.layout:
            self._network.load(state.layout, state.flat_P, state.buffers, self._outputs)
            self._start_optimizer(state.optimizer)
            return
        self._network.clear()
        self._optimizer = None
        if self._outputs:
            self._resize(self._outputs)

    def change(self, classes: tuple[Any, ...] = ()) -> LocalChange:
        """What has been learned since `load`; `classes[code]` names the classes, as far as labels are visible."""
        return LocalChange(
            layout=self._network.layout,
            flat_P=self._network.flat.detach().cpu().numpy().copy(),
            optimizer=self._optimizer_state(),
            buffers=self._network.buffers(),
            features=self._feature_increment,
            target=self._target_increment,
            class_counts_K=self._class_increment_K,
            classes=classes[: len(self._class_increment_K)],
            rows=self._rows,
            mean_loss=self._loss_sum / self._rows if self._rows else float("nan"),
        )

    def _begin(self, state: ModelState) -> None:
        self._base = state
        self._features, self._feature_increment = state.features, RunningStats.empty(len(state.features.count_D))
        self._target, self._target_increment = state.target, RunningStats.empty(len(state.target.count_D))
        self._class_increment_K = np.zeros(len(state.class_counts_K), np.int64)
        self._known_K = known_classes(state.class_counts_K, self._task)
        self._rows, self._loss_sum = 0, 0.0
        self._outputs = outputs_of(state, self._task)

    # --- predict

    def predict(self, x_ND: np.ndarray) -> Answer:
        """Answers for encoded rows, NaN where a value is missing."""
        if not self._is_regression and not self._known_K.any():
            return no_classes(len(x_ND), len(self._known_K))
        self._network.module.eval()
        with torch.no_grad():
            return self._answer(self._network(self._standardised(x_ND)))

    def _answer(self, out_NK: Tensor) -> Answer:
        return answer_of(out_NK, self._known_K, self._target, self._task)

    # --- train

    def round(self, work: LocalRound) -> Answer:
        """Predicts every test row before its label has touched anything, and learns the train rows in their order."""
        answers: list[Answer] = []
        self._set_learning_rates(work.learning_rate_factor)
        replay = self._replay_shares(work)
        trained = 0
        for at, (start, stop) in enumerate(work.test_slices):
            x_ND = work.test_x_ND[start:stop]
            shares_rows = work.train_x_ND is work.test_x_ND and trained == at and at < len(work.train_slices)
            if shares_rows and work.train_slices[at] == (start, stop) and work.label_delay_rows == 0:
                answers.append(self._test_and_train(x_ND, work.train_y_N[start:stop], *replay[at]))
                trained += 1
                continue
            answers.append(self.predict(x_ND))
            visible_row = work.test_row_N[stop - 1] - work.label_delay_rows
            while trained < len(work.train_slices) and work.train_row_N[work.train_slices[trained][1] - 1] <= visible_row:
                self._train_slice(work, trained, replay)
                trained += 1
        for at in range(trained, len(work.train_slices)):
            self._train_slice(work, at, replay)
        return _concatenated(answers)

    def train(
        self, x_ND: np.ndarray, y_N: np.ndarray, replay_x_ND: np.ndarray | None = None, replay_y_N: np.ndarray | None = None
    ) -> None:
        """One step on labelled rows, mixed with replayed ones. y_N: see `label_dtype`.

        The rows are standardised as they were when they were predicted; the statistics take them in afterwards. Only the
        very first rows lend their own statistics, there being no others.
        """
        self._meet_labels(y_N)
        is_first = not self._features.count_D.any()
        if is_first:
            self._update_statistics(x_ND, y_N)
        self._step(self._standardised(_stacked(x_ND, replay_x_ND)), _stacked(y_N, replay_y_N), len(x_ND))
        if not is_first:
            self._update_statistics(x_ND, y_N)

    def _test_and_train(
        self, x_ND: np.ndarray, y_N: np.ndarray, replay_x_ND: np.ndarray | None, replay_y_N: np.ndarray | None
    ) -> Answer:
        """`predict` then `train` on the same rows; with one forward pass where it gives what two would give."""
        knows_all = self._is_regression or (len(y_N) > 0 and int(codes_of(y_N).max()) < self._network.outputs)
        if not (self._has_plain_forward and self._features.count_D.any() and self._network.outputs and knows_all):
            answer = self.predict(x_ND)
            self.train(x_ND, y_N, replay_x_ND, replay_y_N)
            return answer
        out_NK = self._step(self._standardised(_stacked(x_ND, replay_x_ND)), _stacked(y_N, replay_y_N), len(x_ND))
        answer = self._answer(out_NK[: len(x_ND)])
        self._count_classes(y_N)
        self._update_statistics(x_ND, y_N)
        return answer

    def _train_slice(self, work: LocalRound, at: int, replay: Sequence[tuple[np.ndarray | None, np.ndarray | None]]) -> None:
        start, stop = work.train_slices[at]
        self.train(work.train_x_ND[start:stop], work.train_y_N[start:stop], *replay[at])

    def _step(self, z_ND: Tensor, y_N: np.ndarray, new_rows: int) -> Tensor:
        """One optimizer step; returns the outputs from before it."""
        assert self._optimizer is not None
        self._network.module.train()
        self._network.zero_grad()
        out_NK = self._network(z_ND)
        if self._is_regression:
            target_N = torch.from_numpy(self._target.standardise(y_N[:, None])[:, 0]).to(self._device)
            loss_of = functional.mse_loss if self._task.loss == "squared" else functional.l1_loss
            loss = loss_of(out_NK[:, 0], target_N)
        elif self._task.kind is TaskKind.FEEDBACK:
            loss = feedback_loss(out_NK, y_N)
        else:
            loss = functional.cross_entropy(out_NK, torch.from_numpy(y_N).to(self._device))
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._rows += new_rows
        self._loss_sum += float(loss.detach()) * new_rows
        return out_NK.detach()

    def _meet_labels(self, y_N: np.ndarray) -> None:
        """Counts the classes of labels that have become visible and widens the model for those it has not met."""
        self._count_classes(y_N)
        if not self._is_regression and len(self._known_K) > self._network.outputs:
            self._resize(len(self._known_K))

    def _count_classes(self, y_N: np.ndarray) -> None:
        if self._is_regression or not len(y_N):
            return
        code_N = codes_of(y_N)
        given = self._outputs if self._task.kind is TaskKind.FEEDBACK else 0
        counts_K = np.bincount(code_N, minlength=max(len(self._class_increment_K), given))
        counts_K[: len(self._class_increment_K)] += self._class_increment_K
        self._class_increment_K = counts_K
        total_K = counts_K.copy()
        total_K[: len(self._base.class_counts_K)] += self._base.class_counts_K
        self._known_K = known_classes(total_K, self._task)

    def _update_statistics(self, x_ND: np.ndarray, y_N: np.ndarray) -> None:
        self._feature_increment = self._feature_increment.merge(RunningStats.of(x_ND))
        self._features = self._base.features.merge(self._feature_increment.repeated(self._shards))
        if self._is_regression:
            self._target_increment = self._target_increment.merge(RunningStats.of(y_N[:, None]))
            self._target = self._base.target.merge(self._target_increment.repeated(self._shards))

    def _standardised(self, x_ND: np.ndarray) -> Tensor:
        return torch.from_numpy(self._features.standardise(x_ND)).to(self._device)

    def _replay_shares(self, work: LocalRound) -> list[tuple[np.ndarray | None, np.ndarray | None]]:
        """The round's replayed rows, dealt evenly to its steps."""
        if work.replay_x_ND is None or work.replay_y_N is None or not len(work.replay_y_N):
            return [(None, None)] * len(work.train_slices)
        bounds = np.linspace(0, len(work.replay_y_N), len(work.train_slices) + 1).astype(int)
        return [(work.replay_x_ND[a:b], work.replay_y_N[a:b]) for a, b in pairwise(bounds)]

    # --- the optimizer follows the flat vector

    def _resize(self, outputs: int) -> None:
        old, moments = self._network.layout, self._optimizer_state()
        self._network.resize(outputs)
        self._start_optimizer({n: relaid(m, old, self._network.layout) if m.ndim else m for n, m in moments.items()})

    def _start_optimizer(self, moments: Mapping[str, np.ndarray]) -> None:
        self._optimizer = make_optimizer(self._optimizer_config, [self._network.flat])
        self._set_learning_rates(self._learning_rate_factor)
        if moments:
            self._optimizer.state[self._network.flat] = {
                name: torch.from_numpy(np.array(value)).to(self._device if value.ndim else "cpu")
                for name, value in moments.items()
            }

    def _set_learning_rates(self, factor: float) -> None:
        """`factor` times those of the configuration, until it is called again."""
        self._learning_rate_factor = factor
        for group in self._optimizer.param_groups if self._optimizer else ():
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor

    def _optimizer_state(self) -> dict[str, np.ndarray]:
        if self._optimizer is None:
            return {}
        state = self._optimizer.state[self._network.flat]
        return {name: value.detach().cpu().numpy().copy() for name, value in state.items() if isinstance(value, Tensor)}


def _stacked(new_N: np.ndarray, replayed_N: np.ndarray | None) -> np.ndarray:
    return new_N if replayed_N is None or not len(replayed_N) else np.concatenate([new_N, replayed_N])


def _concatenated(answers: Sequence[Answer]) -> Answer:
    """The answers one after another; probabilities padded with zeros for classes met later in the round."""
    if not answers:
        return Answer(np.zeros(0, np.int64), np.zeros((0, 0), np.float32), np.zeros(0))
    if answers[0].value_N is not None:
        return Answer(None, None, np.concatenate([a.value_N for a in answers if a.value_N is not None]))
    widths = [a.probability_NK.shape[1] for a in answers if a.probability_NK is not None]
    padded = [
        np.pad(a.probability_NK, ((0, 0), (0, max(widths) - a.probability_NK.shape[1])))
        for a in answers
        if a.probability_NK is not None
    ]
    return Answer(np.concatenate([a.code_N for a in answers if a.code_N is not None]), np.concatenate(padded), None)
