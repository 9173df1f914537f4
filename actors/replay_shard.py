"""A replay shard: a part of the experience memory.

Receives the rounds that were learned from the supervisor; returns samples for the next round, one per learner, never one
per step. Holds its memory. If it dies, Ray starts it again, and the supervisor tells it what the newest durable version has of
it and the rounds since: it becomes what it was, down to its random state.
"""

from collections.abc import Sequence

import numpy as np

from actors.errors import LostPlaceError
from actors.learning.experience.part import ShardPart
from actors.learning.part import Tree
from actors.learning.replay import ReplayConfig, ReplayMemory, ReplaySample
from actors.records import Echo, RoundBatch


class ReplayShard:
    """Call `begin` first. `logits`: the most outputs of the model that are kept beside a row; 0: none are."""

    def __init__(self, config: ReplayConfig, shard: int, seed: int, logits: int = 0) -> None:
        self._config, self._shard, self._seed, self._logits = config, shard, seed, logits
        self._begun: ReplayMemory | None = None
        self._samples: list[ReplaySample] = []  # drawn for the next round
        self._has_told = False

    def begin(self, chains: Sequence[Sequence[Tree]] = ()) -> list[ReplaySample]:
        """Goes on from a chain of states, a whole one and the changes since, or from nothing; what it held before is gone.

        The chain is this shard's own. Where the configuration of the memory has changed, there are those of all shards that
        there were. Returns what was drawn for the next round.
        """
        config = self._config
        memory = ReplayMemory(
            config.strategy,
            config.capacity_rows,
            config.capacity_bytes,
            np.random.default_rng(self._seed),
            ShardPart(self._shard, config.shards),
            priority=config.priority,
            logits=self._logits,
        )
        if chains:
            memory.restore([[state["memory"] for state in chain] for chain in chains])
        is_same = len(chains) == 1 and chains[0][-1]["layout"] == layout_of(config, self._logits)
        drawn = chains[0][-1]["samples"] if is_same else ()
        self._begun, self._has_told = memory, is_same
        self._samples = [ReplaySample.from_state(sample) for sample in drawn]
        return self._samples

    def add(self, batch: RoundBatch, sample_rows: tuple[int, ...], *echoes: Echo | None) -> list[ReplaySample | int]:
        """Takes note of the echoes of earlier rounds, then of the train rows, then draws a sample of each of `sample_rows`.

        Every shard is given every row: together they decide which of them keeps it. Returns the samples, then rows held and
        bytes held. Raises LostPlaceError before `begin`.
        """
        memory = self._memory
        self._hear(echoes)
        train = batch.train
        if len(train):
            assert train.y_N is not None
            memory.add(train.x_ND, train.y_N, train.row_N)
        self._samples = [memory.sample(rows) for rows in sample_rows]
        return [*self._samples, len(memory), memory.nbytes]

    def to_state(self, whole: bool, *echoes: Echo | None) -> Tree:
        """What it holds, or what has changed of that since the last call; and what it has drawn for the next round.

        Echoes that are known already are in it; to hear them again with the next round changes nothing. A shard that has just
        begun has nothing that changes could be told from, so it tells all. Raises LostPlaceError before `begin`.
        """
        memory = self._memory
        self._hear(echoes)
        whole = whole or not self._has_told
        self._has_told = True
        return {
            "whole": whole,
            "layout": layout_of(self._config, self._logits),
            "memory": memory.to_state(whole=whole),
            "samples": [sample.to_state() for sample in self._samples],
        }

    def _hear(self, echoes: Sequence[Echo | None]) -> None:
        for echo in echoes:
            if echo is None:
                continue
            if echo.replay_shard == self._shard:
                self._memory.hear_losses(echo.slot_R, echo.number_R, echo.loss_R)
            self._memory.hear_logits(echo.row_N, echo.logits_NK)

    @property
    def _memory(self) -> ReplayMemory:
        if self._begun is None:
            raise LostPlaceError(f"replay shard {self._shard} has been started again: tell it where to begin")
        return self._begun


def layout_of(config: ReplayConfig, logits: int) -> Tree:
    """What a shard's state must have been made with for the shard to go on from that alone."""
    return [config.strategy, config.shards, config.capacity_rows, config.capacity_bytes, logits]
