"""Where a memory puts the rows that it is offered: the rule that decides what is kept."""

from typing import Protocol

import numpy as np

from actors.learning.part import Tree


class Placement(Protocol):
    """Every shard's placement is offered every row and decides alike; each tells its own part.

    What is drawn for a decision of all shards comes from a generator that all of them have in the same state.
    """

    def place(self, code_N: np.ndarray) -> np.ndarray:
        """The slot of this shard for each of the next rows, int64 [N]; -1 where a row is not kept here.

        Where a slot is named twice the later row stays.
        """

    def resettle(self, code_N: np.ndarray, before: Tree) -> np.ndarray:
        """Takes the rows of a memory of another size, oldest first, into an empty one; their slots, as `place`.

        `before` is the state of a placement of that memory.
        """

    def settle(self, held: int, code_N: np.ndarray, state: Tree) -> None:
        """Goes on exactly where `state` was taken, with rows of `code_N` in the first `held` slots of this shard."""

    def to_state(self) -> Tree: ...


def numbered(code_N: np.ndarray, before_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many rows of its class came before each row, [N], and how many there are then of each class, [K].

    `before_K` counts those before the first row.
    """
    counts_K = np.bincount(code_N, minlength=len(before_K))
    start_K = np.cumsum(counts_K) - counts_K
    order_N = np.argsort(code_N, kind="stable")
    known_K = np.zeros(len(counts_K), np.int64)
    known_K[: len(before_K)] = before_K
    number_N = np.empty(len(code_N), np.int64)
    number_N[order_N] = np.arange(len(code_N)) - start_K[code_N[order_N]] + known_K[code_N[order_N]]
    return number_N, known_K + counts_K
