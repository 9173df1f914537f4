"""Experience replay: a bounded memory of labelled rows to learn from again, against catastrophic forgetting.

Adding and sampling cost what the rows in hand cost, whatever the memory holds. Shapes: N rows, D encoded features,
C the capacity in rows.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from actors.learning.part import Tree
from actors.learning.section import Section, setting


class ReplayConfig(Section):
    shards: int = setting(1, "Replay shards; each holds its part of the capacity.", ge=1, le=1024)
    strategy: Literal["fifo", "reservoir"] = setting(
        "reservoir", "What is kept: the latest rows, or (`reservoir`) a uniform sample of all rows there ever were."
    )
    capacity_rows: int = setting(5000, "Rows kept, all shards together.", unit="rows", ge=1)
    capacity_bytes: int = setting(256_000_000, "Bytes kept, all shards together; the tighter bound holds.", unit="bytes", ge=1)
    ratio: float = setting(4.0, "Replayed rows per new row in each step; 0 turns replay off.", ge=0, le=64)

    def capacity_of_shard(self, shard: int) -> tuple[int, int]:
        """Rows and bytes for `shard`, the shards' shares adding up to the capacity."""
        rows, more = divmod(self.capacity_rows, self.shards)
        return max(1, rows + (shard < more)), max(1, self.capacity_bytes // self.shards)


class ReplayMemory:
    """Rows in one preallocated block, replaced in place.

    `fifo` overwrites the oldest. `reservoir` keeps every row seen so far with equal probability (Vitter 1985, "Random
    sampling with a reservoir", algorithm R). The block grows by doubling up to the capacity, so that a small stream
    does not pay for a large one.
    """

    def __init__(
        self, strategy: Literal["fifo", "reservoir"], capacity_rows: int, capacity_bytes: int, rng: np.random.Generator
    ) -> None:
        self._strategy, self._capacity_rows, self._capacity_bytes, self._rng = strategy, capacity_rows, capacity_bytes, rng
        self._capacity = capacity_rows
        self._x_CD = np.zeros((0, 0), np.float32)
        self._y_C = np.zeros(0, np.int64)
        self._changed_C = np.zeros(0, bool)  # since the last `to_state`
        self._held = 0
        self._seen = 0

    def add(self, x_ND: np.ndarray, y_N: np.ndarray) -> None:
        """Takes copies of the rows. Raises ValueError where one row alone exceeds `capacity_bytes`."""
        if not len(y_N):
            return
        if not len(self._y_C):
            self._start(x_ND, y_N)
        slots_N = self._slots(len(y_N))
        kept_N = slots_N >= 0
        if not kept_N.any():
            return
        slots_N, x_ND, y_N = slots_N[kept_N], x_ND[kept_N], y_N[kept_N]
        self._grow_to(int(slots_N.max()) + 1)
        self._x_CD[slots_N] = x_ND  # where a slot is named twice numpy keeps the last, as one by one would
        self._y_C[slots_N] = y_N
        self._changed_C[slots_N] = True
        self._held = max(self._held, int(slots_N.max()) + 1)

    def sample(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """`rows` rows drawn uniformly with replacement, [rows, D] and [rows]; none while the memory is empty."""
        if not self._held or rows <= 0:
            return self._x_CD[:0].copy(), self._y_C[:0].copy()
        at_N = self._rng.integers(self._held, size=rows)
        return self._x_CD[at_N], self._y_C[at_N]

    def __len__(self) -> int:
        return self._held

    @property
    def seen(self) -> int:
        """Rows ever offered."""
        return self._seen

    @property
    def nbytes(self) -> int:
        """Bytes of the block, the room not yet used included."""
        return self._x_CD.nbytes + self._y_C.nbytes

    def to_state(self, *, whole: bool) -> Tree:
        """The rows, or only those that have changed since the last call; and all else that is needed to go on exactly here."""
        slots_N = np.arange(self._held) if whole else np.flatnonzero(self._changed_C[: self._held])
        self._changed_C[:] = False
        return {
            "slots": slots_N,
            "x": self._x_CD[slots_N],
            "y": self._y_C[slots_N],
            "capacity": self._capacity,
            "held": self._held,
            "seen": self._seen,
            "rng": self._rng.bit_generator.state,
        }

    def restore(self, states: Sequence[Tree]) -> None:
        """Goes on where the last of `states` was taken: a whole one and the changes since, in order.

        Where the capacity has changed meanwhile, the rows are offered again, one after another.
        """
        latest = states[-1]
        whole = next((state for state in states if state["held"]), None)
        self._rng.bit_generator.state, self._seen, self._held = latest["rng"], latest["seen"], 0
        if whole is None:
            return
        x_CD = np.zeros((latest["held"], whole["x"].shape[1]), np.float32)
        y_C = np.zeros(latest["held"], whole["y"].dtype)
        for state in states:
            if state["held"]:
                x_CD[state["slots"]], y_C[state["slots"]] = state["x"], state["y"]
        self._start(x_CD, y_C)
        if self._capacity == latest["capacity"]:
            self._grow_to(len(y_C))
            self._x_CD[: len(y_C)], self._y_C[: len(y_C)], self._held = x_CD, y_C, len(y_C)
        else:
            self._seen = 0
            self.add(x_CD, y_C)
        self._changed_C[:] = False

    def _start(self, x_ND: np.ndarray, y_N: np.ndarray) -> None:
        row_bytes = x_ND.shape[1] * 4 + y_N.itemsize
        self._capacity = min(self._capacity_rows, self._capacity_bytes // row_bytes)
        if self._capacity < 1:
            raise ValueError(
                f"replay.capacity_bytes leaves {self._capacity_bytes} bytes for this shard, one row takes {row_bytes}: "
                "raise it, or set replay.ratio to 0"
            )
        self._x_CD = np.zeros((0, x_ND.shape[1]), np.float32)
        self._y_C = np.zeros(0, y_N.dtype)
        self._changed_C = np.zeros(0, bool)

    def _slots(self, rows: int) -> np.ndarray:
        """Where each of the next `rows` rows goes; -1 where it is not kept."""
        number_N = np.arange(self._seen, self._seen + rows)
        self._seen += rows
        if self._strategy == "fifo":
            slots_N = number_N % self._capacity
            slots_N[: max(0, rows - self._capacity)] = -1
            return slots_N
        drawn_N = self._rng.integers(number_N + 1)  # row number n is kept with probability C / (n + 1)
        return np.where(number_N < self._capacity, number_N, np.where(drawn_N < self._capacity, drawn_N, -1))

    def _grow_to(self, rows: int) -> None:
        room = len(self._y_C)
        if rows <= room:
            return
        room = min(self._capacity, max(rows, 2 * room, 1024))
        x_CD, y_C = np.zeros((room, self._x_CD.shape[1]), np.float32), np.zeros(room, self._y_C.dtype)
        x_CD[: self._held], y_C[: self._held] = self._x_CD[: self._held], self._y_C[: self._held]
        changed_C = np.zeros(room, bool)
        changed_C[: self._held] = self._changed_C[: self._held]
        self._x_CD, self._y_C, self._changed_C = x_CD, y_C, changed_C
