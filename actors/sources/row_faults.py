"""What is wrong with the rows of a chunk, and how a message shows it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.sources.source import BadRowReason

_SHOWN_CHARACTERS = 80


class RowFaults:
    """The first fault of each row of a chunk."""

    def __init__(self, rows: int) -> None:
        self.is_bad_N = np.zeros(rows, bool)
        self.of_row: dict[int, tuple[BadRowReason, str]] = {}

    def add(self, is_bad_N: np.ndarray, reason: BadRowReason, message: Callable[[int], str]) -> None:
        for i in np.flatnonzero(is_bad_N & ~self.is_bad_N):
            self.of_row[int(i)] = (reason, message(int(i)))
        self.is_bad_N |= is_bad_N


def not_finite(what: str, value: Any) -> str:
    return f"{what} holds {shown(value)}, which is not a finite number of float32 (at most 3.4e38); leave a missing value empty"


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


def mask(array: pa.Array) -> np.ndarray:
    """A boolean array as numpy, null as False; writable."""
    return np.array(pc.fill_null(array, False).to_numpy(zero_copy_only=False), bool)
