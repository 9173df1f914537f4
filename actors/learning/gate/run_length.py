"""For how many rows a signal has had one and the same value."""

from dataclasses import dataclass
from math import nan

import numpy as np

from actors.learning.part import Tree


@dataclass(frozen=True, slots=True)
class RunLength:
    """A value: rows make another. NaN is equal to nothing."""

    _value: float = nan
    _length: int = 0

    def after(self, value_N: np.ndarray) -> tuple["RunLength", np.ndarray]:
        """With N more rows, and the length of the run that each of them ends."""
        if len(value_N) == 0:
            return self, np.empty(0, np.int64)
        at_N = np.arange(len(value_N))
        is_same_N = value_N == np.append(self._value, value_N[:-1])
        start_N = np.maximum.accumulate(np.where(is_same_N, -self._length, at_N))
        length_N: np.ndarray = at_N - start_N + 1
        return RunLength(float(value_N[-1]), int(length_N[-1])), length_N

    def to_state(self) -> Tree:
        return [self._value, self._length]

    @classmethod
    def from_state(cls, state: Tree) -> "RunLength":
        return cls(*state)
