"""Equal room for every class, and within a class a uniform sample of its rows.

Chrysakis and Moens (2020), "Online continual learning from imbalanced data", class-balancing reservoir sampling, section 3.2:
a class that has fewer rows than its share leaves the rest to the others. Here a block of rows at a time.
Shapes: N rows, K classes, C slots.
"""

import numpy as np

from actors.learning.experience.part import ShardPart
from actors.learning.experience.placement import numbered
from actors.learning.part import Tree

_DRAWS = 16  # of slots at random, before all of them are looked through
_MOST_COUNTED = 10**9 - 1  # the largest number that numpy's hypergeometric draw takes


def shares(offered_K: np.ndarray, capacity: int) -> np.ndarray:
    """How many rows of each class fit, int64 [K]: all where there is room, otherwise as evenly as what is offered allows."""
    if int(offered_K.sum()) <= capacity:
        return offered_K
    ascending_K = np.sort(offered_K)
    left = capacity - (np.cumsum(ascending_K) - ascending_K)  # for those from here on, if all smaller ones get all
    level_K = left // np.arange(len(offered_K), 0, -1)
    level = int(level_K[np.argmax(ascending_K > level_K)])
    shares_K: np.ndarray = np.minimum(offered_K, level)
    more_K = np.flatnonzero(offered_K > level)[: capacity - int(shares_K.sum())]
    shares_K[more_K] += 1
    return shares_K


class ClassBalance:
    """The i-th row of a class goes to the shards in turn, so that all of them get the same of each; the rest is each one's own.

    Which rows give way is found by drawing slots until enough are of the right class: a class that has to give way is a
    large one, so that takes about as many draws as there are classes, whatever the memory holds.
    """

    def __init__(self, capacity: int, part: ShardPart, rng: np.random.Generator) -> None:
        """`rng` is this shard's own."""
        self._capacity, self._part, self._rng = part.capacity(capacity), part, rng
        self._seen_K = np.zeros(0, np.int64)  # rows of each class, of all shards together
        self._held_K = np.zeros(0, np.int64)
        self._code_C = np.zeros(0, np.int32)
        self._held = 0

    def place(self, code_N: np.ndarray) -> np.ndarray:
        before_K, slots_N = self._seen_K, np.full(len(code_N), -1, np.int64)
        number_N, self._seen_K = numbered(code_N, before_K)
        classes = len(self._seen_K)
        mine_N = np.flatnonzero((number_N + code_N) % self._part.shards == self._part.shard)
        mine_code_N = code_N[mine_N]
        self._held_K = np.pad(self._held_K, (0, classes - len(self._held_K)))
        passed_K = self._passed(np.pad(before_K, (0, classes - len(before_K))))
        offered_K = np.bincount(mine_code_N, minlength=classes)
        share_K = shares(self._held_K + offered_K, self._capacity)
        taken_K = self._taken(share_K, offered_K, passed_K)
        freed_N = self._give_way(self._held_K + taken_K - share_K)
        self._held_K = share_K
        chosen_N = self._chosen(mine_code_N, offered_K, taken_K)
        fresh = len(chosen_N) - len(freed_N)
        free_N = np.concatenate([freed_N, np.arange(self._held, self._held + fresh)])
        self._held += fresh
        if self._held > len(self._code_C):
            self._code_C = np.pad(self._code_C, (0, min(self._capacity, 2 * self._held) - len(self._code_C)))
        slots_N[mine_N[chosen_N]] = free_N
        self._code_C[free_N] = mine_code_N[chosen_N]
        return slots_N

    def resettle(self, code_N: np.ndarray, before: Tree) -> np.ndarray:
        slots_N = self.place(code_N)
        if "seen_by_class" in before:
            known_K = before["seen_by_class"]
            classes = max(len(known_K), len(self._seen_K))
            self._seen_K, known_K = (np.pad(each_K, (0, classes - len(each_K))) for each_K in (self._seen_K, known_K))
            self._seen_K = np.maximum(self._seen_K, known_K)
        return slots_N

    def settle(self, held: int, code_N: np.ndarray, state: Tree) -> None:
        self._seen_K, self._held = state["seen_by_class"], held
        self._code_C = code_N[:held].astype(np.int32)
        self._held_K = np.bincount(self._code_C, minlength=len(self._seen_K))

    def to_state(self) -> Tree:
        return {"seen_by_class": self._seen_K}

    def _passed(self, seen_K: np.ndarray) -> np.ndarray:
        """How many of each class have come to this shard."""
        first_K = (self._part.shard - np.arange(len(seen_K))) % self._part.shards
        passed_K = np.maximum(0, (seen_K - first_K + self._part.shards - 1) // self._part.shards)
        return np.minimum(passed_K, _MOST_COUNTED)

    def _taken(self, share_K: np.ndarray, offered_K: np.ndarray, passed_K: np.ndarray) -> np.ndarray:
        """How many of the new rows are in a uniform sample, of the size of its share, of a class's rows so far."""
        drawn_K = self._rng.hypergeometric(offered_K, passed_K, np.minimum(share_K, offered_K + passed_K))
        fewest_K = np.maximum(0, share_K - self._held_K)
        return np.clip(drawn_K, fewest_K, np.minimum(offered_K, share_K))

    def _give_way(self, surplus_K: np.ndarray) -> np.ndarray:
        """Slots of so many rows of each class, at random."""
        freed = [np.zeros(0, np.int64)]
        wanted_K = surplus_K.copy()
        for _ in range(_DRAWS):
            if not wanted_K.any():
                break
            tries = int(np.ceil(2 * np.max(wanted_K / np.maximum(self._held_K, 1)) * self._held)) + 8
            slots_N = self._rng.integers(self._held, size=tries)
            _, first_N = np.unique(slots_N, return_index=True)
            slots_N = slots_N[np.sort(first_N)]
            slots_N = slots_N[self._code_C[slots_N] >= 0]
            code_N = self._code_C[slots_N]
            rank_N, _ = numbered(code_N, np.zeros(len(wanted_K), np.int64))
            found_N = slots_N[rank_N < wanted_K[code_N]]
            self._mark(found_N, freed, wanted_K)
        for code in np.flatnonzero(wanted_K):
            all_N = np.flatnonzero(self._code_C[: self._held] == code)
            self._mark(self._rng.choice(all_N, wanted_K[code], replace=False), freed, wanted_K)
        return np.concatenate(freed)

    def _mark(self, slots_N: np.ndarray, freed: list[np.ndarray], wanted_K: np.ndarray) -> None:
        wanted_K -= np.bincount(self._code_C[slots_N], minlength=len(wanted_K))
        self._code_C[slots_N] = -1
        freed.append(slots_N)

    def _chosen(self, code_N: np.ndarray, offered_K: np.ndarray, taken_K: np.ndarray) -> np.ndarray:
        """Which rows are the ones taken, ascending: so many of each class, at random."""
        if (taken_K == offered_K).all():
            return np.arange(len(code_N))
        order_N = self._rng.permutation(len(code_N))
        rank_N, _ = numbered(code_N[order_N], np.zeros(len(offered_K), np.int64))
        return np.sort(order_N[rank_N < taken_K[code_N[order_N]]])
