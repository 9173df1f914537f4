"""A test that may be looked at after every row: is the mean gain above zero?

Capital that starts at 1 passes 1/alpha, ever, with a chance of at most alpha where the mean gain is at most zero (Ville's
inequality; Ramdas, Gruenwald, Vovk and Shafer, "Game-Theoretic Statistics and Safe Anytime-Valid Inference", Statistical
Science 38, 2023).
"""

from dataclasses import dataclass, field

import numpy as np

from actors.learning.gate.bets import BET_K, log_capital, log_mean
from actors.learning.part import Tree


@dataclass(frozen=True, slots=True, eq=False)
class EProcess:
    """A value: rows make another. Needs the same memory after any number of rows."""

    _log_capital_K: np.ndarray = field(default_factory=lambda: np.zeros(len(BET_K)))

    @property
    def log_e(self) -> float:
        return float(log_mean(self._log_capital_K[:, None])[0])

    def after(self, gain_N: np.ndarray) -> tuple["EProcess", np.ndarray]:
        """With N more rows, and the logarithm of the e-value after each of them. Gains are from -1 to 1."""
        capital_KN = log_capital(self._log_capital_K, gain_N)
        return EProcess(capital_KN[:, -1].copy()), log_mean(capital_KN[:, 1:])

    def to_state(self) -> Tree:
        return {"log_capital": self._log_capital_K}

    @classmethod
    def from_state(cls, state: Tree) -> "EProcess":
        return cls(state["log_capital"])
