"""A replay shard: a part of the experience memory.

Receives the rounds that were learned from the supervisor; returns samples for the next round, one per learner, never one
per step. Holds its memory. If it dies, Ray starts it again, and the supervisor tells it what the newest durable version has of
it and the rounds since: it becomes what it was, down to its random state.
"""

from collections.abc import Sequence

import numpy as np

from actors.errors import LostPlaceError
from actors.learning.experience.part import ShardPart
from actors.learning.order import Shrink
from actors.learning.part import Tree
from actors.learning.replay import ReplayConfig, ReplayMemory, ReplaySample
from actors.records import Echo, RoundBatch


class ReplayShard:
    """Call `begin` first. `logits`: the most outputs of the model that are kept beside a row; 0: none are. `recent_rows`: so
    many of the stream's latest rows are kept apart, for a memory that may have to shrink.
    """

    def __init__(self, config: ReplayConfig, shard: int, seed: int, logits: int = 0, recent_rows: int = 0) -> None:
        self._config, self._shard, self._seed, self._logits = config, shard, seed, logits
        self._recent_rows = recent_rows
        self._recent: list[tuple[np.ndarray, ...]] = []  # batches of x, y and row number, oldest first
        self._shrunk_row = -1
        self._begun: ReplayMemory | None = None
        self._samples: list[ReplaySample] = []  # drawn for the next round
        self._has_told = False

    def begin(self, chains: Sequence[Sequence[Tree]] = ()) -> list[ReplaySample]:
        """Goes on from a chain of states, a whole one and the changes since, or from nothing; what it held before is gone.

        The chain is this shard's own. Where the configuration of the memory has changed, there are those of all shards that
        there were. Returns what was drawn for the next round.
        """
        memory = self._empty(self._seed)
        if chains:
            memory.restore([[state["memory"] for state in chain] for chain in chains])
        latest = chains[0][-1] if chains else {}
        self._recent = [tuple(batch) for batch in latest.get("recent", ())]
        self._shrunk_row = latest.get("shrunk_row", -1)
        is_same = len(chains) == 1 and latest["layout"] == layout_of(self._config, self._logits)
        drawn = chains[0][-1]["samples"] if is_same else ()
        self._begun, self._has_told = memory, is_same
        self._samples = [ReplaySample.from_state(sample) for sample in drawn]
        return self._samples

    def _empty(self, *seed: int) -> ReplayMemory:
        config = self._config
        return ReplayMemory(
            config.strategy,
            config.capacity_rows,
            config.capacity_bytes,
            np.random.default_rng(seed if len(seed) > 1 else seed[0]),
            ShardPart(self._shard, config.shards),
            priority=config.priority,
            logits=self._logits,
        )

    def add(
        self, batch: RoundBatch, sample_rows: tuple[int, ...], *echoes: Echo | None, shrink: Shrink | None = None
    ) -> list[ReplaySample | int]:
        """Takes note of the echoes of earlier rounds, then of the train rows, then draws a sample of each of `sample_rows`.

        With an order to `shrink` that it has not obeyed yet, it forgets all but its part of the latest rows first.

        Every shard is given every row: together they decide which of them keeps it. Returns the samples, then rows held and
        bytes held. Raises LostPlaceError before `begin`.
        """
        self._hear(echoes)
        if shrink is not None and shrink.row > self._shrunk_row:
            self._shrink(shrink)
        memory, train = self._memory, batch.train
        if len(train):
            assert train.y_N is not None
            memory.add(train.x_ND, train.y_N, train.row_N)
            self._keep(train.x_ND, train.y_N, train.row_N)
        self._samples = [memory.sample(rows) for rows in sample_rows]
        return [*self._samples, len(memory), memory.nbytes]

    def _keep(self, *columns: np.ndarray) -> None:
        if not self._recent_rows:
            return
        self._recent.append(tuple(column.copy() for column in columns))
        over = sum(len(batch[0]) for batch in self._recent) - self._recent_rows
        while over > 0:
            batch = self._recent.pop(0)
            if len(batch[0]) > over:
                self._recent.insert(0, tuple(column[over:].copy() for column in batch))
            over -= len(batch[0])

    def _shrink(self, shrink: Shrink) -> None:
        """A new memory, with the latest rows in it; all shards agree on it as on the one before."""
        assert self._begun is not None
        memory = self._empty(self._seed, shrink.row)
        if self._recent:
            x_ND, y_N, row_N = (np.concatenate(column)[-shrink.rows :] for column in zip(*self._recent, strict=True))
            memory.add(x_ND, y_N, row_N)
        self._begun, self._shrunk_row = memory, shrink.row
        self._has_told = False  # there are no changes from the memory before to this one

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
            "recent": [list(batch) for batch in self._recent],
            "shrunk_row": self._shrunk_row,
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
