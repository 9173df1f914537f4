"""The journal: predictions as served, what came back for them, and the rows that the two make, in one SQLite file.

A request is known by its id, and its id is in one of three places: in `served` while its label is awaited, in `labels`
while its prediction is, in `rows` once both are there. `rows` is the stream: offsets count from 0 without a gap. Rows that
have been learned are deleted but for the newest, and for the first thousand, which show what the stream looks like. What
has been deleted is forgotten: its request is unknown again.

One process writes; others may read meanwhile (actors/sources/journal_source.py).
"""

import json
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.feedback import (
    FeedbackConfig,
    FeedbackItem,
    FeedbackOutcome,
    JoinerStatus,
    ServedPrediction,
    ShadowPrediction,
    TooFarBehindError,
)
from actors.journal_file import JournalFile
from actors.sources.chunks import SAMPLE_ROWS

_LABEL_DELAYS = 10_000
_TIDY_EVERY_S = 1.0
_TIDY_ROWS = 5_000  # of each table at once, so that nobody waits long for it

_SERVED = "features, answer, propensity, version, served_at, shadow_answer, shadow_propensity, shadow_version"
_ADD_SERVED = f"INSERT INTO served (request_id, {_SERVED}) VALUES (?, ?, ?, ?, ?, ?, NULL, NULL, NULL)"
_ADD_ROW = f"INSERT INTO rows (offset, request_id, label, score, received_at, {_SERVED}) VALUES ({', '.join('?' * 13)})"


@dataclass(frozen=True, slots=True)
class JournalBatch:
    """What goes into the journal at once. Predictions are taken before feedback, whichever came first."""

    served: Sequence[ServedPrediction] = ()
    shadow: Sequence[ShadowPrediction] = ()
    feedback: Sequence[FeedbackItem] = ()
    learned: int = 0  # rows below this offset have been learned
    dropped_predictions: int = 0  # lost on their way here
    dropped_shadow_predictions: int = 0


