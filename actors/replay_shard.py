"""A replay shard: a part of the experience memory.

Receives the rounds that were learned from the supervisor; returns samples for the next round, one per learner, never one
per step. Holds its memory. If it dies, Ray starts it again, and the supervisor tells it what the newest durable version has of
it and the rounds since: it becomes what it was, down to its random state.
"""

from collections.abc import Sequence

import numpy as np

from actors.errors import LostPlaceError
from actors.learning.dealing import Slice
from actors.learning.part import Tree
from actors.learning.replay import ReplayConfig, ReplayMemory
from actors.records import ReplaySample, RoundBatch


class ReplayShard:
    """Call `begin` first."""

    def __init__(self, config: ReplayConfig, shard: int, seed: int) -> None:
        self._config, self._shard, self._seed = config, shard, seed
        self._begun: ReplayMemory | None = None
        self._samples: list[ReplaySample] = []  # drawn for the next round
        self._has_told = False

    def begin(self, states: Sequence[Tree] = ()) -> list[ReplaySample]:
        """Goes on from a whole state and the changes since, or from nothing; whatever it held before is gone.

        Returns what was drawn for the next round.
        """
        rows, size = self._config.capacity_of_shard(self._shard)
        memory = ReplayMemory(self._config.strategy, rows, size, np.random.default_rng([self._seed, self._shard]))
        if states:
            memory.restore([state["memory"] for state in states])
        drawn = states[-1]["samples"] if states else ()
        self._begun, self._has_told = memory, bool(states)
        self._samples = [ReplaySample(x_ND, y_N) for x_ND, y_N in drawn]
        return self._samples

    def add(self, batch: RoundBatch, slices: tuple[Slice, ...], sample_rows: tuple[int, ...]) -> list[ReplaySample | int]:
        """Takes the train rows in `slices`, then draws a sample of each of `sample_rows`.

        Returns the samples, then rows held and bytes held. Raises LostPlaceError before `begin`.
        """
        memory = self._memory
        if slices:
            assert batch.train.y_N is not None
            at_N = np.concatenate([np.arange(start, stop) for start, stop in slices])
            memory.add(batch.train.x_ND[at_N], batch.train.y_N[at_N])
        self._samples = [ReplaySample(*memory.sample(rows)) for rows in sample_rows]
        return [*self._samples, len(memory), memory.nbytes]

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
        }

    @property
    def _memory(self) -> ReplayMemory:
        if self._begun is None:
            raise LostPlaceError(f"replay shard {self._shard} has been started again: tell it where to begin")
        return self._begun
