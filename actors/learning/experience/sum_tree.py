"""Weights of many slots, of which slots are drawn in proportion.

Schaul et al. (2016), "Prioritized experience replay", appendix B.2.1, with sixteen children to a node instead of two and three
levels below a flat top: every draw and change then touches a few cache lines, and a call is a fixed number of numpy's, whatever
the size. Shapes: C slots, R draws.
"""

import numpy as np

_CHILDREN = 16
_LEVELS = 3


class SumTree:
    """Weights start at zero. Sums are computed anew from what is below them, so that no error adds up."""

    def __init__(self, slots: int) -> None:
        room = -(-slots // _CHILDREN**_LEVELS) * _CHILDREN**_LEVELS
        self.weight_C = np.zeros(room, np.float32)
        self._sums = [np.zeros(room // _CHILDREN ** (level + 1)) for level in range(_LEVELS)]

    @staticmethod
    def bytes_per_slot() -> int:
        """Without the sums, a fifteenth at most of twice that."""
        return 5

    @property
    def total(self) -> float:
        return float(self._sums[-1].sum())

    def set(self, slots_N: np.ndarray, weights_N: np.ndarray) -> None:
        """Where a slot is named twice the later weight stays."""
        np.put(self.weight_C, slots_N, weights_N.astype(np.float32))
        below = self.weight_C
        for sums in self._sums:
            slots_N = slots_N // _CHILDREN
            np.put(sums, slots_N, _sums_of(below.reshape(-1, _CHILDREN).take(slots_N, axis=0)))
            below = sums

    def draw(self, points_R: np.ndarray) -> np.ndarray:
        """The slots that lie at `points_R` in [0, 1) of the total, each weight taking up its share."""
        upto = np.cumsum(self._sums[-1])
        left_R = points_R * upto[-1]
        at_R = np.minimum(np.searchsorted(upto, left_R, side="right"), len(upto) - 1)
        left_R = left_R - (upto[at_R] - self._sums[-1][at_R])
        for below in (*self._sums[-2::-1], self.weight_C):
            upto_RW = np.cumsum(below.reshape(-1, _CHILDREN).take(at_R, axis=0), axis=1, dtype=np.float64)
            child_R = (upto_RW[:, :-1] <= left_R[:, None]).sum(axis=1)
            rows_R = np.arange(len(at_R))
            left_R = left_R - np.where(child_R > 0, upto_RW[rows_R, child_R - 1], 0.0)
            at_R = at_R * _CHILDREN + child_R
        slots_R: np.ndarray = at_R
        return slots_R


def _sums_of(blocks_MW: np.ndarray) -> np.ndarray:
    sums_M: np.ndarray = blocks_MW.astype(np.float64).sum(axis=1)
    return sums_M
