"""What each dimension of an encoded row is, so that whoever takes in rows knows which are numbers and which are ids.

Shapes: N rows, D encoded dimensions, C of them ids.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np

from actors.learning.running_stats import CLIP, RunningStats

IDS = 1 << 24  # a category's id is below it, so that float32 holds it exactly; 0: missing, or empty
BUCKETS = 32  # over which a category is spread where numbers are all that can be taken in


class InputKind(StrEnum):
    NUMBER = "number"
    CATEGORY = "category"  # the hashed id of a value
    TEXT = "text"  # what words and character n-grams hash to this bucket, signed


@dataclass(frozen=True)
class InputLayout:
    """The kinds of the D dimensions. Where a number is wanted, it is D."""

    kinds: tuple[InputKind, ...]

    @classmethod
    def of(cls, inputs: "int | InputLayout") -> "InputLayout":
        """An integer is the width of rows that hold numbers alone."""
        return inputs if isinstance(inputs, InputLayout) else cls((InputKind.NUMBER,) * inputs)

    @classmethod
    def of_parts(cls, parts: Iterable[tuple[InputKind, int]]) -> "InputLayout":
        """Kinds with their widths, one after another."""
        return cls(tuple(kind for kind, width in parts for _ in range(width)))

    def __index__(self) -> int:
        return len(self.kinds)

    __int__ = __index__

    @cached_property
    def category_C(self) -> np.ndarray:
        """Which dimensions are ids."""
        return np.array([d for d, kind in enumerate(self.kinds) if kind is InputKind.CATEGORY], np.int64)

    @cached_property
    def other_D(self) -> np.ndarray:
        """Which dimensions are none."""
        return np.array([d for d, kind in enumerate(self.kinds) if kind is not InputKind.CATEGORY], np.int64)

    @cached_property
    def clip_D(self) -> np.ndarray:
        """At how many deviations each dimension is clipped; an id at none."""
        return np.where([kind is InputKind.CATEGORY for kind in self.kinds], np.inf, CLIP)

    def statistics(self, x_ND: np.ndarray) -> RunningStats:
        """Of a batch; ids are counted, and have neither mean nor variance."""
        found = RunningStats.of(x_ND)
        if len(self.category_C):
            found.mean_D[self.category_C] = found.m2_D[self.category_C] = 0.0
        return found

    def standardised(self, x_ND: np.ndarray, stats: RunningStats) -> np.ndarray:
        """float32 [N, D] with `stats` of these inputs: numbers centred and scaled, ids as they are, a missing one 0."""
        return stats.standardise(x_ND, self.clip_D) if len(self.category_C) else stats.standardise(x_ND)

    def expanded_width(self) -> int:
        """Of a row of numbers alone, each id spread over `BUCKETS` of them."""
        return len(self.kinds) + len(self.category_C) * (BUCKETS - 1)
