"""What crosses from one process to another. Shapes: N rows, D encoded features, K classes known so far."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from actors.learning.dealing import Slice
from actors.learning.inputs import InputLayout
from actors.learning.lineage import OffsetRange
from actors.learning.order import Order
from actors.learning.part import Tree
from actors.learning.replay import ReplaySample as ReplaySample
from actors.learning.schema import Schema


@dataclass(frozen=True, slots=True)
class Rows:
    """Good rows of one partition after another, in stream order.

    row_N: int64, the number of the row in the stream, quarantined rows counted too, strictly ascending.
    x_ND: float32, encoded; NaN where a value is missing.
    y_N: class codes, numbers or feedback (`label_dtype`); None while the labels are not visible.
    """

    row_N: np.ndarray
    x_ND: np.ndarray
    y_N: np.ndarray | None

    def __post_init__(self) -> None:
        n = len(self.row_N)
        if self.x_ND.ndim != 2 or len(self.x_ND) != n or (self.y_N is not None and len(self.y_N) != n):
            labels = None if self.y_N is None else len(self.y_N)
            raise ValueError(f"rows, features and labels disagree: {n}, {self.x_ND.shape}, {labels}")

    def __len__(self) -> int:
        return len(self.row_N)

    @classmethod
    def none(cls) -> "Rows":
        return cls(np.empty(0, np.int64), np.empty((0, 0), np.float32), None)


@dataclass(frozen=True, slots=True)
class StreamDescription:
    """What the ingestor found out about the stream before its first row."""

    schema: Schema
    inputs: InputLayout  # what each dimension of an encoded row is
    classes: tuple[Any, ...]  # those that the configuration gives; more may appear


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """Where to continue reading so that nothing is lost and nothing learned twice.

    Rows from `offsets` on have not been handed out for training. Those before `tested_offsets` have been predicted
    already, and the bad ones among them are in quarantine; `waiting` tells the numbers that they have in the stream. Rows in
    `excluded` are not to be learned at all, whenever they come: they go to quarantine.
    """

    offsets: Mapping[str, int] = field(default_factory=dict)
    tested_offsets: Mapping[str, int] = field(default_factory=dict)
    waiting: tuple[tuple[int, OffsetRange], ...] = ()  # first row number, and the offsets, in the order of their numbers
    row: int = 0  # rows with a smaller number have been trained, or are bad
    tested_row: int = 0  # number of the next row to be predicted
    classes: tuple[Any, ...] = ()
    quarantined: Mapping[str, int] = field(default_factory=dict)  # reason -> rows before `tested_row`
    excluded: tuple[OffsetRange, ...] = ()
    labelled_row: int = 0  # labels of rows with a smaller number have been handed out, for training or only for scores

    def to_state(self) -> Tree:
        return {
            "offsets": dict(self.offsets),
            "tested_offsets": dict(self.tested_offsets),
            "waiting": [[row, o.partition, o.start, o.stop] for row, o in self.waiting],
            "row": self.row,
            "tested_row": self.tested_row,
            "classes": list(self.classes),
            "quarantined": dict(self.quarantined),
            "excluded": [[o.partition, o.start, o.stop] for o in self.excluded],
            "labelled_row": self.labelled_row,
        }

    @classmethod
    def from_state(cls, state: Tree) -> "StreamPosition":
        waiting = tuple((row, OffsetRange(*offsets)) for row, *offsets in state["waiting"])
        excluded = tuple(
            OffsetRange(*offsets) for offsets in state.get("excluded", ())
        )  # versions of earlier releases have none
        return cls(**{**state, "waiting": waiting, "classes": tuple(state["classes"]), "excluded": excluded})


@dataclass(frozen=True, slots=True)
class RoundBatch:
    """One round of the stream: rows to predict, and rows to learn, whose labels have become visible by its end.

    With `stream.label_delay_rows: 0` the two are the same rows and share their arrays. `classes[code]` is the class as
    the user wrote it; it knows only classes of labels that are visible. `labelled` are the rows whose labels have become
    visible, where some of them are not to be learned yet; None: they are the train rows.
    """

    round: int
    test: Rows
    train: Rows
    classes: tuple[Any, ...]
    labelled: Rows | None = None
    read_at: float = 0.0  # seconds since 1970, UTC

    @property
    def labels(self) -> Rows:
        """The rows whose labels have become visible."""
        return self.train if self.labelled is None else self.labelled


@dataclass(frozen=True, slots=True)
class RoundHeader:
    """What the supervisor needs of a round; the rows themselves stay in the object store.

    `train_spans` are the runs of offsets of the train rows, in their order; `read` and `quarantined` the offsets that
    were read, and refused, since the round before. `order` is what was obeyed in this round, None where there is no steering.
    """

    round: int
    test_rows: int
    train_rows: int
    train_spans: tuple[OffsetRange, ...]
    read: tuple[OffsetRange, ...]
    quarantined: tuple[OffsetRange, ...]
    position: StreamPosition
    is_last: bool  # the stream is over and every label has been handed out
    arrived_at: float | None = None  # when the oldest of the train rows arrived: seconds since 1970, UTC
    order: Order | None = None
    labelled_rows: int = 0  # whose labels have become visible in this round
    backlog_rows: int = 0  # labelled, and waiting to be learned


@dataclass(frozen=True, slots=True)
class Work:
    """One shard's part of a round. The id makes a repeated answer recognisable."""

    contribution_id: str
    round: int
    shard: int
    test_slices: tuple[Slice, ...]
    train_slices: tuple[Slice, ...]
    trained: tuple[OffsetRange, ...]
    label_delay_rows: int
    replay_rows: int
    learning_rate_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a learner shard answered for its test rows, before their labels could touch anything.

    code_N: int64, -1 while no class is known; None for regression, where value_N holds the estimate.
    probability_NK: float32, None for regression.
    """

    shard: int
    version: int
    row_N: np.ndarray
    code_N: np.ndarray | None
    probability_NK: np.ndarray | None
    value_N: np.ndarray | None


@dataclass(frozen=True, slots=True)
class Echo:
    """What a learner shard found out about rows, for the replay shards: R replayed rows, N rows learned for the first time.

    slot_R, number_R and loss_R (float32, before the step) are of rows that `replay_shard` drew. row_N are row numbers,
    logits_NK (float32) the model's outputs before it learned those rows.
    """

    replay_shard: int
    slot_R: np.ndarray
    number_R: np.ndarray
    loss_R: np.ndarray
    row_N: np.ndarray
    logits_NK: np.ndarray


@dataclass(frozen=True, slots=True)
class Receipt:
    """A shard's word that work is done, small enough to travel by itself."""

    work: Work
    base_version: int
    tested_rows: int
    trained_rows: int
    replayed_rows: int
    mean_loss: float
    delta_norm: float
    busy_s: float
