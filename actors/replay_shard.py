"""A replay shard: a part of the experience memory.

Receives the rounds that were learned from the supervisor; returns samples for the next round, one per learner, never one
per step. Holds its memory. If it dies, Ray starts it again, and the supervisor tells it what the newest durable version has of
it and the rounds since: it becomes what it was, down to its random state.
"""

from collections.abc import Sequence

import numpy as np

from actors.errors import LostPlaceError
from actors.learning.dealing import Slice
from actors.learning.order import Shrink
from actors.learning.part import Tree
from actors.learning.replay import ReplayConfig, ReplayMemory
from actors.records import ReplaySample, RoundBatch


class ReplayShard:
    """Call `begin` first. `recent_rows`: so many of the latest rows are kept apart, for a memory that may have to shrink."""

    def __init__(self, config: ReplayConfig, shard: int, seed: int, recent_rows: int = 0) -> None:
        self._config, self._shard, self._seed = config, shard, seed
        self._recent_rows = -(-recent_rows // config.shards)
        self._recent: list[tuple[np.ndarray, np.ndarray]] = []  # oldest first
        self._shrunk_row = -1
        self._begun: ReplayMemory | None = None
        self._samples: list[ReplaySample] = []  # drawn for the next round
        self._has_told = False

    def begin(self, states: Sequence[Tree] = ()) -> list[ReplaySample]:
        """Goes on from a whole state and the changes since, or from nothing; whatever it held before is gone.

        Returns what was drawn for the next round.
        """
        rows, size = self._config.capacity_of_shard(self._shard)
        memory = ReplayMemory(self._config.strategy, rows, size, np.random.default_rng([self._seed, self._shard]))
        self._recent = [(x_ND, y_N) for x_ND, y_N in states[-1].get("recent", ())] if states else []
        self._shrunk_row = states[-1].get("shrunk_row", -1) if states else -1
        if states:
            memory.restore([state["memory"] for state in states])
        drawn = states[-1]["samples"] if states else ()
        self._begun, self._has_told = memory, bool(states)
        self._samples = [ReplaySample(x_ND, y_N) for x_ND, y_N in drawn]
        return self._samples

    def add(
        self, batch: RoundBatch, slices: tuple[Slice, ...], sample_rows: tuple[int, ...], shrink: Shrink | None = None
    ) -> list[ReplaySample | int]:
        """Takes the train rows in `slices`, then draws a sample of each of `sample_rows`. With an order to `shrink` that it has
        not obeyed yet, it forgets all but its part of the latest rows first.

        Returns the samples, then rows held and bytes held. Raises LostPlaceError before `begin`.
        """
        if shrink is not None and shrink.row > self._shrunk_row:
            self._shrink(shrink)
        memory = self._memory
        if slices:
            assert batch.train.y_N is not None
            at_N = np.concatenate([np.arange(start, stop) for start, stop in slices])
            memory.add(batch.train.x_ND[at_N], batch.train.y_N[at_N])
            self._keep(batch.train.x_ND[at_N], batch.train.y_N[at_N])
        self._samples = [ReplaySample(*memory.sample(rows)) for rows in sample_rows]
        return [*self._samples, len(memory), memory.nbytes]

    def _keep(self, x_ND: np.ndarray, y_N: np.ndarray) -> None:
        if not self._recent_rows:
            return
        self._recent.append((x_ND, y_N))
        over = sum(len(y_N) for _, y_N in self._recent) - self._recent_rows
        while over > 0:
            x_ND, y_N = self._recent.pop(0)
            if len(y_N) > over:
                self._recent.insert(0, (x_ND[over:].copy(), y_N[over:].copy()))
            over -= len(y_N)

    def _shrink(self, shrink: Shrink) -> None:
        """A new memory, with the latest rows in it."""
        rows, size = self._config.capacity_of_shard(self._shard)
        memory = ReplayMemory(self._config.strategy, rows, size, np.random.default_rng([self._seed, self._shard, shrink.row]))
        kept = -(-shrink.rows // self._config.shards)
        if self._recent:
            x_ND, y_N = (np.concatenate(column) for column in zip(*self._recent, strict=True))
            memory.add(x_ND[-kept:], y_N[-kept:])
        self._begun, self._shrunk_row = memory, shrink.row
        self._has_told = False  # there are no changes from the memory before to this one

    def to_state(self, *, whole: bool) -> Tree:
        """What it holds, or what has changed of that since the last call; and what it has drawn for the next round.

        A shard that has just begun has nothing that changes could be told from, so it tells all. Raises LostPlaceError before
        `begin`.
        """
        memory = self._memory
        whole = whole or not self._has_told
        self._has_told = True
        return {
            "whole": whole,
            "memory": memory.to_state(whole=whole),
            "samples": [[sample.x_ND, sample.y_N] for sample in self._samples],
            "recent": [list(rows) for rows in self._recent],
            "shrunk_row": self._shrunk_row,
        }

    @property
    def _memory(self) -> ReplayMemory:
        if self._begun is None:
            raise LostPlaceError(f"replay shard {self._shard} has been started again: tell it where to begin")
        return self._begun
