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

from actors.learning.answer import Answer, answer_of, before_labels, known_classes, outputs_of
from actors.learning.dealing import Slice
from actors.learning.inputs import InputLayout
from actors.learning.labels import codes_of
from actors.learning.models.config import ModelConfig
from actors.learning.models.factory import module_builder
from actors.learning.network import Network
from actors.learning.optimizers import OptimizerConfig, make_optimizer, step_scales
from actors.learning.regularizers.config import RegularizationConfig, RegularizerKind
from actors.learning.regularizers.elastic import ElasticWeights
from actors.learning.regularizers.teacher import Teacher
from actors.learning.replay import ReplaySample
from actors.learning.row_losses import Targets, mean_loss, row_losses, targets_of
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
    replay_logits_NK: np.ndarray | None = None  # as in ReplaySample
    replay_weight_N: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Findings:
    """What a round tells of rows: of R replayed ones, in their order, the losses before the step, float32.

    Of N rows learned for the first time, row_N, the outputs at the end of the round, float32 [N, K]; regression: on the scale
    of the label.
    """

    loss_R: np.ndarray
    row_N: np.ndarray
    logits_NK: np.ndarray


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
        inputs: int | InputLayout,
        *,
        seed: int,
        shards: int = 1,
        initial: Mapping[str, np.ndarray] | None = None,
        device: str = "cpu",
        epochs: int = 1,
        regularizer: RegularizerKind = "none",
        regularization: RegularizationConfig | None = None,
    ) -> None:
        self._inputs = InputLayout.of(inputs)
        self._optimizer_config, self._task, self._shards, self._device = optimizer, task, shards, device
        self._epochs, self._seed = epochs, seed
        self._is_regression = task.kind is TaskKind.REGRESSION
        self._has_plain_forward = model.kind != "python"  # no dropout or batch statistics: one pass serves test and train

        def network() -> Network:
            build, freeze, grows = module_builder(model, inputs), tuple(model.freeze), not self._is_regression
            return Network(build, freeze=freeze, initial=initial, seed=seed, grows=grows, device=device)

        self._network = network()
        strengths = regularization or RegularizationConfig()
        self._elastic = ElasticWeights(strengths.ewc, optimizer.learning_rate) if regularizer == "ewc" else None
        self._teacher = Teacher(strengths.lwf, network(), task.kind) if regularizer == "lwf" else None
        self._dark = strengths.der if regularizer == "der" else None
        self._optimizer: torch.optim.Optimizer | None = None
        self._learning_rate_factor = 1.0
        self._scale_P: Tensor | None = None
        self.load(ModelState.empty(int(self._inputs), 1 if self._is_regression else 0))

    # --- versions

    def load(self, state: ModelState) -> None:
        """Starts from `state`; what was learned since the last load is dropped."""
        self._begin(state)
        if self._elastic is not None:
            self._elastic.begin(state)
        if self._teacher is not None:
            self._teacher.begin(state, self._outputs)
        if state.layout:
            self._network.load(state.layout, state.flat_P, state.buffers, self._outputs)
            self._start_optimizer(state.optimizer)
            if self._network.wants_to_grow:
                self._resize(self._outputs)
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
            tied=self._tied(),
        )

    def findings(self) -> Findings:
        """Since `load`; of the rows of which somebody wants to know."""
        loss_R = np.concatenate([np.zeros(0, np.float32), *self._replayed_losses])
        if not self._told:
            return Findings(loss_R, np.zeros(0, np.int64), np.zeros((0, self._network.outputs), np.float32))
        row_N, x_ND = (np.concatenate(columns) for columns in zip(*self._told, strict=True))
        self._network.module.eval()
        with torch.no_grad():
            out_NK = self._network(self._standardised(x_ND)).cpu().numpy()
        return Findings(loss_R, row_N, self._on_the_labels_scale(out_NK))

    def _tied(self) -> Mapping[str, np.ndarray]:
        if self._teacher is not None:
            return self._teacher.tied(self._network.layout)
        return self._elastic.tied(self._network.layout) if self._elastic is not None else {}

    def _begin(self, state: ModelState) -> None:
        self._base = state
        self._features, self._feature_increment = state.features, RunningStats.empty(len(state.features.count_D))
        self._target, self._target_increment = state.target, RunningStats.empty(len(state.target.count_D))
        self._class_increment_K = np.zeros(len(state.class_counts_K), np.int64)
        self._known_K = known_classes(state.class_counts_K, self._task)
        self._rows, self._loss_sum = 0, 0.0
        self._replayed_losses: list[np.ndarray] = []
        self._told: list[tuple[np.ndarray, np.ndarray]] = []  # row numbers and features of rows learned for the first time
        self._outputs = outputs_of(state, self._task)

    # --- predict

    def predict(self, x_ND: np.ndarray) -> Answer:
        """Answers for encoded rows, NaN where a value is missing."""
        if not self._is_regression and not self._known_K.any():
            return before_labels(len(x_ND), len(self._known_K), self._task)
        self._network.module.eval()
        with torch.no_grad():
            return self._answer(self._network(self._standardised(x_ND)))

    def _answer(self, out_NK: Tensor) -> Answer:
        return answer_of(out_NK, self._known_K, self._target, self._task)

    # --- train

    def round(self, work: LocalRound) -> Answer:
        """Predicts every test row before its label has touched anything, and learns the train rows in their order.

        Where rows are learned more than once, that is after all tests of the round.
        """
        answers: list[Answer] = []
        self._set_learning_rates(work.learning_rate_factor)
        self._weigh(work)
        replay = self._replay_shares(work)
        trained = 0
        for at, (start, stop) in enumerate(work.test_slices):
            x_ND = work.test_x_ND[start:stop]
            shares_rows = work.train_x_ND is work.test_x_ND and trained == at and at < len(work.train_slices)
            if shares_rows and work.train_slices[at] == (start, stop) and work.label_delay_rows == 0:
                answers.append(self._test_and_train(x_ND, work.train_y_N[start:stop], replay[at], work.train_row_N[start:stop]))
                trained += 1
                continue
            answers.append(self.predict(x_ND))
            visible_row = work.test_row_N[stop - 1] - work.label_delay_rows
            while trained < len(work.train_slices) and work.train_row_N[work.train_slices[trained][1] - 1] <= visible_row:
                self._train_slice(work, trained, replay)
                trained += 1
        for at in range(trained, len(work.train_slices)):
            self._train_slice(work, at, replay)
        steps = len(work.train_slices)
        for at in range(steps, steps * self._epochs):
            start, stop = work.train_slices[at % steps]
            self._step(work.train_x_ND[start:stop], work.train_y_N[start:stop], replay[at])
        return _concatenated(answers)

    def _weigh(self, work: LocalRound) -> None:
        """Which weights matter to what the version says of the first rows to be learned; their labels are not looked at."""
        if self._elastic is None or not self._base.layout or not work.train_slices:
            return
        own_N = np.concatenate([np.arange(start, stop) for start, stop in work.train_slices])[
            : self._elastic.config.fisher_rows
        ]
        self._network.module.eval()
        rng = np.random.default_rng([self._seed, self._base.rows])
        self._elastic.weigh(self._network, self._standardised(work.train_x_ND[own_N]), self._task, rng)

    def train(
        self, x_ND: np.ndarray, y_N: np.ndarray, replay: ReplaySample | None = None, row_N: np.ndarray | None = None
    ) -> None:
        """One step on labelled rows, mixed with replayed ones. y_N: see `label_dtype`.

        The rows are standardised as they were when they were predicted; the statistics take them in afterwards. Only the
        very first rows lend their own statistics, there being no others.
        """
        self._meet_labels(y_N)
        is_first = not self._features.count_D.any()
        if is_first:
            self._update_statistics(x_ND, y_N)
        self._first_step(x_ND, y_N, replay, row_N)
        if not is_first:
            self._update_statistics(x_ND, y_N)

    def _test_and_train(self, x_ND: np.ndarray, y_N: np.ndarray, replay: ReplaySample | None, row_N: np.ndarray) -> Answer:
        """`predict` then `train` on the same rows; with one forward pass where it gives what two would give."""
        knows_all = self._is_regression or (len(y_N) > 0 and int(codes_of(y_N).max()) < self._network.outputs)
        if not (self._has_plain_forward and self._features.count_D.any() and self._network.outputs and knows_all):
            answer = self.predict(x_ND)
            self.train(x_ND, y_N, replay, row_N)
            return answer
        answer = self._answer(self._first_step(x_ND, y_N, replay, row_N))
        self._count_classes(y_N)
        self._update_statistics(x_ND, y_N)
        return answer

    def _train_slice(self, work: LocalRound, at: int, replay: Sequence[ReplaySample | None]) -> None:
        start, stop = work.train_slices[at]
        self.train(work.train_x_ND[start:stop], work.train_y_N[start:stop], replay[at], work.train_row_N[start:stop])

    def _first_step(self, x_ND: np.ndarray, y_N: np.ndarray, replay: ReplaySample | None, row_N: np.ndarray | None) -> Tensor:
        """A step on rows that have not been learned before; returns their outputs from before it."""
        out_NK, loss = self._step(x_ND, y_N, replay)
        self._rows += len(x_ND)
        self._loss_sum += loss * len(x_ND)
        out_NK = out_NK[: len(x_ND)]
        if self._dark is not None and row_N is not None:
            self._told.append((row_N, x_ND))
        return out_NK

    def _step(self, x_ND: np.ndarray, y_N: np.ndarray, replay: ReplaySample | None) -> tuple[Tensor, float]:
        """One optimizer step; returns the outputs from before it, and the loss."""
        assert self._optimizer is not None
        if replay is not None and not len(replay.y_N):
            replay = None
        z_ND = self._standardised(_stacked(x_ND, replay.x_ND if replay else None))
        targets = self._targets(_stacked(y_N, replay.y_N if replay else None))
        self._network.module.train()
        self._network.zero_grad()
        out_NK = self._network(z_ND)
        if replay is not None and (replay.weight_N is not None or replay.logits_NK is not None):
            loss = self._loss_of_each(out_NK, targets, len(x_ND), replay)
        else:
            loss = mean_loss(out_NK, targets, self._task)
        taught = self._teacher.loss(z_ND, out_NK) if self._teacher is not None else None
        (loss if taught is None else loss + taught).backward()  # type: ignore[no-untyped-call]
        self._move()
        return out_NK.detach(), float(loss.detach())

    def _loss_of_each(self, out_NK: Tensor, targets: Targets, new: int, replay: ReplaySample) -> Tensor:
        """Rows weighted one by one; and remembered outputs beside the labels.

        Buzzega et al. (2020), "Dark experience for general continual learning: a strong, simple baseline", equation 6 (DER++),
        with the same replayed rows in both of its terms.
        """
        loss_N = row_losses(out_NK, targets, self._task)
        if replay.weight_N is not None:
            self._replayed_losses.append(loss_N[new:].detach().cpu().numpy())
            weight_N = torch.ones_like(loss_N)
            weight_N[new:] = torch.from_numpy(replay.weight_N).to(self._device)
            loss_N = loss_N * weight_N
        if self._dark is None or replay.logits_NK is None:
            return loss_N.mean()
        logits_NK = replay.logits_NK[:, : out_NK.shape[1]]
        is_known_NK = ~np.isnan(logits_NK)
        loss = loss_N[:new].mean() + self._dark.labels * loss_N[new:].mean()
        known = int(is_known_NK.sum())
        if not known:
            return loss
        told_NK = torch.from_numpy(np.where(is_known_NK, self._on_the_models_scale(logits_NK), 0.0).astype(np.float32))
        off_NK = (out_NK[new:, : logits_NK.shape[1]] - told_NK.to(self._device)) * torch.from_numpy(is_known_NK).to(
            self._device
        )
        return loss + self._dark.logits * off_NK.square().sum() / known

    def _move(self) -> None:
        """The optimizer's step; with weights that have a step size of their own, that part of it."""
        flat = self._network.flat
        assert self._optimizer is not None and flat.grad is not None
        if self._elastic is not None:
            self._elastic.add_gradient(flat.data, flat.grad, self._network.layout)
        if self._scale_P is None:
            self._optimizer.step()
            return
        before_P = flat.data.clone()
        self._optimizer.step()
        flat.data.copy_(before_P + self._scale_P * (flat.data - before_P))

    def _targets(self, y_N: np.ndarray) -> Targets:
        return targets_of(y_N, self._network.outputs, self._target, self._task, self._device)

    def _on_the_labels_scale(self, out_NK: np.ndarray) -> np.ndarray:
        """Outputs that can be remembered: of a regression, free of the label's statistics, which move."""
        if not self._is_regression:
            return out_NK
        return np.asarray(out_NK * self._target.scale_D + self._target.mean_D, np.float32)

    def _on_the_models_scale(self, told_NK: np.ndarray) -> np.ndarray:
        return (told_NK - self._target.mean_D) / self._target.scale_D if self._is_regression else told_NK

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
        self._feature_increment = self._feature_increment.merge(self._inputs.statistics(x_ND))
        self._features = self._base.features.merge(self._feature_increment.repeated(self._shards))
        if self._is_regression:
            self._target_increment = self._target_increment.merge(RunningStats.of(y_N[:, None]))
            self._target = self._base.target.merge(self._target_increment.repeated(self._shards))

    def _standardised(self, x_ND: np.ndarray) -> Tensor:
        return torch.from_numpy(self._inputs.standardised(x_ND, self._features)).to(self._device)

    def _replay_shares(self, work: LocalRound) -> list[ReplaySample | None]:
        """The round's replayed rows, dealt evenly to its steps."""
        steps = len(work.train_slices) * self._epochs
        if work.replay_x_ND is None or work.replay_y_N is None or not len(work.replay_y_N):
            return [None] * steps
        logits_NK = work.replay_logits_NK if self._dark is not None else None
        sample = ReplaySample(work.replay_x_ND, work.replay_y_N, logits_NK, work.replay_weight_N)
        bounds = np.linspace(0, len(work.replay_y_N), steps + 1).astype(int)
        return [sample.part(a, b) for a, b in pairwise(bounds)]

    # --- the optimizer follows the flat vector

    def _resize(self, outputs: int) -> None:
        old, moments = self._network.layout, self._optimizer_state()
        self._network.resize(outputs)
        self._start_optimizer({n: relaid(m, old, self._network.layout) if m.ndim else m for n, m in moments.items()})

    def _start_optimizer(self, moments: Mapping[str, np.ndarray]) -> None:
        self._optimizer = make_optimizer(self._optimizer_config, [self._network.flat])
        self._set_learning_rates(self._learning_rate_factor)
        scale_P = step_scales(self._optimizer_config, self._network.layout)
        self._scale_P = None if scale_P is None else torch.from_numpy(scale_P).to(self._device)
        if moments:
            state = {name: torch.from_numpy(np.array(value)) for name, value in moments.items()}
            groups = self._optimizer.state_dict()["param_groups"]
            self._optimizer.load_state_dict({"state": {0: state}, "param_groups": groups})  # puts each on its device

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
