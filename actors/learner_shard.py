"""A learner shard: one local round of test-then-train at a time.

Receives Work and a version from the supervisor, rows from the ingestor and replayed rows from a replay shard, both through
the object store. Returns its change, its predictions and a receipt. Holds nothing between rounds but a warm model: if it
dies it is started again and the same work is given to it on the same version, which gives the same answer.
"""

import time
from collections.abc import Mapping

import numpy as np
import torch

from actors.learner_config import LearnersConfig
from actors.learning.consolidation import delta_norm
from actors.learning.inputs import InputLayout
from actors.learning.labels import label_dtype
from actors.learning.learner import LocalRound
from actors.learning.model_kinds import make_learner
from actors.learning.models.config import ModelConfig
from actors.learning.state import LocalChange, ModelState
from actors.learning.task import TaskConfig
from actors.records import Echo, Predictions, Receipt, ReplaySample, RoundBatch, Work


class LearnerShard:
    def __init__(
        self,
        model: ModelConfig,
        learners: LearnersConfig,
        task: TaskConfig,
        inputs: InputLayout,
        seed: int,
        initial: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        # Two threads on one step of a small model are slower than one, and up to a hundred times so beside a busy neighbour.
        torch.set_num_threads(1)
        self._seed = seed
        self._label_dtype = label_dtype(task.kind)
        self._learner = make_learner(
            model,
            learners.optimizer,
            task,
            inputs,
            seed=seed,
            shards=learners.shards,
            initial=initial,
            device="cuda" if learners.resources.gpus > 0 else "cpu",
            epochs=learners.epochs,
            regularizer=learners.regularizer,
            regularization=learners.regularization,
        )
        self._tells_logits = learners.regularizer == "der"
        self._warm_up(int(inputs))

    def _warm_up(self, inputs: int) -> None:
        """A throw-away step: torch loads a second's worth of code at the first one. The first `load` forgets it."""
        x_ND, y_N = np.zeros((2, inputs), np.float32), np.zeros(2, self._label_dtype)
        self._learner.train(x_ND, y_N)

    def learn(
        self, work: Work, base: ModelState, batch: RoundBatch, replay: ReplaySample | None
    ) -> tuple[LocalChange, Predictions, Receipt, Echo | None]:
        """The echo is for the replay shards: what they asked to hear of their rows; None where they did not."""
        started = time.perf_counter()
        torch.set_flush_denormal(True)  # a property of the thread, and this is not the one of the constructor
        assert batch.train.y_N is not None
        # Dropout and the like draw from torch's generator: the same work draws the same, wherever it is repeated.
        torch.manual_seed(hash((self._seed, work.round, work.shard)) & 0x7FFF_FFFF)
        self._learner.load(base)
        replay = replay.part(0, work.replay_rows) if replay else None
        answer = self._learner.round(
            LocalRound(
                test_row_N=batch.test.row_N,
                test_x_ND=batch.test.x_ND,
                train_row_N=batch.train.row_N,
                train_x_ND=batch.train.x_ND,
                train_y_N=batch.train.y_N,
                test_slices=work.test_slices,
                train_slices=work.train_slices,
                label_delay_rows=work.label_delay_rows,
                learning_rate_factor=work.learning_rate_factor,
                replay_x_ND=replay.x_ND if replay else None,
                replay_y_N=replay.y_N if replay else None,
                replay_logits_NK=replay.logits_NK if replay else None,
                replay_weight_N=replay.weight_N if replay else None,
            )
        )
        change = self._learner.change(classes=batch.classes)
        row_n = [batch.test.row_N[start:stop] for start, stop in work.test_slices]
        predictions = Predictions(
            shard=work.shard,
            version=base.version,
            row_N=np.concatenate(row_n) if row_n else np.zeros(0, np.int64),
            code_N=answer.code_N,
            probability_NK=answer.probability_NK,
            value_N=answer.value_N,
        )
        receipt = Receipt(
            work=work,
            base_version=base.version,
            tested_rows=len(predictions.row_N),
            trained_rows=change.rows,
            replayed_rows=len(replay.y_N) if replay else 0,
            mean_loss=change.mean_loss,
            delta_norm=delta_norm(base, change),
            busy_s=time.perf_counter() - started,
        )
        return change, predictions, receipt, self._echo(replay)

    def _echo(self, replay: ReplaySample | None) -> Echo | None:
        draws = replay is not None and replay.slot_N is not None
        if not (draws or self._tells_logits):
            return None
        found, none_N = self._learner.findings(), np.zeros(0, np.int64)
        slot_R = replay.slot_N if replay is not None and replay.slot_N is not None else none_N
        number_R = replay.number_N if replay is not None and replay.number_N is not None else none_N
        told = len(found.loss_R)  # fewer than were drawn where there was nothing to learn
        shard = replay.shard if replay is not None else -1
        return Echo(shard, slot_R[:told], number_R[:told], found.loss_R, found.row_N, found.logits_NK)
