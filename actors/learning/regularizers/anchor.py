"""The version that is held on to: one of the stream's past, taken anew after so many rows.

Streams have no tasks that end, so rows are what tells when there is something to keep. Shapes: P weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from actors.learning.combination import mean
from actors.learning.state import Layout, ModelState, relaid

ANCHOR, ROWS, OUTPUTS = "anchor", "anchor_rows", "anchor_outputs"


def merged_tied(
    head: ModelState, parts: Sequence[tuple[Mapping[str, np.ndarray], Layout, int]], layout: Layout
) -> Mapping[str, np.ndarray]:
    """What the next version has of the regularizers: of each shard its vectors, their layout, and rows.

    Importances are a mean weighted by rows. All shards hold on to the same anchor, but for one that started from an older
    version: the newest anchor counts. Counts are the largest.
    """
    newest = max((int(tied.get(ROWS, 0)) for tied, _, _ in parts), default=0)
    if int(head.tied.get(ROWS, 0)) > newest and any(tied for tied, _, _ in parts):
        known = (ANCHOR, "fisher", "recent_fisher")
        return {name: relaid(each, head.layout, layout) if name in known else each for name, each in head.tied.items()}
    parts = [(tied, old, rows) for tied, old, rows in parts if tied and int(tied.get(ROWS, 0)) == newest]
    merged: dict[str, np.ndarray] = {}
    for name, first in parts[0][0].items() if parts else ():
        if first.ndim == 0:
            merged[name] = np.asarray(np.max([tied[name] for tied, _, _ in parts], axis=0), first.dtype)
            continue
        vectors = [relaid(tied[name], old, layout).astype(np.float64) for tied, old, _ in parts]
        merged[name] = np.asarray(mean(vectors, [rows for _, _, rows in parts]), np.float32)
    return merged


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
