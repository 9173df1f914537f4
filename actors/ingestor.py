"""The ingestor: from the source to rounds of clean, encoded rows.

Receives the supervisor's call for the next round, and where learning is steered the order to obey in it. Returns the round's
rows, for the object store, and a small header with their offsets. Holds its place in the stream, the rows whose labels are
not visible yet, and those that are not to be learned yet. If it dies, Ray starts it again and the supervisor tells it the
`position` in the last header: sources are re-readable, so nothing is lost.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from actors.errors import InputUnusableError, LearningError, LostPlaceError
from actors.learner_config import LearnersConfig
from actors.learning.encoding import RowEncoder
from actors.learning.labels import FEEDBACK
from actors.learning.lineage import OffsetRange
from actors.learning.order import Order, SetAside
from actors.learning.schema import Schema
from actors.learning.task import TaskConfig, TaskKind
from actors.quarantine import Quarantine, refusals
from actors.records import RoundBatch, RoundHeader, Rows, StreamDescription, StreamPosition
from actors.sources.config import StreamConfig
from actors.sources.inference import infer_schema
from actors.sources.open_source import open_source
from actors.sources.source import BadRow, BadRowReason, SourceChunk
from actors.sources.validation import RowValidator
from actors.storage import shown

logger = logging.getLogger(__name__)

# A stream of which every one of so many first rows is bad is not the stream that was meant.
_HOPELESS_ROWS = 10_000
_ORDER_LAG_ROUNDS = 2
_FLUSH_EVERY_S = 10.0  # so that whoever looks into the quarantine of a stream without an end finds what it told of


@dataclass(slots=True)
class _Segment:
    """Clean rows of one partition whose labels nobody has seen yet."""

    partition: str
    row_N: np.ndarray
    offset_N: np.ndarray
    x_ND: np.ndarray
    labels: Any  # as in CleanRows
    arrived_at: float  # of the oldest, or earlier

    def __len__(self) -> int:
        return len(self.row_N)

    def split(self, at: int) -> tuple["_Segment", "_Segment"]:
        return self[:at], self[at:]

    def __getitem__(self, s: slice) -> "_Segment":
        return _Segment(self.partition, self.row_N[s], self.offset_N[s], self.x_ND[s], self.labels[s], self.arrived_at)


class Ingestor:
    """`journal` is the file with the users' feedback, None without serving. `once`: the stream ends with what is there.
    `schema`: what rows look like, where that is known; otherwise the first rows tell.

    `clock`, `now` (the time of day) and `wait(seconds)` are the outside's time, injected.
    """

    def __init__(
        self,
        stream: StreamConfig,
        task: TaskConfig,
        learners: LearnersConfig,
        seed: int,
        storage: str,
        journal: Path | None,
        once: bool,
        clock: Callable[[], float],
        now: Callable[[], float],
        wait: Callable[[float], None],
        schema: Schema | None = None,
    ) -> None:
        self._stream, self._task, self._clock, self._now, self._wait = stream, task, clock, now, wait
        self._round_rows = learners.rows_per_round * learners.shards
        self._round_wait_s = learners.round_wait_s
        self._source = open_source(stream, task, seed, journal, once=once, clock=clock)
        self._schema = schema or infer_schema(self._source.sample(), stream, task)
        self._validator = RowValidator(self._schema, task)
        self._encoder = RowEncoder(self._schema)
        self._inputs = self._encoder.layout
        self._storage = storage
        self._quarantine = Quarantine(storage)
        self._flushed = clock()
        given = tuple(task.classes) if isinstance(task.classes, list) else ()
        self.resume(StreamPosition(classes=given), 0)

    def resume(self, position: StreamPosition, number: int) -> None:
        """Goes on from `position` with round `number`, whatever was done before."""
        self._number = number
        self._code: dict[Any, int] = {label: code for code, label in enumerate(position.classes)}
        self._quarantined: Counter[str] = Counter(position.quarantined)
        self._excluded = position.excluded
        self._next_offsets = dict(position.offsets)  # of the next row to be trained
        self._tested_offsets = dict(position.tested_offsets)
        self._trained_row = position.row
        self._row = self._tested_row = position.tested_row  # number of the next row to be read for the first time
        self._chunks: Iterator[SourceChunk | None] | None = self._source.read(position.offsets)
        self._untested: deque[_Segment] = deque()
        self._unlabelled: deque[_Segment] = deque()  # tested, their labels not visible yet
        self._backlog: deque[_Segment] = deque()  # labelled, not learned yet
        self._labelled_row = max(position.labelled_row, position.row)
        self._quiet_rounds = 0  # at the end of the stream, in which nothing happened
        self._unannounced: deque[tuple[int, OffsetRange]] = deque()  # what was read, by the number of its first row
        self._waiting = deque(position.waiting)  # what was announced and is not trained yet, likewise
        self._to_read_again = {offsets.partition: offsets.stop for _, offsets in position.waiting}
        self._bad: deque[tuple[int, BadRow]] = deque()  # refused rows that no round has passed yet
        self._last: tuple[int, tuple[RoundBatch, RoundHeader]] | None = None

    def describe(self) -> StreamDescription:
        return StreamDescription(self._schema, self._inputs, tuple(self._code))

    def next_round(self, number: int, order: Order | None = None) -> tuple[RoundBatch, RoundHeader]:
        """Up to `rows_per_round` rows for each shard; fewer where the stream has no more for now. A repeat repeats the answer.

        Without an `order` every row is learned once its label is visible. With one, rows may have to wait; while rows that have
        waited may be learned, rounds have nothing but those, so that an update is over before the next row is predicted.
        Raises InputUnusableError where the stream cannot be read, or has nothing but bad rows; LostPlaceError where this is
        not the next round, as after a restart.
        """
        if self._last and self._last[0] == number:
            return self._last[1]
        if number != self._number:
            raise LostPlaceError(f"round {number} is asked for and {self._number} is next: tell the ingestor where to resume")
        learn_before_row = order.learn_before_row if order else None
        if self._to_read_again or not self._has_waited(learn_before_row):
            self._fill()
        catches_up = self._has_waited(learn_before_row)
        test = [] if catches_up else self._take(self._untested, self._round_rows)
        if test:
            self._tested_row = int(test[-1].row_N[-1]) + 1
            self._unlabelled.extend(test)
        is_over = self._chunks is None and not self._untested
        if is_over:
            self._tested_row = self._row
        visible_row = self._row if is_over else self._tested_row - self._stream.label_delay_rows
        labelled = [] if catches_up else self._take(self._unlabelled, self._round_rows, before_row=visible_row)
        if labelled:
            self._labelled_row = int(labelled[-1].row_N[-1]) + 1
        self._backlog.extend(labelled)
        train = self._take(self._backlog, self._round_rows, before_row=learn_before_row)
        answer = self._round(number, test, labelled, train, order)
        self._last = (number, answer)
        self._number += 1
        return answer

    def _has_waited(self, learn_before_row: int | None) -> bool:
        """Whether there are rows that have waited and may be learned."""
        if not self._backlog:
            return False
        return learn_before_row is None or int(self._backlog[0].row_N[0]) < learn_before_row

    def finish(self) -> dict[str, int]:
        """Writes out what is buffered; returns the quarantined rows per reason."""
        with self._setting_aside():
            self._quarantine.close()
        return dict(self._quarantined)

    # --- reading

    def _fill(self) -> None:
        """Reads until a round is full, the stream ends, or nothing more comes within `round_wait_s`."""
        deadline = self._clock() + self._round_wait_s
        while self._chunks is not None and (self._to_read_again or self._buffered_rows() < self._round_rows):
            try:
                chunk = next(self._chunks)
            except StopIteration:
                self._chunks = None
                return
            if chunk is not None:
                self._take_in(chunk)
                continue
            left = deadline - self._clock()
            if left <= 0 and not self._to_read_again:
                return
            self._wait(max(0.001, min(left, 0.02)))

    def _buffered_rows(self) -> int:
        return sum(map(len, self._untested))

    def _take_in(self, chunk: SourceChunk) -> None:
        rows, bad = self._validator.check(chunk, self._excluded)
        arrived_at = self._now() if chunk.arrived_at is None else chunk.arrived_at
        fresh_offset = max(chunk.start, self._tested_offsets.get(chunk.partition, 0))  # below it: read again after a restart
        to_row = self._row - fresh_offset  # from an offset that is new to the number of its row
        if fresh_offset < chunk.stop:
            self._unannounced.append((self._row, OffsetRange(chunk.partition, fresh_offset, chunk.stop)))
            self._row += chunk.stop - fresh_offset
        bad = [row for row in bad if row.offset >= fresh_offset]
        if bad:
            self._refuse(bad, to_row)
        at = int(np.searchsorted(rows.offset_N, fresh_offset))
        row_N = rows.offset_N + to_row
        segment = _Segment(chunk.partition, row_N, rows.offset_N, rows.x_ND, rows.labels, arrived_at)
        if at:
            self._take_in_again(segment[:at])
        if at < len(segment):
            self._untested.append(segment[at:])
        if self._to_read_again.get(chunk.partition, chunk.stop + 1) <= chunk.stop:
            del self._to_read_again[chunk.partition]

    def _take_in_again(self, segment: _Segment) -> None:
        """Rows that have been predicted before a restart, under the numbers that they had then."""
        for first_row, offsets in self._waiting:
            if offsets.partition == segment.partition:
                a, b = (int(i) for i in np.searchsorted(segment.offset_N, (offsets.start, offsets.stop)))
                if a < b:
                    part = segment[a:b]
                    part.row_N = part.offset_N + (first_row - offsets.start)
                    known, unknown = part.split(int(np.searchsorted(part.row_N, self._labelled_row)))
                    self._backlog.extend([known] if len(known) else [])
                    self._unlabelled.extend([unknown] if len(unknown) else [])
        # Partitions may be read in another order than before; labels become visible in the order of the rows.
        self._backlog = deque(sorted(self._backlog, key=lambda s: int(s.row_N[0])))
        self._unlabelled = deque(sorted(self._unlabelled, key=lambda s: int(s.row_N[0])))

    def _refuse(self, bad: list[BadRow], to_row: int) -> None:
        first = next((row for row in bad if row.reason is not BadRowReason.EXCLUDED), None)
        if self._stream.on_bad_row == "stop" and first is not None:
            raise InputUnusableError(
                f"row {first.offset} of {first.partition}: {first.message} "
                "(stream.on_bad_row is `stop`; `quarantine` would set such rows aside and go on)"
            )
        self._bad.extend((row.offset + to_row, row) for row in bad)
        refused = sum(self._quarantined.values()) + len(self._bad)
        if self._row >= _HOPELESS_ROWS and self._row == refused and not self._excluded:
            self._settle(self._row)
            counts = self.finish()
            raise InputUnusableError(f"none of the first {self._row:,} rows can be used: {refusals(self._storage, counts)}")

    # --- handing out

    def _take(self, queue: deque[_Segment], rows: int, before_row: int | None = None) -> list[_Segment]:
        taken: list[_Segment] = []
        while queue and rows > 0:
            segment = queue.popleft()
            at = min(rows, len(segment))
            if before_row is not None:
                at = min(at, int(np.searchsorted(segment.row_N, before_row)))
            now, later = segment.split(at)
            if len(later):
                queue.appendleft(later)
            if not len(now):
                break
            taken.append(now)
            rows -= len(now)
        return taken

    def _round(
        self, number: int, test: list[_Segment], labelled: list[_Segment], train: list[_Segment], order: Order | None
    ) -> tuple[RoundBatch, RoundHeader]:
        for segment in train:
            self._next_offsets[segment.partition] = int(segment.offset_N[-1]) + 1
            self._trained_row = int(segment.row_N[-1]) + 1
        train, suspects = _divided(train, order.set_aside) if order else (train, [])
        labels = None if _bounds(labelled) == _bounds(train) else self._rows(labelled, labelled=True)
        spans = tuple(span for segment in train for span in _runs(segment))
        train_rows = self._rows(train, labelled=True)
        if self._stream.label_delay_rows == 0 and _bounds(test) == _bounds(train):
            test_rows = Rows(train_rows.row_N, train_rows.x_ND, None)
        else:
            test_rows = self._rows(test, labelled=False)
        read, quarantined = self._settle(self._tested_row, suspects)
        is_over = self._chunks is None and not self._untested and not self._unlabelled
        is_quiet = is_over and not (test or labelled or train or suspects)
        self._quiet_rounds = self._quiet_rounds + 1 if is_quiet else 0
        batch = RoundBatch(number, test_rows, train_rows, tuple(self._code), labels, self._now())
        header = RoundHeader(
            round=number,
            test_rows=len(test_rows),
            train_rows=len(train_rows),
            train_spans=spans,
            read=read,
            quarantined=quarantined,
            position=StreamPosition(
                offsets=dict(self._next_offsets),
                tested_offsets=dict(self._tested_offsets),
                waiting=tuple(self._waiting),
                row=self._trained_row,
                tested_row=self._tested_row,
                classes=tuple(self._code),
                quarantined=dict(self._quarantined),
                excluded=self._excluded,
                labelled_row=self._labelled_row,
            ),
            # The order for what was seen in a round comes two rounds later.
            is_last=is_over and (self._quiet_rounds >= _ORDER_LAG_ROUNDS if order else not self._backlog),
            arrived_at=min((segment.arrived_at for segment in train), default=None),
            order=order,
            labelled_rows=sum(map(len, labelled)),
            backlog_rows=sum(map(len, self._backlog)),
        )
        return batch, header

    def _settle(
        self, before_row: int, suspects: Sequence[tuple[_Segment, SetAside]] = ()
    ) -> tuple[tuple[OffsetRange, ...], tuple[OffsetRange, ...]]:
        """Announces what was read before row `before_row`, and quarantines the bad rows of it, and rows that are `suspects`."""
        read: list[OffsetRange] = []
        while self._unannounced and self._unannounced[0][0] < before_row:
            first_row, offsets = self._unannounced.popleft()
            stop = min(offsets.stop, offsets.start + before_row - first_row)
            read.append(OffsetRange(offsets.partition, offsets.start, stop))
            self._waiting.append((first_row, read[-1]))
            self._tested_offsets[offsets.partition] = stop
            if stop < offsets.stop:
                self._unannounced.appendleft((before_row, OffsetRange(offsets.partition, stop, offsets.stop)))
        while self._waiting and self._waiting[0][0] + len(self._waiting[0][1]) <= self._trained_row:
            self._waiting.popleft()
        bad: list[BadRow] = []
        while self._bad and self._bad[0][0] < before_row:
            bad.append(self._bad.popleft()[1])
        for segment, why in suspects:
            bad += self._suspected(segment, why)
        with self._setting_aside():
            self._quarantine.add(bad)
            if self._clock() - self._flushed >= _FLUSH_EVERY_S:
                self._quarantine.flush()
                self._flushed = self._clock()
        self._quarantined.update(str(row.reason) for row in bad)
        return tuple(read), tuple(OffsetRange(row.partition, row.offset, row.offset + 1) for row in bad)

    def _suspected(self, segment: _Segment, why: SetAside) -> Iterator[BadRow]:
        """Good rows that are not to be learned. As they were encoded: the source has them as they came."""
        message = f"one of rows {why.start:,} to {why.stop - 1:,}, which were not learned: {why.reason}"
        for offset, x_D, label in zip(segment.offset_N.tolist(), segment.x_ND, segment.labels, strict=True):
            raw: dict[str, Any] = {
                column.name: x_D[place].tolist() if place.stop - place.start > 1 else float(x_D[place.start])
                for column, place in self._encoder.places
            }
            yield BadRow(segment.partition, offset, BadRowReason(why.reason), message, raw | {self._schema.label: label})

    @contextmanager
    def _setting_aside(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LearningError(
                f"bad rows cannot be set aside in storage {shown(self._storage)}: {error}; make room there, or mend its "
                "permissions"
            ) from error

    def _rows(self, segments: list[_Segment], *, labelled: bool) -> Rows:
        y_N = self._coded(segments) if labelled else None
        if not segments:
            return Rows(np.zeros(0, np.int64), np.zeros((0, int(self._inputs)), np.float32), y_N)
        return Rows(np.concatenate([s.row_N for s in segments]), np.concatenate([s.x_ND for s in segments]), y_N)

    def _coded(self, segments: list[_Segment]) -> np.ndarray:
        """Labels as the model takes them. A class gets its code here, when the first label that names it becomes visible."""
        if self._task.kind is TaskKind.REGRESSION:
            return np.concatenate([np.asarray(s.labels, np.float64) for s in segments]) if segments else np.zeros(0)
        labels = [label for segment in segments for label in segment.labels]
        is_feedback = self._task.kind is TaskKind.FEEDBACK
        codes = [self._code.setdefault(label.answer if is_feedback else label, len(self._code)) for label in labels]
        if len(self._code) > self._task.max_classes:
            raise InputUnusableError(
                f"label {self._schema.label!r} has taken more than {self._task.max_classes} values. If it is a number to be "
                "estimated, set task.kind: regression; if these are classes, raise task.max_classes."
            )
        if is_feedback:
            given = [(code, each.score, each.propensity, each.version) for code, each in zip(codes, labels, strict=True)]
            return np.array(given, FEEDBACK)
        return np.array(codes, np.int64)


def _runs(segment: _Segment) -> list[OffsetRange]:
    """The runs of consecutive offsets in a segment."""
    breaks = np.flatnonzero(np.diff(segment.offset_N) != 1) + 1
    bounds = [0, *breaks.tolist(), len(segment)]
    return [
        OffsetRange(segment.partition, int(segment.offset_N[a]), int(segment.offset_N[b - 1]) + 1) for a, b in pairwise(bounds)
    ]


def _bounds(segments: list[_Segment]) -> list[tuple[int, int]]:
    """First and last row of each segment: two lists of segments with the same bounds hold the same rows."""
    return [(int(segment.row_N[0]), int(segment.row_N[-1])) for segment in segments]


def _divided(segments: list[_Segment], aside: Sequence[SetAside]) -> tuple[list[_Segment], list[tuple[_Segment, SetAside]]]:
    """The segments without the rows in `aside`, and those."""
    suspects: list[tuple[_Segment, SetAside]] = []
    for why in aside:
        kept: list[_Segment] = []
        for segment in segments:
            a, b = (int(i) for i in np.searchsorted(segment.row_N, (why.start, why.stop)))
            if a < b:
                suspects.append((segment[a:b], why))
            kept += [part for part in (segment[:a], segment[b:]) if len(part)] if a < b else [segment]
        segments = kept
    return segments, suspects
