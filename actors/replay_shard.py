"""A replay shard: a part of the experience memory.

Receives the rounds that were learned from the supervisor; returns samples for the next round, one per learner, never one
per step. Holds its memory. If it dies it starts empty and fills again from the stream; meanwhile samples are smaller, which
the receipts count.
"""

import numpy as np

from actors.learning.dealing import Slice
from actors.learning.replay import ReplayConfig, ReplayMemory
from actors.records import ReplaySample, RoundBatch


class ReplayShard:
    def __init__(self, config: ReplayConfig, shard: int, seed: int) -> None:
        rows, size = config.capacity_of_shard(shard)
        self._memory = ReplayMemory(config.strategy, rows, size, np.random.default_rng([seed, shard]))
        self._last_round = -1

    def add(self, batch: RoundBatch, slices: tuple[Slice, ...], sample_rows: tuple[int, ...]) -> list[ReplaySample | int]:
        """Takes the train rows in `slices`, then draws a sample of each of `sample_rows`.

        A round that was added already is not added again. Returns the samples, then rows held and bytes held.
        """
        if batch.round > self._last_round and slices:
            self._last_round = batch.round
            assert batch.train.y_N is not None
            at_N = np.concatenate([np.arange(start, stop) for start, stop in slices])
            self._memory.add(batch.train.x_ND[at_N], batch.train.y_N[at_N])
        samples = [ReplaySample(*self._memory.sample(rows)) for rows in sample_rows]
        return [*samples, len(self._memory), self._memory.nbytes]
