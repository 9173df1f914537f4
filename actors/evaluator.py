"""The evaluator: receives predictions from the learner shards and labels from the ingestor's batches; returns scores, drift
alarms and what follows from them to the supervisor; holds predictions whose labels are not visible yet, the detectors, and
what they decided so far. If it dies, Ray starts it again and the supervisor tells it what it was; only where it writes a
predictions file the run ends, for that is lost.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from actors.errors import LearningError, LostPlaceError
from actors.learning.drift.alarm import Alarm
from actors.learning.drift.config import DriftConfig
from actors.learning.drift.error_scale import ErrorScale
from actors.learning.drift.input_watch import Phase
from actors.learning.drift.monitor import DriftMonitor
from actors.learning.drift.signal import Signal
from actors.learning.drift.signals import EstimateScale, doubts, log_losses
from actors.learning.encoding import RowEncoder
from actors.learning.gate.gate import Decision
from actors.learning.gate.measurements import Measurements
from actors.learning.labels import FEEDBACK
from actors.learning.order import Order
from actors.learning.part import Tree
from actors.learning.prequential import ClassificationScore, FeedbackScore, RegressionScore
from actors.learning.promotion import PromotionConfig
from actors.learning.regime_memory import RegimeStatus
from actors.learning.schema import LabelType
from actors.learning.state import ModelState
from actors.learning.steering import Seen, Steered, Steering
from actors.learning.task import TaskConfig, TaskKind
from actors.learning.update import UpdateConfig
from actors.prediction_join import Columns, PredictionJoin
from actors.predictions_file import PredictionsFile
from actors.records import Predictions, RoundBatch, Rows
from actors.regime_watch import RegimeWatch
from actors.release_desk import Blueprint
from actors.version_trial import VersionTrial

KEPT_ALARMS = 1_000
_SCORES: dict[TaskKind, type[ClassificationScore | RegressionScore | FeedbackScore]] = {
    TaskKind.CLASSIFICATION: ClassificationScore,
    TaskKind.REGRESSION: RegressionScore,
    TaskKind.FEEDBACK: FeedbackScore,
}


@dataclass(frozen=True, slots=True)
class Observation:
    """Where the scores stand: accuracy or mean absolute error, None before the first row is scored."""

    scored_rows: int
    metric: str
    recent: float | None
    overall: float | None
    alarms: tuple[Alarm, ...]  # of this call, in row order
    decisions: tuple[Decision, ...] = ()  # of the gate, in this call
    evidence: Mapping[str, Any] | None = None  # the gate's status, where it decides
    role_scores: Mapping[str, float] = field(default_factory=dict)  # of production and shadow, over the last 1,000 rows
    regimes: RegimeStatus = field(default_factory=RegimeStatus)
    steered: Steered | None = None


class Evaluator:
    """Scores the head version prequentially and watches its error for drift, in row order within each call.

    Call `begin` first; before it the others raise LostPlaceError.

    A label is used only from the batch in which it becomes visible, and only on predictions that were made before.
    """

    def __init__(
        self,
        task: TaskConfig,
        drift: DriftConfig,
        label_type: LabelType,
        predictions_path: str | None = None,
        trial_of: tuple[Blueprint, PromotionConfig] | None = None,
        update: UpdateConfig | None = None,
    ) -> None:
        torch.set_num_threads(1)
        self._has_begun = False
        self._trial = VersionTrial(*trial_of) if trial_of else None
        self._regimes = RegimeWatch(trial_of[0], trial_of[1].regimes) if trial_of else None
        self._examined: ModelState | None = None  # the shadow that the gate examines
        self._task = task
        self._classes: tuple[Any, ...] = ()
        self._join = PredictionJoin()
        self._score = _SCORES[task.kind]()
        self._error_scale = ErrorScale()
        self._estimate_scale = EstimateScale()
        self._monitor = DriftMonitor(drift, _column_names(trial_of[0]) if trial_of else ())
        self._steering = Steering(drift, update or UpdateConfig())
        self._order = Order()
        self._round, self._tested_row, self._labelled_row, self._read_at = -1, 0, 0, 0.0
        self._alarms: deque[Alarm] = deque(maxlen=KEPT_ALARMS)
        self._alarm_count = 0
        self._file = PredictionsFile(predictions_path, label_type, task.kind) if predictions_path else None

    def observe(self, batch: RoundBatch | None, *predictions: Predictions) -> Observation:
        """Takes the labels that `batch` made visible (None: no new ones) and predictions, of this round or late."""
        self._check_begun()
        labelled_rows, alarms = 0, list[Alarm]()
        if batch is not None:
            labelled_rows = len(batch.labels)
            alarms += self._take_batch(batch)
        for answer in predictions:
            alarms += self._take_predictions(self._join.add_predictions(self._columns(answer)))
        joined = self._join.take()
        error_N, found = self._judge(joined)
        self._write(joined)
        self._write(self._join.take_overflow())
        alarms = sorted(alarms + found, key=lambda alarm: alarm.row)
        seen = Seen(self._round, self._tested_row, self._labelled_row, labelled_rows, error_N, alarms, self._read_at)
        self._order, alarms = self._steering.take(seen)
        self._alarms.extend(alarms)
        self._alarm_count += sum(alarm.is_alarm for alarm in alarms)
        score, trial, regimes = self._score, self._trial, self._regimes
        observation = Observation(
            score.rows, score.metric, score.recent, score.overall, tuple(alarms), steered=self._steering.standing()
        )
        if trial is None or regimes is None:
            return observation
        labelled = batch.labels if batch is not None else Rows.none()
        if regimes.saw(labelled, [alarm.row for alarm in alarms if alarm.is_alarm]):
            self._measure_forgetting()
        decisions = tuple(trial.judge())
        return replace(
            observation, decisions=decisions, evidence=trial.evidence(), role_scores=trial.scores(), regimes=regimes.status()
        )

    def steer(self, batch: RoundBatch | None, *predictions: Predictions) -> tuple[Observation, Order]:
        """As `observe`, and what the next rounds are to do."""
        return self.observe(batch, *predictions), self._order

    def orders(self) -> tuple[Order, ...]:
        """The last two: what a run that goes on from here obeys in its first two rounds."""
        self._check_begun()
        return self._steering.orders()

    def _take_batch(self, batch: RoundBatch) -> list[Alarm]:
        if len(batch.classes) > len(self._classes):
            self._classes = batch.classes
        self._round, self._read_at = batch.round, batch.read_at
        if len(batch.test):
            self._tested_row = int(batch.test.row_N[-1]) + 1
        if self._trial is not None:
            self._trial.predict(batch.test)
        labels = batch.labels
        if labels.y_N is not None:
            if len(labels):
                self._labelled_row = int(labels.row_N[-1]) + 1
            self._join.add_labels(labels.row_N, labels.y_N)
            if self._trial is not None:
                self._trial.add_labels(labels.row_N, labels.y_N)
        if not len(batch.test) or Signal.INPUTS not in self._monitor.signals:
            return []
        return self._monitor.take_inputs(batch.test.row_N, batch.test.x_ND)

    def _take_predictions(self, fresh: Columns) -> list[Alarm]:
        row_N = fresh["row"]
        if not len(row_N) or Signal.PREDICTIONS not in self._monitor.signals:
            return []
        if "value" in fresh:
            placed_N, doubt_N = self._estimate_scale.scale(fresh["value"])
            return self._monitor.take_predictions(row_N[placed_N], doubt_N, fresh["value"][placed_N, None])
        return self._monitor.take_predictions(row_N, doubts(fresh["code"], fresh["probability"]), fresh["probability"])

    def compare(self, is_judged: bool, production: ModelState | None, shadow: ModelState | None) -> None:
        """From the next round on these two are compared, and judged by the gate where `is_judged`; None: nobody is."""
        self._check_begun()
        assert self._trial is not None
        self._trial.pair(production, shadow, is_judged=is_judged)
        self._examined = shadow if is_judged else None
        self._measure_forgetting()

    def recall(self, head: ModelState) -> None:
        """Scores the head on the past regimes."""
        self._check_begun()
        assert self._regimes is not None
        self._regimes.score(head)

    def measure(self, found: Measurements) -> None:
        """What the replicas have measured of the shadow."""
        self._check_begun()
        assert self._trial is not None
        self._trial.measure(found)

    def _measure_forgetting(self) -> None:
        """Of the shadow that is examined, where there is a past that it could have forgotten."""
        if self._examined is None or self._regimes is None or self._trial is None or not self._regimes.status().count:
            return
        version, forgetting = self._examined.version, self._regimes.score(self._examined).forgetting
        self._trial.measure(Measurements(version, forgetting=forgetting))

    def summary(self) -> dict[str, Any]:
        """The scores so far as JSON: `prequential` over all rows, `recent` over the last 1,000, `drift` the last 1,000."""
        self._check_begun()
        join = self._join
        return {
            "role": "head",
            "prequential": self._score.to_json(),
            "recent": self._score.recent_json(),
            "drift": [
                {"row": alarm.row, "detector": alarm.detector, "signal": str(alarm.signal), "action": alarm.action}
                for alarm in self._alarms
            ],
            "drift_events": self._alarm_count,
            "regimes": self._regimes.to_json() if self._regimes else None,
            "updates": self._steering.standing().updates,
            "rows": {
                "tested": join.accepted_predictions,
                "scored": self._score.rows,
                "waiting_predictions": join.waiting_predictions,
                "waiting_labels": join.waiting_labels,
                "repeated_predictions": join.repeated_predictions,
                "repeated_labels": join.repeated_labels,
                "dropped_predictions": join.dropped_predictions,
                "dropped_labels": join.dropped_labels,
            },
        }

    def to_state(self) -> Tree:
        self._check_begun()
        return {
            "classes": list(self._classes),
            "join": self._join.to_state(),
            "score": self._score.to_state(),
            "error_scale": self._error_scale.to_state(),
            "estimate_scale": self._estimate_scale.to_state(),
            "detectors": self._monitor.to_state(),
            "steering": self._steering.to_state(),
            "place": [self._round, self._tested_row, self._labelled_row, self._read_at],
            "alarms": [
                [alarm.row, alarm.detector, str(alarm.signal), str(alarm.phase), alarm.action] for alarm in self._alarms
            ],
            "alarm_count": self._alarm_count,
            "trial": self._trial.to_state() if self._trial else None,
            "regimes": self._regimes.to_state() if self._regimes else None,
        }

    def begin(self, state: Tree | None = None) -> None:
        """Goes on from `state`, or from nothing; a detector whose settings have changed since begins anew."""
        self._has_begun = True
        if state is None:
            return
        self._classes = tuple(state["classes"])
        self._join.restore(state["join"])
        self._score.restore(state["score"])
        self._error_scale.restore(state["error_scale"])
        if "steering" in state:  # versions of earlier releases decide nothing, and their detectors begin anew
            self._estimate_scale.restore(state["estimate_scale"])
            self._monitor.restore(state["detectors"])
            self._steering.restore(state["steering"], self._monitor.broken)
            self._round, self._tested_row, self._labelled_row, self._read_at = state["place"]
        self._alarms.clear()
        for row, detector, signal, *more in state["alarms"]:
            phase, action = more or (Phase.CHANGED, "none")
            self._alarms.append(Alarm(row, detector, Signal(signal), Phase(phase), action))
        self._alarm_count = state["alarm_count"]
        if self._trial is not None and state["trial"] is not None:
            self._trial.restore(state["trial"])
        if self._regimes is not None and state.get("regimes") is not None:  # versions of earlier releases have none
            self._regimes.restore(state["regimes"])

    def finish(self) -> None:
        """Writes what still waits, without a label, and closes the predictions file. The scores stay as they are."""
        if self._file is not None:
            self._write(self._join.take_waiting())
            self._file.close()
            self._file = None

    def _check_begun(self) -> None:
        if not self._has_begun:
            raise LostPlaceError("the evaluator has been started again: tell it where to begin")

    def _columns(self, answer: Predictions) -> Columns:
        rows = len(answer.row_N)
        columns = {
            "row": answer.row_N,
            "version": np.full(rows, answer.version, dtype=np.int64),
            "shard": np.full(rows, answer.shard, dtype=np.int32),
        }
        if self._task.kind is TaskKind.REGRESSION:
            if answer.value_N is None:
                raise ValueError(f"shard {answer.shard} answered {rows} rows of a regression without estimates")
            return columns | {"value": answer.value_N}
        if answer.code_N is None or answer.probability_NK is None:
            raise ValueError(f"shard {answer.shard} answered {rows} rows of a classification without codes or probabilities")
        highest = int(answer.code_N.max(initial=-1))
        if highest >= len(self._classes):
            raise LearningError(
                f"shard {answer.shard} predicted class code {highest} with version {answer.version}, but only "
                f"{len(self._classes)} classes have been seen; its weights belong to another stream: start with --fresh"
            )
        return columns | {"code": answer.code_N, "probability": answer.probability_NK}

    def _judge(self, joined: Columns) -> tuple[np.ndarray, list[Alarm]]:
        """Scores joined rows and feeds the detectors: the errors, 0 to 1, and the alarms, in row order."""
        row_N, label_N = joined["row"], joined["label"]
        if len(row_N) == 0:
            return np.empty(0), []
        if isinstance(self._score, RegressionScore):
            self._score.update(row_N, label_N, joined["value"])
            with np.errstate(over="ignore"):
                judged_N, error_N = self._error_scale.scale(joined["value"].astype(np.float64) - label_N, label_N)
            row_N, loss_N = row_N[judged_N], error_N**2
        elif isinstance(self._score, FeedbackScore):
            error_N = 1.0 - self._score.update(row_N, label_N, joined["code"], joined["probability"])
            loss_N = error_N
        else:
            self._score.update(row_N, label_N, joined["code"], joined["probability"])
            error_N = (joined["code"] != label_N).astype(np.float64)
            is_watched = Signal.LOSS in self._monitor.signals
            loss_N = log_losses(label_N, joined["probability"]) if is_watched else error_N
        return error_N, self._monitor.take_scores(row_N, error_N, loss_N)

    def _write(self, rows: Columns) -> None:
        """Appends predictions to the file, with their labels where `rows` has any."""
        if self._file is None or len(rows["row"]) == 0:
            return
        more: dict[str, pa.Array] = {}
        if "value" in rows:
            prediction = self._numbers(rows["value"])
            confidence = pa.nulls(len(rows["row"]), pa.float32())
            label = self._numbers(rows["label"]) if "label" in rows else pa.nulls(len(rows["row"]), self._file.value_type)
        else:
            code_N, probability_NK = rows["code"], rows["probability"]
            prediction = self._class_values(code_N)
            confidence_N = probability_NK.max(axis=1, initial=-np.inf).astype(np.float32)
            confidence = pa.array(confidence_N, pa.float32(), mask=(code_N < 0) | ~np.isfinite(confidence_N))
            label = rows["label"] if "label" in rows else np.full(len(code_N), -1)
            if self._task.kind is TaskKind.FEEDBACK:
                given_N = label if "label" in rows else np.full(len(code_N), -1, FEEDBACK)
                more, label = self._given(given_N, probability_NK)
            label = self._class_values(label)
        self._file.write(rows["row"], prediction, confidence, label, rows["version"], rows["shard"], more)

    def _given(self, given_N: np.ndarray, probability_NK: np.ndarray) -> tuple[dict[str, pa.Array], np.ndarray]:
        """What is known of the answers that were given, and the codes of the labels, -1 where there is a score instead."""
        code_N, is_label_N = given_N["code"], np.isnan(given_N["score"])
        is_none_N = is_label_N | (code_N < 0)
        is_known_N = (code_N >= 0) & (code_N < probability_NK.shape[1])
        probability_N = np.zeros(len(code_N), np.float32)
        probability_N[is_known_N] = probability_NK[np.flatnonzero(is_known_N), code_N[is_known_N]]
        columns = {
            "answer": self._class_values(np.where(is_none_N, -1, code_N)),
            "score": pa.array(given_N["score"], mask=is_none_N),
            "propensity": pa.array(given_N["propensity"], mask=is_none_N),
            "answered_by": pa.array(given_N["version"], mask=is_none_N | (given_N["version"] < 0)),
            "probability": pa.array(probability_N, mask=code_N < 0),
        }
        return columns, np.where(is_label_N, code_N, -1)

    @staticmethod
    def _numbers(value_N: np.ndarray) -> pa.Array:
        return pa.array(value_N.astype(np.float64), mask=np.isnan(value_N))

    def _class_values(self, code_N: np.ndarray) -> pa.Array:
        """Classes as the user writes them, null for code -1."""
        assert self._file is not None
        classes = pa.array(list(self._classes), self._file.value_type)
        return classes.take(pa.array(code_N, pa.int64(), mask=code_N < 0))


def _column_names(blueprint: Blueprint) -> list[str]:
    """Of each encoded feature, the column that it comes from."""
    return [column.name for column, place in RowEncoder(blueprint.schema).places for _ in range(place.stop - place.start)]
