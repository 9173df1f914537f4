"""The two-speed mixture: networks that learn in steps of many rows, and experts that learn from every row as its label comes.

Everything that goes row by row (neighbours, linear heads, recency, forests, closed forms, mixture) is done for all rows of a
round, in their order, by every shard alike: their copies stay equal bit for bit, and any one of them is the version's. The
networks, which are the slow part, are learned by each shard on its own rows and averaged. So shards share the work without
taking turns in what depends on the order. docs/decisions/0009-ensemble.md tells how it came about.

Shapes: N rows to predict, T labelled rows, D features, E experts, K outputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from actors.learning.answer import Answer, before_labels, chosen, known_classes, outputs_of
from actors.learning.inputs import InputLayout
from actors.learning.labels import codes_of, label_dtype
from actors.learning.learner import Findings, LocalRound
from actors.learning.models.config import ModelConfig
from actors.learning.models.ensemble import analytic, lasting, mixture, pending, quantiles, recency, value_mixture
from actors.learning.models.ensemble import experts as ask
from actors.learning.models.ensemble.bodies import LASTING, RECENT, Bodies, stacks_of
from actors.learning.models.ensemble.evidence import Widening
from actors.learning.models.ensemble.experts import Experts, Rows
from actors.learning.models.ensemble.parts import (
    EMBEDDED_ROWS,
    KNOWN_ROUNDS,
    Parts,
    fresh,
    memory_rows,
    widened,
)
from actors.learning.models.ensemble.targets import CLASSES, SCORES, Targets, aim_of
from actors.learning.running_stats import RunningStats
from actors.learning.state import LocalChange, ModelState
from actors.learning.task import TaskConfig, TaskKind

_WIDEST_HATS = 64  # features; with more of them the networks see no hats
_STEP_ROWS = 32
_RECENT_ROWS = 1000
_REPLAYED = 4  # remembered rows for each new one, where no replay shard says how many
_REHEARSAL_SEED = 6
_REHEARSED_EVERY, _LEAST_REHEARSED = 8, 4  # rows
# Loops change these, or are to be given one kind of array: those of a version may be read-only.
_TAKEN_BY_COPY = ("heads.", "pairs.", "recency.", "forest.", "analytic.", "mixture.", "quantiles.", "evidence.")


class EnsembleReader:
    """Answers with one version after another."""

    def __init__(
        self,
        model: ModelConfig,
        task: TaskConfig,
        inputs: int | InputLayout,
        *,
        seed: int,
        initial: Mapping[str, np.ndarray] | None = None,
        device: str = "cpu",
    ) -> None:
        self._task, self._layout, self._aim = task, InputLayout.of(inputs), aim_of(task)
        self._widening = Widening(self._layout, self._aim)
        self._inputs = width = self._widening.width
        self._stacks = stacks_of(width, width * quantiles.HATS if width <= _WIDEST_HATS else None)
        self._memory_rows = memory_rows(width, model.memory_rows)
        self._embeddings = sum(len(stack.bodies) for stack in self._stacks)
        self._bodies = Bodies(self._stacks, self._aim, seed=seed, freeze=tuple(model.freeze), initial=initial, device=device)
        self._experts: Experts | None = None
        self.load(ModelState.empty(int(self._layout), 1 if task.kind is TaskKind.REGRESSION else 0))

    def load(self, state: ModelState) -> None:
        self._state, self._experts = state, None
        self._outputs = outputs_of(state, self._task)
        self._bodies.load(state.layout, state.flat_P, state.optimizer, self._outputs)

    def predict(self, x_ND: np.ndarray) -> Answer:
        """Answers for encoded rows, NaN where a value is missing."""
        known_K = self._known()
        if not self._state.experts or not known_K.any():
            if self._aim in (CLASSES, SCORES):
                return before_labels(len(x_ND), len(self._state.class_counts_K), self._task)
            return Answer(None, None, np.zeros(len(x_ND)))
        if self._experts is None:
            self._experts = self._experts_of(self._parts(), self._state.features, self._state.target)
        experts, none, upto_N = self._experts, Targets.none(), np.zeros(len(x_ND), np.int64)
        rows, no_rows = self._in_views(experts, x_ND, x_ND[:0], none, upto_N)
        said_NEK, _ = experts.said(rows, no_rows, none, upto_N, known_K)
        rarity_K, said = rarity(experts.parts), pending.nothing_said(said_NEK)
        readings = self._readings(experts.parts)
        p_NK, _ = self._mixed(experts.parts, said_NEK, said, none, upto_N, known_K, rarity_K, readings)
        return self._answer(p_NK, self._state.target)

    def _known(self) -> np.ndarray:
        """bool [K]: the outputs that may be answered with what the version has learned."""
        if self._aim not in (CLASSES, SCORES):
            return np.ones(1, bool)
        return known_classes(state_counts(self._state, self._outputs), self._task)

    def _parts(self) -> Parts:
        """The version's, as wide as its outputs."""
        if self._state.experts:
            parts = widened(self._state.experts, self._outputs)
            return {name: a.copy() if name.startswith(_TAKEN_BY_COPY) else a for name, a in parts.items()}
        label, experts = label_dtype(self._task.kind), ask.count(self._aim, self._embeddings, self._widening.has_pairs)
        return fresh(self._widening, self._outputs, self._embeddings, experts, label)

    def _experts_of(self, parts: Parts, features: RunningStats, target: RunningStats) -> Experts:
        memory = Targets.of(parts["memory.y"], self._task, target)
        return Experts(parts, self._bodies, self._stacks, self._widening, features, memory)

    def _in_views(
        self, experts: Experts, test_ND: np.ndarray, train_ND: np.ndarray, targets: Targets, upto_N: np.ndarray
    ) -> tuple[Rows, Rows]:
        """Encoded rows in the views of the experts; learns what the labels say of ids on the way."""
        test, train = self._widening.widened(experts.parts, test_ND, train_ND, targets, upto_N)
        rows = experts.views.rows(*test)
        return rows, rows if train is test else experts.views.rows(*train)

    @property
    def _has_readings(self) -> bool:
        """Mixtures of values read labels in one way only."""
        return self._aim in (CLASSES, SCORES)

    def _readings(self, parts: Parts) -> int:
        return mixture.readings(parts) if self._has_readings else 1

    def _mixed(
        self,
        parts: Parts,
        said_NEK: np.ndarray,
        said: pending.SaidOfLabelled,
        targets: Targets,
        upto_N: np.ndarray,
        known_K: np.ndarray,
        rarity_K: np.ndarray,
        readings: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """float32 [N, K], and what each mixture says, [N, V, Y, K]."""
        mixed_TVYK = np.ascontiguousarray(said.mixed_TVYK[:, :readings])
        mixed_NVYK = np.zeros((len(said_NEK), *mixed_TVYK.shape[1:3], len(known_K)), np.float32)
        if self._aim in (CLASSES, SCORES):
            p_NK = np.zeros((len(said_NEK), len(known_K)), np.float32)
            mixture.mix(
                self._aim, said_NEK, said.said_TEK, said.anew_TEK, said.is_judged_T, said.age_T, targets.code_T,
                targets.value_T, targets.weight_T, upto_N, known_K, parts["mixture.weights"], parts["mixture.squares"],
                parts["mixture.trust"], parts["mixture.lasting"], parts["mixture.second"], parts["mixture.standing"],
                parts["mixture.returns"], rarity_K, mixture.RATES_R, mixture.SHARES_Q, said.at_T, mixed_TVYK, mixed_NVYK, p_NK,
            )  # fmt: skip
            return p_NK, mixed_NVYK
        value_N = np.zeros(len(said_NEK), np.float32)
        value_mixture.mix_values(
            self._aim, np.ascontiguousarray(said_NEK[:, :, 0]), np.ascontiguousarray(said.said_TEK[:, :, 0]), said.is_judged_T,
            said.age_T, targets.value_T, upto_N, parts["mixture.weights"], parts["mixture.covariance"], parts["mixture.trust"],
            parts["mixture.second"], value_mixture.FORGETS_J, value_mixture.SHARES_Q, value_N,
        )  # fmt: skip
        return value_N[:, None], mixed_NVYK

    def _answer(self, p_NK: np.ndarray, target: RunningStats) -> Answer:
        if self._aim == CLASSES:
            is_known_N = p_NK.any(axis=1)
            before = before_labels(int((~is_known_N).sum()), p_NK.shape[1], self._task)
            assert before.code_N is not None
            code_N = p_NK.argmax(axis=1)
            code_N[~is_known_N], p_NK[~is_known_N] = before.code_N, before.probability_NK
            return Answer(code_N, p_NK, None)
        if self._aim == SCORES:
            return chosen(p_NK, self._task.exploration)
        return Answer(None, None, p_NK[:, 0].astype(np.float64) * target.scale_D[0] + target.mean_D[0])


class EnsembleLearner(EnsembleReader):
    """One shard's copy. `load` a version, do a `round`, take the `LocalChange`."""

    def __init__(
        self,
        model: ModelConfig,
        task: TaskConfig,
        inputs: int | InputLayout,
        *,
        seed: int,
        initial: Mapping[str, np.ndarray] | None = None,
        device: str = "cpu",
    ) -> None:
        self._seed = seed
        super().__init__(model, task, inputs, seed=seed, initial=initial, device=device)
        self._lasting = next(at for at, body in enumerate(self._stacks[0].bodies) if body.memory == LASTING)

    def load(self, state: ModelState) -> None:
        super().load(state)
        self._learned_parts: Mapping[str, np.ndarray] = state.experts
        self._features, self._target = RunningStats.empty(int(self._layout)), RunningStats.empty(len(state.target.count_D))
        self._class_increment_K = np.zeros(len(state.class_counts_K), np.int64)
        self._rows, self._loss_sum, self._loss_R = 0, 0.0, np.zeros(0, np.float32)

    def change(self, classes: tuple[Any, ...] = ()) -> LocalChange:
        """What has been learned since `load`; `classes[code]` names the classes, as far as labels are visible."""
        return LocalChange(
            layout=self._bodies.layout,
            flat_P=self._bodies.flat_P,
            optimizer=self._bodies.moments,
            buffers={},
            features=self._features,
            target=self._target,
            class_counts_K=self._class_increment_K,
            classes=classes[: len(self._class_increment_K)],
            rows=self._rows,
            mean_loss=self._loss_sum / self._rows if self._rows else float("nan"),
            experts=self._learned_parts,
        )

    def round(self, work: LocalRound) -> Answer:
        """Predicts every test row before its label has touched anything, and learns the train rows in their order.

        The answer is for the rows of `test_slices`; the networks learn those of `train_slices`.
        """
        state, y_T, rows = self._state, work.train_y_N, len(work.train_y_N)
        if self._aim in (CLASSES, SCORES):
            met = int(codes_of(y_T).max()) + 1 if rows else 0
            if met > self._outputs:
                self._outputs = met
                self._bodies.load(state.layout, state.flat_P, state.optimizer, met)
            if not self._outputs:
                return _of_slices(before_labels(len(work.test_x_ND), 0, self._task), work.test_slices)
        upto_N, age_T = pending.schedule(work.test_row_N, work.train_row_N, work.label_delay_rows)
        features = state.features if state.features.count_D.any() or not rows else self._layout.statistics(work.train_x_ND)
        is_first_value = bool(len(state.target.count_D)) and not state.target.count_D.any()
        target = RunningStats.of(y_T[:, None]) if is_first_value and rows else state.target
        known_K = self._known()
        parts = self._parts()
        experts, targets = self._experts_of(parts, features, target), Targets.of(y_T, self._task, target)
        test, train = self._in_views(experts, work.test_x_ND, work.train_x_ND, targets, upto_N)
        rarity_K = rarity(parts)
        are_late = self._has_readings and pending.are_late(work, age_T)
        readings = mixture.READINGS if are_late else self._readings(parts)
        if are_late:
            asked = pending.asked(test, train, upto_N)
            said_AEK, embedding_TBU = experts.said(asked.rows, train, targets, asked.upto_A, known_K)
            said_NEK, anew_TEK = said_AEK[asked.test_N], said_AEK[asked.train_T]
        else:
            said_NEK, embedding_TBU = experts.said(test, train, targets, upto_N, known_K)
            anew_TEK = None
        said = pending.said_of_labelled(parts, said_NEK, anew_TEK, age_T, work)
        p_NK, mixed_NVYK = self._mixed(parts, said_NEK, said, targets, upto_N, known_K, rarity_K, readings)
        # Before there is a version, nobody knows what values look like: the answer is the mean of those that have come.
        answer = Answer(None, None, _running_mean(y_T, upto_N)) if is_first_value else self._answer(p_NK, target)
        if rows:
            pending.keep(parts, said_NEK, mixed_NVYK, work)
            self._rehearse(experts, rarity_K, train, readings, work)
            if readings == 1 and self._has_readings:
                mixture.keep_alike(parts)
            self._remember(experts, train, targets, embedding_TBU, work)
            self._learn_slowly(experts, train, targets, work)
            self._learned_parts = parts
        return _of_slices(answer, work.test_slices)

    def findings(self) -> Findings:
        """The losses of the round's replayed rows. A mixture has no outputs that could be told of rows."""
        return Findings(self._loss_R, np.zeros(0, np.int64), np.zeros((0, 0), np.float32))

    def train(self, x_ND: np.ndarray, y_N: np.ndarray) -> None:
        """Labelled rows without predicting any."""
        row_N, all_rows = np.arange(len(y_N)), ((0, len(y_N)),)
        self.round(LocalRound(row_N[:0], x_ND[:0], row_N, x_ND, y_N, (), all_rows, 0))

    # --- learning

    def _rehearse(self, experts: Experts, rarity_K: np.ndarray, train: Rows, readings: int, work: LocalRound) -> None:
        """The lasting mixture, on rows of classes that may not have come for long; then the memory takes this round's."""
        if self._aim != CLASSES:
            return
        p, rng = experts.parts, np.random.default_rng([_REHEARSAL_SEED, int(work.train_row_N[-1])])
        x_RV, code_R = lasting.sample(p, max(_LEAST_REHEARSED, len(work.train_y_N) // _REHEARSED_EVERY), rng)
        known_K = self._known()
        if len(code_R):
            none, upto_R = Targets.none(), np.zeros(len(code_R), np.int64)
            x_RW, id_RC = x_RV[:, : self._inputs], x_RV[:, self._inputs :].astype(np.int64)
            rows, no_rows = experts.views.rows(x_RW, id_RC), experts.views.rows(x_RW[:0], id_RC[:0])
            said_REK, _ = experts.said(rows, no_rows, none, upto_R, known_K)
            mixture.rehearse(
                said_REK, code_R, known_K, p["mixture.weights"][:readings], p["mixture.trust"], p["mixture.lasting"],
                p["mixture.second"][:readings], rarity_K, ask.lasting(self._aim, self._embeddings, self._widening.has_pairs),
            )  # fmt: skip
        room = min(lasting.ROWS, self._memory_rows)
        x_TV = np.concatenate([train.x_ND, train.id_NC.astype(np.float32)], axis=1)
        lasting.add(p, x_TV, np.array(codes_of(work.train_y_N)), room, rng)

    def _remember(self, experts: Experts, train: Rows, targets: Targets, embedding_TBU: np.ndarray, work: LocalRound) -> None:
        """The memory, the edges, the forests and the closed forms after these rows."""
        parts, before = experts.parts, self._state.rows
        after, room = before + len(targets), self._memory_rows
        key = work.train_row_N[-1:]
        parts["rounds"] = np.concatenate([parts["rounds"], key])[-KNOWN_ROUNDS:]
        for name, new in (("x", train.x_ND), ("y", work.train_y_N), ("row", work.train_row_N)):
            parts[f"memory.{name}"] = np.concatenate([parts[f"memory.{name}"], new])[-room:]
        remembered = np.concatenate([parts["memory.embedding"], embedding_TBU])[-min(room, EMBEDDED_ROWS) :]
        parts["memory.embedding"] = remembered
        x_MD = parts["memory.x"]
        if "quantiles.hats" not in parts and after >= quantiles.FIT_ROWS:
            parts["quantiles.hats"] = self._widening.edges(quantiles.edges_of(x_MD, quantiles.HAT_EDGES))
        if self._aim == SCORES:
            return
        if quantiles.is_due(before, after):
            parts["quantiles.codes"] = self._widening.edges(quantiles.edges_of(x_MD, quantiles.CODE_EDGES + 2)[:, 1:-1].copy())
        analytic.learn(parts, self._aim, experts.analytic_features(train), targets, before, after)

    def _learn_slowly(self, experts: Experts, train: Rows, targets: Targets, work: LocalRound) -> None:
        """The networks, on this shard's rows of the round, and the increments of the statistics."""
        own_M = np.concatenate([np.arange(a, b) for a, b in work.train_slices] or [np.zeros(0, np.int64)])
        self._features, self._rows = self._layout.statistics(work.train_x_ND[own_M]), len(own_M)
        if self._aim in (CLASSES, SCORES):
            self._class_increment_K = np.bincount(targets.code_T[own_M], minlength=self._outputs)
        else:
            self._target = RunningStats.of(work.train_y_N[own_M][:, None])
        if not len(own_M):
            return
        known_K = np.ones(self._outputs, bool)
        if self._aim == CLASSES:
            known_K = state_counts(self._state, self._outputs) + np.bincount(targets.code_T, minlength=self._outputs) > 0
        views, old = experts.views, experts.memory
        rng = np.random.default_rng([self._seed, int(work.train_row_N[own_M[0]])])
        replayed_x_RD, replayed_R = self._replayed(work, views, experts)
        steps = max(1, min(round(len(targets) / _STEP_ROWS), len(own_M)))
        share = len(replayed_R) / len(own_M) if len(replayed_R) else float(_REPLAYED if len(old) else 0)
        bounds = np.linspace(0, len(own_M), steps + 1).astype(int)
        recent_x_MD = self._state.experts["memory.x"][-_RECENT_ROWS:] if self._state.experts else train.x_ND[:0]
        recent_z_MD, from_M = views.standardised(recent_x_MD), len(old) - len(recent_x_MD)
        losses, replayed_losses = [], [np.zeros(0, np.float32)]
        for start, stop in pairwise(bounds):
            new_N = own_M[start:stop]
            low, high = round(start * share), round(stop * share)
            recent_N = rng.integers(len(recent_x_MD), size=high - low) if len(recent_x_MD) else np.zeros(0, np.int64)
            mixed = {RECENT: targets.at(new_N).joined(old.at(from_M + recent_N))}
            z = {RECENT: np.concatenate([train.z_ND[new_N], recent_z_MD[recent_N]])}
            if len(replayed_R):
                mixed[LASTING] = targets.at(new_N).joined(replayed_R.at(np.arange(low, high)))
                z[LASTING] = np.concatenate([train.z_ND[new_N], replayed_x_RD[low:high]])
                if not len(recent_x_MD):
                    mixed[RECENT], z[RECENT] = mixed[LASTING], z[LASTING]
            inputs = {}
            for stack in self._stacks:
                seen = [body.memory if body.memory in mixed else RECENT for body in stack.bodies]
                if stack.name == "hats":
                    if views.hat_edges_DB is None:
                        continue
                    x_SND = views.hats(np.concatenate([train.x_ND[new_N], recent_x_MD[recent_N]]))[None]
                else:
                    x_SND = np.stack([z[memory] for memory in seen])
                inputs[stack.name] = (x_SND, [mixed[memory] for memory in seen])
            loss_SN = self._bodies.step(inputs, known_K, work.learning_rate_factor)
            losses.append(loss_SN[0].mean())
            if LASTING in mixed:
                replayed_losses.append(loss_SN[self._lasting, len(new_N) :])
        self._loss_sum, self._loss_R = float(np.mean(losses)) * self._rows, np.concatenate(replayed_losses)

    def _replayed(self, work: LocalRound, views: ask.Views, experts: Experts) -> tuple[np.ndarray, Targets]:
        """Standardised rows that the replay shards gave, and their labels."""
        if work.replay_x_ND is None or work.replay_y_N is None or not len(work.replay_y_N):
            return np.zeros((0, self._inputs), np.float32), Targets.none()
        targets = Targets.of(work.replay_y_N, self._task, self._state.target)
        if work.replay_weight_N is not None:
            targets = replace(targets, weight_T=targets.weight_T * work.replay_weight_N)
        none, upto_R = Targets.none(), np.zeros(len(targets), np.int64)
        replayed, _ = self._widening.widened(experts.parts, work.replay_x_ND, work.replay_x_ND[:0], none, upto_R)
        return views.standardised(replayed.x_NW), targets


def state_counts(state: ModelState, outputs: int) -> np.ndarray:
    """int64 [K]"""
    counts_K = np.zeros(max(outputs, len(state.class_counts_K)), np.int64)
    counts_K[: len(state.class_counts_K)] = state.class_counts_K
    return counts_K


def rarity(parts: Parts) -> np.ndarray:
    """float32 [K]: how large each class's share of the latest rows is beside its share of all; 1 for one that never came."""
    recent_K, ever_K = parts["recency.sums"][recency.RECENT], parts["recency.sums"][recency.EVER]
    share_K, usual_K = recent_K / max(recent_K.sum(), 1e-9), ever_K / max(ever_K.sum(), 1e-9)
    return np.where(ever_K > 0, share_K / np.maximum(usual_K, 1e-9), 1.0).astype(np.float32)


def _running_mean(y_T: np.ndarray, upto_N: np.ndarray) -> np.ndarray:
    sums_T = np.concatenate([[0.0], np.cumsum(y_T)])
    return np.asarray(sums_T[upto_N] / np.maximum(upto_N, 1))


def _of_slices(answer: Answer, slices: Sequence[tuple[int, int]]) -> Answer:
    at_N = np.concatenate([np.arange(a, b) for a, b in slices] or [np.zeros(0, np.int64)])
    return Answer(*(None if part is None else part[at_N] for part in (answer.code_N, answer.probability_NK, answer.value_N)))
