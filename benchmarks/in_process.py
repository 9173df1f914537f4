"""The system's own roles in one process, without Ray: what predicting and learning cost in CPU seconds, and nothing else.

Ingestor, learner shards, replay shards and version manager are the classes that `perennial run` makes actors of; shards take
turns, so the accuracy is that of a run in sync mode.
"""

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from actors.ingestor import Ingestor
from actors.learner_shard import LearnerShard
from actors.learning.dealing import deal, offsets_of
from actors.records import ReplaySample, RoundBatch, RoundHeader, Work
from actors.release_desk import Blueprint
from actors.replay_shard import ReplayShard
from actors.version_manager import VersionManager
from cluster.config import PerennialConfig, load_config

_FIRST_ROWS = 600


@dataclass(frozen=True, slots=True)
class Learned:
    """Rows in all, those of them that were predicted rightly, and the CPU seconds of predicting and learning them."""

    rows: int
    right: int
    cpu_s: float


def learn(settings: Sequence[str]) -> Learned:
    """Learns the finite classification stream of these settings (`key=value`, as after `--set`) to its end.

    Compiled code is compiled, or read in, over its first rows beforehand, by learners that are thrown away: as a start-up.
    """
    for rows in ([f"stream.rows={_FIRST_ROWS}"], []):
        with tempfile.TemporaryDirectory() as folder:
            learned = _System(load_config(None, [*settings, *rows, f"storage={folder}"])).run()
    return learned


class _System:
    def __init__(self, config: PerennialConfig) -> None:
        c = self._config = config
        self._round_rows = c.learners.for_model(c.model.kind).rows_per_round
        times = (time.monotonic, time.time, time.sleep)
        self._ingestor = Ingestor(c.stream, c.task, c.learners.for_model(c.model.kind), c.seed, c.storage, None, True, *times)
        stream = self._ingestor.describe()
        blueprint = Blueprint(stream.schema, c.task, c.model, stream.inputs, c.seed)
        self._manager = VersionManager(
            c.consolidation,
            c.promotion,
            blueprint,
            c.learners.shards,
            lambda state: state,
            time.time,
            False,
            c.storage,
            c.versions,
        )
        self._head = blueprint.empty_state()
        self._learners = [LearnerShard(c.model, c.learners, c.task, stream.inputs, c.seed) for _ in range(c.learners.shards)]
        self._replays = [ReplayShard(c.replay, shard, c.seed) for shard in range(c.replay.shards)] if c.replay.ratio else []
        for replay in self._replays:
            replay.begin()
        self._drawn: dict[int, ReplaySample] = {}
        self._code_of: dict[int, int] = {}  # predicted, by row, until its label comes
        self._right = self._rows = 0

    def run(self) -> Learned:
        round_number, cpu_s, is_over = 0, 0.0, False
        while not is_over:
            batch, header = self._ingestor.next_round(round_number)
            started = time.process_time()
            self._learn(batch, header)
            cpu_s += time.process_time() - started
            self._score(batch)
            is_over, round_number = header.is_last, round_number + 1
        return Learned(self._rows, self._right, cpu_s)

    def _learn(self, batch: RoundBatch, header: RoundHeader) -> None:
        c, receipts, changes = self._config, [], []
        tests = deal(header.test_rows, c.learners.shards, c.learners.micro_batch_rows)
        trains = deal(header.train_rows, c.learners.shards, c.learners.micro_batch_rows)
        for shard, (test, train) in enumerate(zip(tests, trains, strict=True)):
            if not test and not train:
                continue
            work = Work(
                contribution_id=f"{header.round}/{shard}",
                round=header.round,
                shard=shard,
                test_slices=tuple(test),
                train_slices=tuple(train),
                trained=offsets_of(train, header.train_spans),
                label_delay_rows=c.stream.label_delay_rows,
                replay_rows=round(c.replay.ratio * sum(stop - start for start, stop in train)),
            )
            change, predictions, receipt, *_ = self._learners[shard].learn(work, self._head, batch, self._drawn.get(shard))
            assert predictions.code_N is not None
            self._code_of.update(zip(predictions.row_N.tolist(), predictions.code_N.tolist(), strict=True))
            changes.append(change)
            receipts.append(receipt)
        _, self._head = self._manager.commit(header, *receipts, *changes)
        self._remember(batch, header)

    def _remember(self, batch: RoundBatch, header: RoundHeader) -> None:
        """The replay shards take the round's rows and draw for the next round, as in a run."""
        c = self._config
        rows = math.ceil(c.replay.ratio * self._round_rows)
        hands = deal(header.train_rows, len(self._replays), c.learners.micro_batch_rows) if self._replays else []
        for at, (replay, hand) in enumerate(zip(self._replays, hands, strict=True)):
            drawers = [s for s in range(c.learners.shards) if (s + header.round) % len(self._replays) == at]
            samples = replay.add(batch, tuple(hand), (rows,) * len(drawers))[: len(drawers)]
            self._drawn.update(zip(drawers, samples, strict=True))

    def _score(self, batch: RoundBatch) -> None:
        assert batch.train.y_N is not None
        code_N = np.array([self._code_of.pop(row) for row in batch.train.row_N.tolist()], np.int64)
        self._right += int((code_N == batch.train.y_N).sum())
        self._rows += len(code_N)
