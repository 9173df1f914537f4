"""A replay shard: a part of the experience memory.

Receives the rounds that were learned from the supervisor; returns samples for the next round, one per learner, never one
per step. Holds its memory. If it dies it starts empty and fills again from the stream; meanwhile samples are smaller, which
the receipts count.
"""

from collections.abc import Sequence

import numpy as np

from actors.learning.dealing import Slice
from actors.learning.part import Tree
from actors.learning.replay import ReplayConfig, ReplayMemory
from actors.records import ReplaySample, RoundBatch


class ReplayShard:
    def __init__(self, config: ReplayConfig, shard: int, seed: int) -> None:
        rows, size = config.capacity_of_shard(shard)
        self._memory = ReplayMemory(config.strategy, rows, size, np.random.default_rng([seed, shard]))
        self._last_round = -1
        self._samples: list[ReplaySample] = []  # drawn for the next round
        self._has_told = False

    def add(self, batch: RoundBatch, slices: tuple[Slice, ...], sample_rows: tuple[int, ...]) -> list[ReplaySample | int]:
        """Takes the train rows in `slices`, then draws a sample of each of `sample_rows`.

        A round that was added already is not added again. Returns the samples, then rows held and bytes held.
        """
        if batch.round > self._last_round and slices:
            self._last_round = batch.round
            assert batch.train.y_N is not None
            at_N = np.concatenate([np.arange(start, stop) for start, stop in slices])
            self._memory.add(batch.train.x_ND[at_N], batch.train.y_N[at_N])
        self._samples = [ReplaySample(*self._memory.sample(rows)) for rows in sample_rows]
        return [*self._samples, len(self._memory), self._memory.nbytes]

    def to_state(self, *, whole: bool) -> Tree:
        """What it holds, or what has changed of that since the last call; and what it has drawn for the next round.

        A shard that was started again has nothing that changes could be told from, so it tells all.
        """
        whole = whole or not self._has_told
        self._has_told = True
        return {
            "whole": whole,
            "memory": self._memory.to_state(whole=whole),
            "last_round": self._last_round,
            "samples": [[sample.x_ND, sample.y_N] for sample in self._samples],
        }

    def restore(self, states: Sequence[Tree]) -> list[ReplaySample]:
        """Goes on from a whole state and the changes since. Returns what was drawn for the next round."""
        self._memory.restore([state["memory"] for state in states])
        self._has_told, self._last_round = True, states[-1]["last_round"]
        self._samples = [ReplaySample(x_ND, y_N) for x_ND, y_N in states[-1]["samples"]]
        return self._samples
