"""The same labelled rows, scored for two versions. Shapes: N rows."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class VersionScores:
    """`loss_N` is from 0 to 1 (`losses.py`). `output_N` is the number behind each answer, not finite where there is none."""

    version: int
    loss_N: np.ndarray
    output_N: np.ndarray

    @property
    def is_missing_N(self) -> np.ndarray:
        is_missing_N: np.ndarray = ~np.isfinite(self.output_N)
        return is_missing_N

    @property
    def charged_loss_N(self) -> np.ndarray:
        """Whoever gives no answer loses 1."""
        return np.where(self.is_missing_N, 1.0, self.loss_N)


@dataclass(frozen=True, slots=True, eq=False)
class PairedRows:
    """In the order in which their labels came. Raises ValueError where the columns do not fit together.

    `order` numbers the messages: one that is not above the last has been seen already. `label_N` is the label as a number,
    `slice_N` the class it counts for, or -1.
    """

    order: int
    label_N: np.ndarray
    slice_N: np.ndarray
    one: VersionScores
    other: VersionScores

    def __post_init__(self) -> None:
        if self.one.version == self.other.version:
            raise ValueError(f"version {self.one.version} cannot be compared with itself")
        rows = (len(self.label_N),)
        for scores in (self.one, self.other):
            if not rows == self.slice_N.shape == scores.loss_N.shape == scores.output_N.shape:
                raise ValueError(f"version {scores.version} is scored on other rows than the {rows[0]} that have labels")
            loss_N = scores.charged_loss_N
            if not ((loss_N >= 0) & (loss_N <= 1)).all():
                raise ValueError(f"version {scores.version} has losses outside 0 to 1, up to {loss_N.max()}; see losses.py")

    def __len__(self) -> int:
        return len(self.label_N)

    def oriented(self, candidate: int, incumbent: int) -> "PairedRows | None":
        """The same rows with `one` as the candidate; None where they are about other versions."""
        match self.one.version, self.other.version:
            case versions if versions == (candidate, incumbent):
                return self
            case versions if versions == (incumbent, candidate):
                return replace(self, one=self.other, other=self.one)
        return None

    def part(self, start: int, stop: int) -> "PairedRows":
        at = slice(start, stop)
        one, other = (
            VersionScores(scores.version, scores.loss_N[at], scores.output_N[at]) for scores in (self.one, self.other)
        )
        return PairedRows(self.order, self.label_N[at], self.slice_N[at], one, other)
