"""An alarm for the moment since when the mean gain is above zero.

At every row a new gambler joins with a capital of 1; the detector is what all of them own together (Shiryaev-Roberts
e-detector: Shin, Ramdas and Rinaldo, "E-detectors: a Nonparametric Framework for Sequential Change Detection", New England
Journal of Statistics in Data Science, 2023). Where no mean gain is above zero it is n in expectation after n rows, at
most. Hence an alarm at A comes after A rows or more in the mean, and within n rows with a chance of at most n/A.
"""

from dataclasses import dataclass, field

import numpy as np

from actors.learning.gate.bets import BET_K, log_capital, log_mean
from actors.learning.part import Tree


@dataclass(frozen=True, slots=True, eq=False)
class EDetector:
    """A value: rows make another. Needs the same memory after any number of rows.

    Who joined before row j owns, after row n, the product of the growths from j to n: the capital C_n of a gambler who has
    been there from the beginning, by C_(j-1). So two running sums are enough: log C, and log of the sum of 1/C.
    """

    _log_capital_K: np.ndarray = field(default_factory=lambda: np.zeros(len(BET_K)))
    _log_joined_K: np.ndarray = field(default_factory=lambda: np.full(len(BET_K), -np.inf))

    @property
    def log_e(self) -> float:
        return float(log_mean((self._log_capital_K + self._log_joined_K)[:, None])[0])

    def after(self, gain_N: np.ndarray) -> tuple["EDetector", np.ndarray]:
        """With N more rows, and the logarithm of the detector after each of them. Gains are from -1 to 1."""
        capital_KN = log_capital(self._log_capital_K, gain_N)
        joining_KN = np.concatenate([self._log_joined_K[:, None], -capital_KN[:, :-1]], axis=1)
        joined_KN = np.logaddexp.accumulate(joining_KN, axis=1)
        detector = EDetector(capital_KN[:, -1].copy(), joined_KN[:, -1].copy())
        return detector, log_mean(capital_KN[:, 1:] + joined_KN[:, 1:])

    def to_state(self) -> Tree:
        return {"log_capital": self._log_capital_K, "log_joined": self._log_joined_K}

    @classmethod
    def from_state(cls, state: Tree) -> "EDetector":
        return cls(state["log_capital"], state["log_joined"])