class Journal:
    """`clock` gives seconds since 1970. May be used from any thread, by one at a time; the properties at any time.

    Raises ConfigError where `path` cannot be a journal, LearningError where it cannot be read or written any more.
    """

    def __init__(self, path: Path, config: FeedbackConfig, clock: Callable[[], float]) -> None:
        self._config, self._clock = config, clock
        self.label_delays_s: deque[float] = deque(maxlen=_LABEL_DELAYS)  # from a prediction until its label arrived
        self._file = JournalFile(path)
        self._execute = self._file.connection.execute
        self._tidy_at = clock()

    def apply(self, batch: JournalBatch) -> list[FeedbackOutcome]:
        """What became of each piece of feedback, in order: all of the batch is in the journal on return, or none of it.

        Feedback is on the disk; predictions alone survive the death of the process, not that of the machine.
        Raises TooFarBehindError where there is no room for the feedback.
        """
        if len(batch.feedback) > self.room:
            raise self.too_far_behind()
        with self._file.transaction(durable=bool(batch.feedback) or self._completes_rows(batch)) as totals:
            totals["dropped_predictions"] += batch.dropped_predictions
            totals["dropped_shadow_predictions"] += batch.dropped_shadow_predictions
            totals["learned"] = max(totals["learned"], min(batch.learned, totals["rows"]))
            self._tidy(totals)
            for served in batch.served:
                self._take_served(served, totals)
            for shadow in batch.shadow:
                self._take_shadow(shadow, totals)
            outcomes = [self._take_feedback(item, totals) for item in batch.feedback]
            totals.update(outcome.value for outcome in outcomes)
            self._drop_oldest(totals)
        return outcomes

    def learned(self, offset: int) -> None:
        """Rows below `offset` have been learned, and may be deleted."""
        self.apply(JournalBatch(learned=offset))

    def tidy(self) -> None:
        """Does what time has made due. Cheap where nothing is."""
        if self._clock() >= self._tidy_at:
            with self._file.transaction(durable=False) as totals:
                self._tidy(totals)

    @property
    def room(self) -> int:
        """Pieces of feedback that may be taken before more rows wait to be learned than may.

        Labels that await their prediction come on top when it arrives.
        """
        return max(0, self._config.max_waiting_rows - self.status.waiting_rows)

    def too_far_behind(self) -> TooFarBehindError:
        return TooFarBehindError(
            f"{self.status.waiting_rows:,} rows of the journal {self._file.path} wait to be learned, which leaves room for "
            f"{self.room:,} of {self._config.max_waiting_rows:,} (max_waiting_rows); see whether learning goes on, and send "
            "the feedback again when it has caught up"
        )

    @property
    def status(self) -> JoinerStatus:
        totals = self._file.totals
        return JoinerStatus(
            outcomes={outcome.value: totals[outcome.value] for outcome in FeedbackOutcome},
            waiting_predictions=totals["waiting_predictions"],
            waiting_labels=totals["waiting_labels"],
            dropped_predictions=totals["dropped_predictions"],
            rows=totals["rows"],
            waiting_rows=totals["rows"] - totals["learned"],
            dropped_shadow_predictions=totals["dropped_shadow_predictions"],
        )

    def close(self) -> None:
        self._file.close()

    # --- one prediction, one piece of feedback

    def _take_served(self, served: ServedPrediction, totals: Counter[str]) -> None:
        """Ids come from clients: where one comes twice, the first stays."""
        if self._one("SELECT 1 FROM served WHERE request_id = ?", served.request_id):
            return
        if self._one("SELECT 1 FROM rows WHERE request_id = ?", served.request_id):
            return
        row = (served.features, _json(served.prediction), served.probability, served.version, served.served_at)
        early = totals["waiting_labels"] and self._one(
            "SELECT label, score, received_at FROM labels WHERE request_id = ?", served.request_id
        )
        if early:
            self._execute("DELETE FROM labels WHERE request_id = ?", (served.request_id,))
            totals["waiting_labels"] -= 1
            totals[FeedbackOutcome.ACCEPTED.value] += 1
            self._append((served.request_id, *early, *row, None, None, None), totals)
        else:
            self._execute(_ADD_SERVED, (served.request_id, *row))
            totals["waiting_predictions"] += 1

    def _take_shadow(self, shadow: ShadowPrediction, totals: Counter[str]) -> None:
        values = (_json(shadow.prediction), shadow.probability, shadow.version, shadow.request_id)
        for table in ("served", "rows"):
            found = self._execute(
                f"UPDATE {table} SET shadow_answer = ?, shadow_propensity = ?, shadow_version = ? WHERE request_id = ?", values
            )
            if found.rowcount:
                return
        totals["dropped_shadow_predictions"] += 1

    def _take_feedback(self, item: FeedbackItem, totals: Counter[str]) -> FeedbackOutcome:
        label = None if item.label is None else _json(item.label)
        said = (item.request_id, label, item.score, item.received_at)
        if item.request_id is not None:
            before = self._said(item.request_id)
            if before is not None and not _says(item, *before):
                return FeedbackOutcome.CONFLICT
            if before is not None and not (item.features is not None and self._gives_up_waiting(item.request_id, totals)):
                return FeedbackOutcome.DUPLICATE
            served = self._one(f"SELECT {_SERVED} FROM served WHERE request_id = ?", item.request_id)
            if served:
                self._execute("DELETE FROM served WHERE request_id = ?", (item.request_id,))
                totals["waiting_predictions"] -= 1
                self._append((*said, *served), totals)
                return FeedbackOutcome.ACCEPTED
        if item.features is not None and label is not None:
            self._append((*said, item.features, *([None] * 7)), totals)
            return FeedbackOutcome.ACCEPTED
        self._execute("INSERT INTO labels (request_id, label, score, received_at) VALUES (?, ?, ?, ?)", said)
        totals["waiting_labels"] += 1
        return FeedbackOutcome.UNKNOWN

    def _gives_up_waiting(self, request_id: str, totals: Counter[str]) -> bool:
        """Whether a label waited for this prediction; now that the features have come with it, it need not."""
        waited = self._execute("DELETE FROM labels WHERE request_id = ?", (request_id,)).rowcount
        totals["waiting_labels"] -= waited
        return waited > 0

    def _said(self, request_id: str) -> tuple[Any, ...] | None:
        """(label, score) that was given for the request before."""
        return self._one("SELECT label, score FROM rows WHERE request_id = ?", request_id) or self._one(
            "SELECT label, score FROM labels WHERE request_id = ?", request_id
        )

    def _append(self, row: tuple[Any, ...], totals: Counter[str]) -> None:
        received_at, served_at = row[3], row[8]
        if served_at is not None:
            self.label_delays_s.append(max(0.0, received_at - served_at))
        self._execute(_ADD_ROW, (totals["rows"], *row))
        totals["rows"] += 1

    def _completes_rows(self, batch: JournalBatch) -> bool:
        """Whether a label waits for one of the predictions. What is learned must not be lost, so the row has to be durable."""
        if not self._file.totals["waiting_labels"]:
            return False
        with self._file.translated("read"):
            return any(self._one("SELECT 1 FROM labels WHERE request_id = ?", served.request_id) for served in batch.served)

    def _one(self, query: str, request_id: str) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._execute(query, (request_id,)).fetchone()
        return row

    # --- bounds

    def _drop_oldest(self, totals: Counter[str]) -> None:
        excess = totals["waiting_predictions"] - self._config.keep_predictions
        if excess > 0:
            self._delete_first("served", "number", excess)
            totals["waiting_predictions"] -= excess
            totals["dropped_predictions"] += excess
        excess = totals["waiting_labels"] - self._config.keep_predictions
        if excess > 0:
            self._delete_first("labels", "number", excess)
            totals["waiting_labels"] -= excess
            totals[FeedbackOutcome.EXPIRED.value] += excess

    def _tidy(self, totals: Counter[str]) -> None:
        """Expires what has waited for too long, and deletes rows that are learned and old. Every second, a part at a time."""
        now = self._clock()
        if now < self._tidy_at:
            return
        before = now - self._config.label_ttl_s
        predictions = self._delete_first("served", "served_at", _TIDY_ROWS, before)
        totals["waiting_predictions"] -= predictions
        totals["dropped_predictions"] += predictions
        labels = self._delete_first("labels", "received_at", _TIDY_ROWS, before)
        totals["waiting_labels"] -= labels
        totals[FeedbackOutcome.EXPIRED.value] += labels
        kept_from = max(SAMPLE_ROWS, totals["kept_from"])
        stop = min(totals["learned"] - self._config.keep_rows, kept_from + _TIDY_ROWS)
        if stop > kept_from:
            self._execute("DELETE FROM rows WHERE offset >= ? AND offset < ?", (kept_from, stop))
            totals["kept_from"] = stop
        is_done = max(predictions, labels, stop - kept_from) < _TIDY_ROWS
        self._tidy_at = now + _TIDY_EVERY_S if is_done else now

    def _delete_first(self, table: str, order: str, rows: int, before: float | None = None) -> int:
        where = "" if before is None else f"WHERE {order} < {before!r}"
        return self._execute(
            f"DELETE FROM {table} WHERE number IN (SELECT number FROM {table} {where} ORDER BY {order} LIMIT ?)", (rows,)
        ).rowcount


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def _says(item: FeedbackItem, label: str | None, score: float | None) -> bool:
    """Whether the item says what was said before."""
    return _equal(item.label, None if label is None else json.loads(label)) and _equal(item.score, score)


def _equal(a: Any, b: Any) -> bool:
    """As JSON values: 1 is 1.0, and true is neither."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(value, b[key]) for key, value in a.items())
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_equal, a, b))
    return isinstance(a, bool) is isinstance(b, bool) and bool(a == b)
