"""Harm in one class that gains in the others would hide."""

from dataclasses import dataclass, field
from math import log

import numpy as np

from actors.learning.gate.config import GuardsConfig
from actors.learning.gate.e_process import EProcess
from actors.learning.part import Tree

OTHERS = -1  # rows of no class, and of classes that found no place


@dataclass(frozen=True, slots=True, eq=False)
class SliceHarm:
    """A test per slice of whether the candidate is worse there by more than the margin; together wrong in `slice_alpha`.

    It needs evidence of harm to object, not of harmlessness to agree: a class with few labels holds up nobody. A value: rows
    make another.
    """

    _guards: GuardsConfig
    _tests: dict[int, EProcess] = field(default_factory=dict)

    @property
    def log_limit(self) -> float:
        return log((self._guards.slices + 1) / self._guards.slice_alpha)

    def after(self, slice_N: np.ndarray, gain_N: np.ndarray) -> tuple["SliceHarm", np.ndarray]:
        """With N more rows of non-negative slices, or -1, and the logarithm of the evidence in each row's slice after it."""
        margin = self._guards.slice_margin
        harm_N = -(gain_N + margin) / (1.0 + margin)
        known = [code for code in self._tests if code != OTHERS]
        met, first = np.unique(slice_N, return_index=True)
        known += [code for code in met[np.argsort(first)].tolist() if code not in known and code != OTHERS]
        known = known[: self._guards.slices]
        group_N = np.where(np.isin(slice_N, known), slice_N, OTHERS)
        tests, log_e_N = dict(self._tests), np.empty(len(gain_N))
        for code in [*known, OTHERS]:
            is_in_N = group_N == code
            if is_in_N.any():
                tests[code], log_e_N[is_in_N] = tests.get(code, EProcess()).after(harm_N[is_in_N])
        return SliceHarm(self._guards, tests), log_e_N

    def to_state(self) -> Tree:
        return [[code, test.to_state()] for code, test in sorted(self._tests.items())]

    @classmethod
    def from_state(cls, guards: GuardsConfig, state: Tree) -> "SliceHarm":
        return cls(guards, {code: EProcess.from_state(test) for code, test in state})
