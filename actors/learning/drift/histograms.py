"""A reference and the latest window of many columns at once, as counts in bins that the reference sets.

Shapes: N rows, D columns, R reference rows, E edges, B = E + 2 bins: below the first edge, between edges, above the last, and
missing values.
"""

import numpy as np

from actors.learning.part import Tree

_QUANTILES = np.linspace(0.0, 1.0, 21)
_CHUNK_CELLS = 1 << 20  # of x_ND at once, so that a wide round needs no wide memory


class Histograms:
    """Takes `reference_rows` rows, then counts windows of `window_rows` rows.

    A column's edges are the twentieths of its reference, each once, and one just below its least value; so a column that was
    constant, or nearly always zero, shows a new value as well as any other. A missing value has a bin of its own. What it
    keeps does not grow: the reference's rows until there are enough of them, and counts afterwards.
    """

    def __init__(self, reference_rows: int, window_rows: int) -> None:
        self._reference_rows, self._window_rows = reference_rows, window_rows
        self.renew()

    def renew(self) -> None:
        """Forgets everything: the next rows are the reference."""
        self._first: list[np.ndarray] = []
        self._first_rows = 0
        self._edges_ED: np.ndarray | None = None
        self.reference_DB = np.zeros((0, 0), np.int64)
        self.window_DB = np.zeros((0, 0), np.int64)
        self._filled = 0

    @property
    def is_full(self) -> bool:
        """Whether a window stands complete, to be looked at and then `clear`ed."""
        return self._edges_ED is not None and self._filled == self._window_rows

    @property
    def is_empty(self) -> bool:
        """Whether no row is in the window: it starts with the next one."""
        return self._filled == 0

    @property
    def columns(self) -> int | None:
        """None before the first row."""
        if self._edges_ED is not None:
            return int(self._edges_ED.shape[1])
        return int(self._first[0].shape[1]) if self._first else None

    def clear(self) -> None:
        self.window_DB = np.zeros_like(self.reference_DB)
        self._filled = 0

    def take(self, x_ND: np.ndarray) -> int:
        """Takes in rows up to the end of the reference or the window; returns how many of `x_ND` that were."""
        if self._edges_ED is None:
            taken = min(len(x_ND), self._reference_rows - self._first_rows)
            self._first.append(np.array(x_ND[:taken], np.float32))
            self._first_rows += taken
            if self._first_rows == self._reference_rows:
                self._set_edges(np.concatenate(self._first))
            return taken
        taken = min(len(x_ND), self._window_rows - self._filled)
        self.window_DB += self._counts(x_ND[:taken])
        self._filled += taken
        return taken

    def _set_edges(self, x_RD: np.ndarray) -> None:
        columns = x_RD.shape[1]
        edges_ED = np.full((len(_QUANTILES) + 1, columns), np.inf, np.float32)
        for d in range(columns):
            known = x_RD[np.isfinite(x_RD[:, d]), d]
            if len(known):
                edges = np.unique(np.quantile(known, _QUANTILES, method="lower"))
                edges_ED[: len(edges) + 1, d] = np.concatenate([[np.nextafter(edges[0], np.float32(-np.inf))], edges])
        self._edges_ED = edges_ED
        self._first, self._first_rows = [], 0
        self.reference_DB = self._counts(x_RD)
        self.clear()

    def _counts(self, x_ND: np.ndarray) -> np.ndarray:
        assert self._edges_ED is not None
        edges, columns = self._edges_ED.shape
        bins = edges + 2
        counts = np.zeros(columns * bins, np.int64)
        rows = max(1, _CHUNK_CELLS // max(1, columns))
        for start in range(0, len(x_ND), rows):
            part_ND = x_ND[start : start + rows]
            bin_ND = np.zeros(part_ND.shape, np.int64)
            for edge_D in self._edges_ED:
                bin_ND += part_ND > edge_D
            bin_ND[np.isnan(part_ND)] = bins - 1
            bin_ND += np.arange(columns) * bins
            counts += np.bincount(bin_ND.ravel(), minlength=len(counts))
        return counts.reshape(columns, bins)

    def to_state(self) -> Tree:
        return {
            "first": np.concatenate(self._first) if self._first else None,
            "edges": self._edges_ED,
            "reference": self.reference_DB,
            "window": self.window_DB,
            "filled": self._filled,
        }

    def restore(self, state: Tree) -> None:
        self.renew()
        if state["first"] is not None:
            self._first, self._first_rows = [state["first"]], len(state["first"])
        self._edges_ED, self._filled = state["edges"], state["filled"]
        self.reference_DB, self.window_DB = state["reference"].copy(), state["window"].copy()
