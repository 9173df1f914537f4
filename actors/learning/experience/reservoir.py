"""A uniform sample of every row there ever was.

Vitter (1985), "Random sampling with a reservoir", algorithm R. Shards decide each row together, with one generator in the same
state in all of them, so what they hold is one reservoir, however the stream is spread over them.
"""

import numpy as np

from actors.learning.experience.part import ShardPart
from actors.learning.part import Tree


class Reservoir:
    """While there is room, a row is kept with probability `rate`: 1 unless the memory has been given more room meanwhile.

    Then the rows it held were a sample at that rate, and only rows kept at the same rate leave it a uniform one.
    """

    def __init__(self, capacity: int, part: ShardPart, rng: np.random.Generator) -> None:
        self._capacity, self._part, self._rng = capacity, part, rng
        self._seen, self._held, self._rate = 0, 0, 1.0  # of all shards together

    def place(self, code_N: np.ndarray) -> np.ndarray:
        rows = len(code_N)
        slots_N = np.full(rows, -1, np.int64)
        filling = 0
        if self._held < self._capacity:
            kept_N = np.ones(rows, bool) if self._rate >= 1.0 else self._rng.random(rows) < self._rate
            place_N = self._held + np.cumsum(kept_N) - 1
            filling = int(np.searchsorted(place_N, self._capacity))
            slots_N[:filling] = np.where(kept_N[:filling], place_N[:filling], -1)
            self._held += int(kept_N[:filling].sum())
        number_N = np.arange(self._seen + filling, self._seen + rows)
        drawn_N = self._rng.integers(number_N + 1)  # row number n replaces another with probability C / (n + 1)
        slots_N[filling:] = np.where(drawn_N < self._capacity, drawn_N, -1)
        self._seen += rows
        return self._part.local(slots_N)

    def resettle(self, code_N: np.ndarray, before: Tree) -> np.ndarray:
        rows = len(code_N)
        if "rate" not in before:  # a memory of another strategy: no sample of anything
            return self.place(code_N)
        self._seen, self._held = before["seen"], min(rows, self._capacity)
        slots_N = np.full(rows, -1, np.int64)
        slots_N[np.sort(self._rng.choice(rows, self._held, replace=False))] = np.arange(self._held)
        self._rate = min(1.0, self._held / self._seen) if self._seen else 1.0
        return self._part.local(slots_N)

    def settle(self, held: int, code_N: np.ndarray, state: Tree) -> None:
        self._seen, self._held, self._rate = state["seen"], state["held"], state["rate"]

    def to_state(self) -> Tree:
        return {"seen": self._seen, "held": self._held, "rate": self._rate}
