"""Watches many columns at once: window after window against a reference. Input drift, and feeds that break.

Shapes: N rows, D columns watched, B bins. A test is made once in `window_rows` rows, at `alpha` over the number of columns
(Bonferroni), so the chance of a false alarm in a window is `alpha` at most however many columns there are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from actors.learning.drift.histograms import Histograms
from actors.learning.drift.ks_input import KsInputConfig, ks_gaps
from actors.learning.drift.psi_input import PsiInputConfig, stability_indices
from actors.learning.part import Tree

LEAST_BROKEN_COLUMNS = 3  # of fewer, any change would be one of many columns at once
_NAMED = 8  # columns in the evidence


class Phase(StrEnum):
    CHANGED = "changed"  # some columns; the next rows are the new reference
    BROKEN = "broken"  # so many at once that the feed is suspected; the reference is kept
    MENDED = "mended"  # a broken feed looks like the reference again
    STAYED = "stayed"  # it has looked broken for so long that the world must have changed; the next rows are the reference


@dataclass(frozen=True, slots=True)
class InputFinding:
    """What a window showed. `row` is its last row's number, `since` that of the first row that is meant."""

    row: int
    since: int
    phase: Phase
    evidence: Mapping[str, Any]


class InputWatch:
    """`columns[d]` names column d; several columns may bear one name (an encoded category) and then count as one.

    `broken_share`: the share of names that have to change in one window for the feed to be suspected, None: never is it.
    `patience_rows`: how long it may look broken, None: for ever. `alpha` is the chance of a false alarm in one window.
    """

    def __init__(
        self,
        config: KsInputConfig | PsiInputConfig,
        alpha: float,
        *,
        columns: Sequence[str] = (),
        broken_share: float | None = None,
        patience_rows: int | None = None,
    ) -> None:
        self._config, self._alpha, self._columns = config, alpha, tuple(columns)
        self._broken_share, self._patience_rows = broken_share, patience_rows
        self._histograms = Histograms(config.reference_rows, config.window_rows)
        self._names: list[str] = []  # of what is watched
        self._since: int | None = None  # the first row of the first window that looked broken
        self._window_row = -1  # the first row of the window

    def update_many(self, row_N: np.ndarray, x_ND: np.ndarray) -> list[InputFinding]:
        """The same as if they were fed one by one. Columns that the reference has not are seen by the next one."""
        findings: list[InputFinding] = []
        watched_D = self._watched(x_ND.shape[1])
        if len(self._names) < len(watched_D):
            self._names = [self._columns[d] if d < len(self._columns) else f"column {d}" for d in watched_D.tolist()]
        x_ND = x_ND if len(watched_D) == x_ND.shape[1] else x_ND[:, watched_D]
        at = 0
        while at < len(row_N):
            if self._window_row < 0:
                self._window_row = int(row_N[at])
            at += self._histograms.take(_of_width(x_ND[at:], self._histograms.columns))
            if self._histograms.is_full:
                findings += self._look(int(row_N[at - 1]))
            if self._histograms.is_empty:
                self._window_row = -1
        return findings

    def _watched(self, columns: int) -> np.ndarray:
        return np.linspace(0, columns - 1, min(columns, self._config.max_columns)).astype(np.int64)

    def _look(self, row: int) -> list[InputFinding]:
        histograms = self._histograms
        columns = len(histograms.reference_DB)
        test = ks_gaps if isinstance(self._config, KsInputConfig) else stability_indices
        value_D, bound_D = test(histograms.reference_DB, histograms.window_DB, self._alpha / columns)
        histograms.clear()
        changed_D = np.flatnonzero(value_D > bound_D)
        changed = list(dict.fromkeys(self._names[d] for d in changed_D[np.argsort(-value_D[changed_D], kind="stable")]))
        total = len(set(self._names))
        is_broken = (
            self._broken_share is not None
            and len(changed) >= LEAST_BROKEN_COLUMNS
            and len(changed) >= self._broken_share * total
        )
        evidence = {
            "statistic": float(value_D.max(initial=0.0)),
            "bound": float(bound_D[value_D.argmax()]) if columns else 0.0,
            "columns": changed[:_NAMED],
            "share": len(changed) / max(1, total),
        }
        if self._since is not None:
            return self._look_again(row, is_broken, evidence)
        if is_broken:
            self._since = self._window_row
            return [InputFinding(row, self._since, Phase.BROKEN, evidence)]
        if changed:
            histograms.renew()
            return [InputFinding(row, self._window_row, Phase.CHANGED, evidence)]
        return []

    def _look_again(self, row: int, is_broken: bool, evidence: Mapping[str, Any]) -> list[InputFinding]:
        assert self._since is not None
        since = self._since
        if not is_broken:
            self._since = None
            return [InputFinding(self._window_row, since, Phase.MENDED, evidence)]
        if self._patience_rows is not None and row - since >= self._patience_rows:
            self._since = None
            self._histograms.renew()
            return [InputFinding(row, since, Phase.STAYED, evidence)]
        return []

    @property
    def is_broken(self) -> bool:
        """Whether the feed is suspected now."""
        return self._since is not None

    def to_state(self) -> Tree:
        return {"histograms": self._histograms.to_state(), "since": self._since, "window_row": self._window_row}

    def restore(self, state: Tree) -> None:
        self._histograms.restore(state["histograms"])
        self._since, self._window_row = state["since"], state["window_row"]


def _of_width(x_ND: np.ndarray, columns: int | None) -> np.ndarray:
    if columns is None or x_ND.shape[1] == columns:
        return x_ND
    return np.pad(x_ND[:, :columns], ((0, 0), (0, max(0, columns - x_ND.shape[1]))))
