"""What every source of the stream is: re-readable from any offset."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
import pyarrow as pa


class BadRowReason(StrEnum):
    """Why a row was refused; the label of `perennial_quarantined_rows_total`."""

    MALFORMED = "malformed"  # the wrong number of fields, or a broken record
    WRONG_TYPE = "wrong_type"  # text in a number, a vector of the wrong length, a label of another type
    NOT_FINITE = "not_finite"  # NaN or infinity; a missing value is null, not NaN
    UNKNOWN_COLUMN = "unknown_column"
    MISSING_COLUMN = "missing_column"
    MISSING_LABEL = "missing_label"
    UNKNOWN_CLASS = "unknown_class"  # task.classes is a list and the label is not in it
    EXCLUDED = "excluded"  # `perennial revert` has taken it out of what is learned
    BROKEN_FEED = "broken_feed"  # predicted, but not learned: the inputs looked as if the feed were broken
    FROZEN = "frozen"  # predicted, but not learned: it came while learning was frozen (drift.actions)

    @property
    def was_predicted(self) -> bool:
        """Whether the row was good, and has been predicted before it was set aside."""
        return self in (BadRowReason.BROKEN_FEED, BadRowReason.FROZEN)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that was refused, with everything needed to find and mend it."""

    partition: str
    offset: int
    reason: BadRowReason
    message: str
    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Scored:
    """A score in [0, 1] for an answer that was given with probability `propensity` by `version`."""

    score: float
    propensity: float
    version: int


@dataclass(frozen=True, slots=True)
class SourceChunk:
    """Consecutive rows `start` (included) to `stop` (excluded) of one partition, as read.

    `table` holds the rows that could be formed, `offset_N` (int64, ascending) their offsets, `malformed` the others:
    together they account for every offset from `start` to `stop`. `arrived_at` is when the oldest of them arrived, in
    seconds since 1970; None: just now.
    """

    partition: str
    start: int
    stop: int
    table: pa.Table
    offset_N: np.ndarray
    malformed: tuple[BadRow, ...] = ()
    arrived_at: float | None = None
    scored: tuple[Scored | None, ...] | None = (
        None  # by row of `table`: what its label column's answer was worth; None: a label
    )

    def __post_init__(self) -> None:
        if self.stop - self.start != self.table.num_rows + len(self.malformed) or len(self.offset_N) != self.table.num_rows:
            raise ValueError(
                f"chunk {self.partition!r} {self.start}:{self.stop} does not account for its rows: "
                f"{self.table.num_rows} formed, {len(self.malformed)} malformed, {len(self.offset_N)} offsets"
            )


class Source(Protocol):
    """A stream of rows in a fixed order. Reading twice from the same offsets gives the same rows."""

    def sample(self) -> pa.Table:
        """The first rows (at most 1,000; at least one), for inferring the schema. Consumes nothing.

        Raises InputUnusableError where there is nothing to read.
        """

    def read(self, offsets: Mapping[str, int]) -> Iterator[SourceChunk | None]:
        """Rows from `offsets` (the next offset per partition; a partition not named starts at 0), in order.

        Yields chunks of at most 8,192 rows; None where nothing has arrived yet (the caller waits and asks again); ends
        where the stream is over.
        """
