"""What is compared in an example, and how it reads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.config import PerennialConfig
from examples.scores import Score


@dataclass(frozen=True, slots=True)
class Told:
    """What a model told of the rows of the stream, in their order: `prediction` as labels are written, None for nothing."""

    prediction: Sequence[Any]
    confidence_N: np.ndarray


@dataclass(frozen=True, slots=True)
class Study:
    """`told` turns predictions into what `score` takes; `truth` gives the other half, from the labels where it is None."""

    name: str
    title: str
    question: str
    axis: str
    score: Score
    told: Callable[[Told], np.ndarray]
    window_rows: int
    truth: Callable[[PerennialConfig, int], np.ndarray] | None = None  # of so many first rows
    higher_is_better: bool = True
    as_percent: bool = True

    def shown(self, score: float) -> str:
        return f"{100 * score:.1f} %" if self.as_percent else f"{score:.2f}"


@dataclass(frozen=True, slots=True)
class Curve:
    """A score of the last `window_rows` rows, at some rows of the stream."""

    row_W: np.ndarray
    value_W: np.ndarray


def curve(study: Study, told_N: np.ndarray, true_N: np.ndarray, first_row: int = 0) -> Curve:
    """One point for each quarter of a window; the first windows, from `first_row`, are shorter."""
    step = max(1, study.window_rows // 4)
    stops = np.arange(step, len(told_N) + 1, step)
    stops = stops[stops >= first_row + step]
    windows = [slice(max(first_row, stop - study.window_rows), stop) for stop in stops.tolist()]
    return Curve(stops, np.array([study.score(told_N[window], true_N[window]) for window in windows]))


def probability_of(positive: Any) -> Callable[[Told], np.ndarray]:
    """For two classes: how probable the model held `positive`, 0 where it told nothing."""

    def probability(told: Told) -> np.ndarray:
        is_positive_N = np.array([each == positive for each in told.prediction])
        is_nothing_N = np.array([each is None for each in told.prediction])
        return np.where(is_nothing_N, 0.0, np.where(is_positive_N, told.confidence_N, 1.0 - told.confidence_N))

    return probability


def as_told(told: Told) -> np.ndarray:
    return np.array(told.prediction)
