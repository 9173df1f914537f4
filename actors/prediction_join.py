"""Pairs each prediction with its label by row number, whichever of the two arrives first."""

import numpy as np

from actors.learning.part import Tree

Columns = dict[str, np.ndarray]  # always with "row": int64, ascending, unique; the others are as long

WAITING_ROWS = 262_144
WAITING_BYTES = 256 * 2**20
REMEMBERED_ROWS = 65_536
_COUNTS = ("accepted_predictions", "repeated_predictions", "repeated_labels", "dropped_predictions", "dropped_labels")


class PredictionJoin:
    """Rows wait, predictions and labels each, up to 262,144 rows and 256 MiB; then the oldest are dropped and counted.

    The first prediction of a row counts and a repeat is counted, also after the row has been joined: the last 65,536
    joined rows are remembered, and a prediction or label for a row below all of these comes too late and is dropped.
    """

    def __init__(self) -> None:
        self._predictions: Columns = {"row": np.empty(0, dtype=np.int64)}
        self._labels: Columns = {"row": np.empty(0, dtype=np.int64)}
        self._joined_row_N = np.empty(0, dtype=np.int64)
        self._forgotten_row = -1  # joined rows up to here are no longer remembered one by one
        self.accepted_predictions = 0
        self.repeated_predictions = self.repeated_labels = 0
        self.dropped_predictions = self.dropped_labels = 0

    def to_state(self) -> Tree:
        return {
            "predictions": self._predictions,
            "labels": self._labels,
            "joined_rows": self._joined_row_N,
            "forgotten_row": self._forgotten_row,
            **{name: getattr(self, name) for name in _COUNTS},
        }

    def restore(self, state: Tree) -> None:
        self._predictions, self._labels = dict(state["predictions"]), dict(state["labels"])
        self._joined_row_N, self._forgotten_row = state["joined_rows"], state["forgotten_row"]
        for name in _COUNTS:
            setattr(self, name, state[name])

    @property
    def waiting_predictions(self) -> int:
        return len(self._predictions["row"])

    @property
    def waiting_labels(self) -> int:
        return len(self._labels["row"])

    def add_predictions(self, columns: Columns) -> Columns:
        """Returns those that count, in row order: the first of each row."""
        fresh, repeated, late = self._fresh(columns, self._predictions)
        self.repeated_predictions += repeated
        self.dropped_predictions += late
        self.accepted_predictions += len(fresh["row"])
        self._predictions = _merge(self._predictions, fresh)
        return fresh

    def add_labels(self, row_N: np.ndarray, label_N: np.ndarray) -> None:
        fresh, repeated, late = self._fresh({"row": row_N, "label": label_N}, self._labels)
        self.repeated_labels += repeated
        self.dropped_labels += late
        self._labels = _merge(self._labels, fresh)

    def _fresh(self, columns: Columns, waiting: Columns) -> tuple[Columns, int, int]:
        row_N = columns["row"]
        unique_N, first_N = np.unique(row_N, return_index=True)
        again_N = _contains(waiting["row"], unique_N) | _contains(self._joined_row_N, unique_N)
        late_N = ~again_N & (unique_N <= self._forgotten_row)
        kept = _pick(columns, first_N[~again_N & ~late_N])
        return kept, len(row_N) - len(kept["row"]) - int(late_N.sum()), int(late_N.sum())

    def take(self) -> Columns:
        """The rows that have both now, in row order: the predictions' columns and `label`. They wait no longer."""
        predicted_N = _contains(self._labels["row"], self._predictions["row"])
        labelled_N = _contains(self._predictions["row"], self._labels["row"])
        joined = _pick(self._predictions, predicted_N)
        joined["label"] = self._labels["label"][labelled_N] if "label" in self._labels else np.empty(0)
        if len(joined["row"]):
            self._predictions = _pick(self._predictions, ~predicted_N)
            self._labels = _pick(self._labels, ~labelled_N)
            remembered_N = np.sort(np.concatenate([self._joined_row_N, joined["row"]]), kind="stable")
            if len(remembered_N) > REMEMBERED_ROWS:
                self._forgotten_row = max(self._forgotten_row, int(remembered_N[-REMEMBERED_ROWS - 1]))
            self._joined_row_N = remembered_N[-REMEMBERED_ROWS:].copy()
        return joined

    def take_overflow(self) -> Columns:
        """The oldest waiting predictions beyond the bound, which wait no longer; surplus labels are forgotten."""
        surplus = max(0, self.waiting_labels - WAITING_ROWS)
        self.dropped_labels += surplus
        self._labels = _pick(self._labels, slice(surplus, None)) if surplus else self._labels
        rows = self.waiting_predictions
        row_bytes = sum(column.nbytes for column in self._predictions.values()) // max(1, rows)
        surplus = max(0, rows - min(WAITING_ROWS, WAITING_BYTES // max(1, row_bytes)))
        self.dropped_predictions += surplus
        overflow = _pick(self._predictions, slice(0, surplus))
        self._predictions = _pick(self._predictions, slice(surplus, None)) if surplus else self._predictions
        return overflow

    def take_waiting(self) -> Columns:
        """Every prediction whose label has not come; none waits afterwards."""
        waiting = self._predictions
        self._predictions = _pick(waiting, slice(0, 0))
        return waiting


def _contains(sorted_M: np.ndarray, row_N: np.ndarray) -> np.ndarray:
    if len(sorted_M) == 0:
        return np.zeros(len(row_N), dtype=bool)
    found_N: np.ndarray = sorted_M[np.minimum(np.searchsorted(sorted_M, row_N), len(sorted_M) - 1)] == row_N
    return found_N


def _pick(columns: Columns, which: np.ndarray | slice) -> Columns:
    """Copies, so that nothing kept here pins a batch in the object store."""
    return {name: column[which].copy() for name, column in columns.items()}


def _merge(waiting: Columns, fresh: Columns) -> Columns:
    if len(waiting["row"]) == 0:
        return fresh
    if len(fresh["row"]) == 0:
        return waiting
    order = np.argsort(np.concatenate([waiting["row"], fresh["row"]]), kind="stable")
    return {name: _stack(waiting[name], fresh[name])[order] for name in waiting}


def _stack(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Stacks columns; matrices of different widths (classes known so far) are padded with zeros."""
    if first.ndim == 2 and first.shape[1] != second.shape[1]:
        width = max(first.shape[1], second.shape[1])
        first, second = (np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in (first, second))
    return np.concatenate([first, second])
