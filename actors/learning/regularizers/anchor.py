"""The version that is held on to: one of the stream's past, taken anew after so many rows.

Streams have no tasks that end, so rows are what tells when there is something to keep. Shapes: P weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from actors.learning.state import Layout, ModelState, relaid

ANCHOR, ROWS, OUTPUTS = "anchor", "anchor_rows", "anchor_outputs"


@dataclass(frozen=True, slots=True)
class Anchor:
    """flat_P is laid out like the weights of the version that it was found in."""

    layout: Layout
    flat_P: np.ndarray
    rows: int  # that it had learned
    outputs: int  # that it had
    is_new: bool

    @classmethod
    def of(cls, state: ModelState, every_rows: int) -> "Anchor | None":
        """What the version holds on to, or the version itself where that is due; None before the first."""
        rows = int(state.tied.get(ROWS, 0))
        if state.layout and state.rows - rows >= every_rows:
            outputs = max(1, len(state.class_counts_K))
            return cls(state.layout, state.flat_P, state.rows, outputs, True)
        if ANCHOR not in state.tied:
            return None
        return cls(state.layout, state.tied[ANCHOR], rows, int(state.tied[OUTPUTS]), False)

    def to_tied(self, layout: Layout) -> Mapping[str, np.ndarray]:
        """As the state of a version with `layout`."""
        return {
            ANCHOR: relaid(self.flat_P, self.layout, layout),
            ROWS: np.array(self.rows, np.int64),
            OUTPUTS: np.array(self.outputs, np.int64),
        }
