"""The latest rows: a ring."""

import numpy as np

from actors.learning.experience.part import ShardPart
from actors.learning.part import Tree


class Latest:
    """Row n of all goes to slot n modulo the capacity of all shards together, so that they hold the latest rows exactly."""

    def __init__(self, capacity: int, part: ShardPart) -> None:
        self._capacity, self._part = capacity, part
        self._next = 0

    def place(self, code_N: np.ndarray) -> np.ndarray:
        number_N = np.arange(self._next, self._next + len(code_N))
        self._next += len(code_N)
        slots_N = number_N % self._capacity
        slots_N[: max(0, len(code_N) - self._capacity)] = -1
        return self._part.local(slots_N)

    def resettle(self, code_N: np.ndarray, before: Tree) -> np.ndarray:
        return self.place(code_N)

    def settle(self, held: int, code_N: np.ndarray, state: Tree) -> None:
        self._next = state["next"]

    def to_state(self) -> Tree:
        return {"next": self._next}
