"""Seeded streams made here, whose concept drifts at known rows.

A concept is a teacher: class = argmax of a mildly nonlinear function of the features, so that a linear model learns most
of it and a small network the rest. Row i depends on (seed, i) alone: rows are drawn in blocks of 1,024, each from a
generator of its own, and reading from any offset costs the same.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from actors.errors import ConfigError
from actors.learning.section import Section, setting
from actors.learning.task import TaskKind
from actors.sources.chunks import CHUNK_ROWS, SAMPLE_ROWS, paced, stop_after
from actors.sources.scenarios.scenario import ScenarioKind
from actors.sources.source import SourceChunk

if TYPE_CHECKING:  # StreamConfig contains SyntheticConfig
    from actors.sources.config import StreamConfig

_BLOCK_ROWS = 1024
_HIDDEN = 8  # width of the teacher's nonlinear part
_NONLINEAR = 0.7  # its weight beside the linear part
_SHIFT = 3.0  # virtual drift: how far the inputs move, in standard deviations
_REGIONS = 3  # virtual drift: at 0, +_SHIFT and -_SHIFT along one direction, in turn
_HAND_OVER = 0.25  # of drift_every_rows: how long gradual drift takes
_KEPT_TEACHERS = 4
_TEACHER_STREAM, _DIRECTION_STREAM = 0x7EAC, 0xD14E  # keep their random numbers apart from those of the rows


class DriftKind(StrEnum):
    ABRUPT = "abrupt"
    GRADUAL = "gradual"
    RECURRING = "recurring"
    NEW_CLASS = "new_class"
    VIRTUAL = "virtual"
    NONE = "none"


class SyntheticConfig(Section):
    scenario: ScenarioKind = setting(
        ScenarioKind.RULE,
        "`rule`: numbers whose class follows a rule that drifts; or an application's stream: `fraud` (card payments, 0.5 % of "
        "them fraud), `recommendation` (clicks), `chatbot` (messages; task.kind classification or feedback), `sensors` "
        "(task.kind: regression).",
    )
    drift: DriftKind = setting(
        DriftKind.ABRUPT,
        "Scenario `rule`: `abrupt`: a new rule at once; `gradual`: handed over bit by bit; `recurring`: two rules take turns; "
        "`new_class`: one more class at a time; `virtual`: the inputs move, the rule stays; `none`.",
    )
    drift_every_rows: int = setting(
        40_000, "Rows between two drifts; in an application's stream, between two changes of its world.", unit="rows", ge=100
    )
    rate_rows_per_s: float | None = setting(
        None, "Rows arrive no faster than this, as in a live stream; null: as fast as they are learned.", unit="rows/s", gt=0
    )
    classes: int = setting(2, "Scenario `rule`: classes in all.", ge=2, le=1000)
    features: int = setting(10, "Scenario `rule`: numeric features of a row.", ge=2, le=10_000)
    noise: float = setting(
        0.05,
        "Scenario `rule`: fraction of labels drawn at random; regression: noise in standard deviations.",
        ge=0,
        le=1,
    )


@dataclass(frozen=True, slots=True)
class _Teacher:
    """Scores of K outputs for D features: x W + 0.7 tanh(x V) U, with unit variance."""

    linear_DK: np.ndarray
    inner_DH: np.ndarray
    outer_HK: np.ndarray

    def scores(self, x_ND: np.ndarray) -> np.ndarray:
        hidden_NH = np.tanh(x_ND @ self.inner_DH)
        return np.asarray((x_ND @ self.linear_DK + _NONLINEAR * (hidden_NH @ self.outer_HK)) / np.sqrt(1 + _NONLINEAR**2))


class SyntheticSource:
    """One partition, `synthetic`, without an end unless `stream.rows` says so."""

    partition = "synthetic"

    def __init__(
        self, config: "StreamConfig", task_kind: TaskKind, seed: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._stream, self._made, self._task, self._seed = config, config.synthetic, task_kind, seed
        self._names = [f"x{i}" for i in range(self._made.features)]
        self._teachers: OrderedDict[int, _Teacher] = OrderedDict()
        if config.label in self._names:
            raise ConfigError(
                f"stream.label is {config.label!r}, which is a feature of the synthetic stream; call the label otherwise"
            )
        if self._made.drift is DriftKind.NEW_CLASS and (task_kind is TaskKind.REGRESSION or self._made.classes < 3):
            raise ConfigError(
                f"stream.synthetic.drift: new_class starts with 2 classes and adds one at a time, but task.kind is "
                f"{task_kind} and "
                f"stream.synthetic.classes is {self._made.classes}; set task.kind: classification and at least 3 classes"
            )

    def drift_rows(self, up_to: int) -> list[int]:
        """The rows before `up_to` at which a drift starts."""
        every = self._made.drift_every_rows
        if self._made.drift is DriftKind.NONE:
            return []
        if self._made.drift is DriftKind.NEW_CLASS:
            up_to = min(up_to, every * (self._made.classes - 2) + 1)
        return list(range(every, up_to, every))

    def sample(self) -> pa.Table:
        return self._table(0, min(SAMPLE_ROWS, self._stream.rows or SAMPLE_ROWS))

    def read(self, offsets: Mapping[str, int]) -> Iterator[SourceChunk | None]:
        chunks: Iterator[SourceChunk | None] = self._chunks(offsets.get(self.partition, 0))
        if self._made.rate_rows_per_s is not None:
            chunks = paced(chunks, self._made.rate_rows_per_s, self._clock)
        return stop_after(chunks, offsets, self._stream.rows)

    def _chunks(self, start: int) -> Iterator[SourceChunk]:
        while True:
            stop = (start // CHUNK_ROWS + 1) * CHUNK_ROWS
            yield SourceChunk(self.partition, start, stop, self._table(start, stop), np.arange(start, stop))
            start = stop

    def _table(self, start: int, stop: int) -> pa.Table:
        first = start // _BLOCK_ROWS
        blocks = [self._block(block) for block in range(first, -(-stop // _BLOCK_ROWS))]
        wanted = slice(start - first * _BLOCK_ROWS, stop - first * _BLOCK_ROWS)
        x_ND = np.concatenate([x for x, _ in blocks])[wanted]
        y_N = np.concatenate([y for _, y in blocks])[wanted]
        columns = [pa.array(np.ascontiguousarray(x_ND[:, i])) for i in range(x_ND.shape[1])]
        return pa.table([*columns, pa.array(y_N)], names=[*self._names, self._stream.label])

    def _block(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """x_ND float32 and y_N (int64 codes, or float64) of the rows from block * 1,024."""
        rng = np.random.default_rng([self._seed, block])
        row_N = np.arange(block * _BLOCK_ROWS, (block + 1) * _BLOCK_ROWS)
        x_ND = rng.standard_normal((_BLOCK_ROWS, self._made.features))
        hand_over_N, noisy_N, noise_N = rng.random((3, _BLOCK_ROWS))
        gauss_N = rng.standard_normal(_BLOCK_ROWS)
        concept_N = self._concepts(row_N, hand_over_N)
        y_N = np.empty(_BLOCK_ROWS, np.float64 if self._task is TaskKind.REGRESSION else np.int64)
        rule_N, seen_ND = concept_N, x_ND
        if self._made.drift is DriftKind.VIRTUAL:
            # The rule of a region is always the same, but it is met only once the inputs have moved there.
            direction_D = self._direction()
            x_ND += _SHIFT * np.array([0, 1, -1])[concept_N % _REGIONS, None] * direction_D
            region_N = np.clip(np.rint(x_ND @ direction_D / _SHIFT), -1, 1)
            rule_N, seen_ND = region_N.astype(np.int64) % _REGIONS, x_ND - _SHIFT * region_N[:, None] * direction_D
        elif self._made.drift is DriftKind.NEW_CLASS:
            rule_N = np.zeros_like(concept_N)
        for rule in np.unique(rule_N):
            rows = np.flatnonzero(rule_N == rule)
            y_N[rows] = self._labels(
                self._teacher(int(rule)).scores(seen_ND[rows]), concept_N[rows], noisy_N[rows], noise_N[rows]
            )
        if self._task is TaskKind.REGRESSION:
            return x_ND.astype(np.float32), y_N + self._made.noise * gauss_N
        return x_ND.astype(np.float32), y_N

    def _concepts(self, row_N: np.ndarray, hand_over_N: np.ndarray) -> np.ndarray:
        every, drift = self._made.drift_every_rows, self._made.drift
        concept_N, since_N = row_N // every, row_N % every
        if drift is DriftKind.NONE:
            return np.zeros_like(row_N)
        if drift is DriftKind.GRADUAL:
            still_old_N = hand_over_N >= since_N / (_HAND_OVER * every)
            return np.asarray(concept_N - (still_old_N & (concept_N > 0)))
        return np.asarray(concept_N % 2 if drift is DriftKind.RECURRING else concept_N)

    def _labels(self, scores_NK: np.ndarray, concept_N: np.ndarray, noisy_N: np.ndarray, noise_N: np.ndarray) -> np.ndarray:
        if self._task is TaskKind.REGRESSION:
            return np.asarray(scores_NK[:, 0])
        classes = self._made.classes
        visible_N = (
            np.minimum(2 + concept_N, classes) if self._made.drift is DriftKind.NEW_CLASS else np.full(len(concept_N), classes)
        )
        visible_scores_NK = np.where(np.arange(classes) < visible_N[:, None], scores_NK, -np.inf)
        random_N = (noise_N * visible_N).astype(np.int64)
        return np.asarray(np.where(noisy_N < self._made.noise, random_N, visible_scores_NK.argmax(axis=1)))

    def _direction(self) -> np.ndarray:
        """Where virtual drift moves the inputs: a unit vector [D]."""
        direction_D = np.random.default_rng([self._seed, 0, _DIRECTION_STREAM]).standard_normal(self._made.features)
        return np.asarray(direction_D / np.linalg.norm(direction_D))

    def _teacher(self, concept: int) -> _Teacher:
        """The teacher of a concept; only the last few are kept, for the stream has no end."""
        if concept not in self._teachers:
            rng = np.random.default_rng([self._seed, concept, _TEACHER_STREAM])
            d, k = self._made.features, self._made.classes
            linear_DK = rng.standard_normal((d, k))
            self._teachers[concept] = _Teacher(
                linear_DK / np.linalg.norm(linear_DK, axis=0),
                rng.standard_normal((d, _HIDDEN)) * (1.5 / np.sqrt(d)),
                rng.standard_normal((_HIDDEN, k)) / np.sqrt(0.5 * _HIDDEN),
            )
        self._teachers.move_to_end(concept)
        while len(self._teachers) > _KEPT_TEACHERS:
            self._teachers.popitem(last=False)
        return self._teachers[concept]
