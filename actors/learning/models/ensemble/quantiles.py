"""Features by their quantiles: as hat functions for linear models, and as codes for trees.

The edges of hats are quantiles of the first rows, and stay: what is learned of a hat keeps its meaning. A tree keeps the edges
that it was grown with as thresholds, so those of codes are fitted anew as more rows come and as values drift. A value between
two edges of hats belongs to both by its distance (piecewise-linear encoding: Gorishniy, Rubachev, Babenko, "On Embeddings for
Numerical Features in Tabular Deep Learning", NeurIPS 2022, section 3.2, as hat functions).

Shapes: N rows, D features, B edges, H = B + 1 hats of a feature, the last for a missing value.
"""

import numpy as np

from actors.learning.models.ensemble.compiled import compiled

FIT_ROWS, _REFIT_ROWS = 200, 5000
HAT_EDGES, CODE_EDGES = 16, 254
HATS = HAT_EDGES + 1
CODES = CODE_EDGES + 2  # the last: missing


def edges_of(x_ND: np.ndarray, edges: int) -> np.ndarray:
    """float32 [D, edges], ascending, of rows with NaN where a value is missing; zeros where all are."""
    is_missing_D = np.isnan(x_ND).all(axis=0)
    filled_ND = np.where(is_missing_D, 0.0, x_ND.astype(np.float64))
    return np.nanquantile(filled_ND, np.linspace(0.0, 1.0, edges), axis=0).T.astype(np.float32).copy()


def is_due(rows_before: int, rows_after: int) -> bool:
    """Whether the edges of codes are to be fitted: as soon as there are rows for it, as these double, and every so many."""
    doublings = [(rows // FIT_ROWS).bit_length() for rows in (rows_before, rows_after)]
    return doublings[0] != doublings[1] or rows_before // _REFIT_ROWS != rows_after // _REFIT_ROWS


@compiled
def hats(x_ND: np.ndarray, edges_DB: np.ndarray, at_NA: np.ndarray, hat_NA: np.ndarray) -> None:
    """The two hats of each value: their places among D * H, and their heights, which add up to 1. A = 2 D."""
    rows, features = x_ND.shape
    edges = edges_DB.shape[1]
    for d in range(features):
        first = d * (edges + 1)
        for n in range(rows):
            value = x_ND[n, d]
            part = np.float32(0)
            if value != value:
                at_NA[n, 2 * d], at_NA[n, 2 * d + 1] = first + edges, first
                hat_NA[n, 2 * d], hat_NA[n, 2 * d + 1] = np.float32(1), np.float32(0)
                continue
            upto = 0
            for step in (8, 4, 2, 1):
                upto += step if edges_DB[d, upto + step - 1] <= value else 0
            low = max(upto - 1, 0)
            width = edges_DB[d, low + 1] - edges_DB[d, low]
            if width > 0:
                part = min(max((value - edges_DB[d, low]) / width, np.float32(0)), np.float32(1))
            at_NA[n, 2 * d], at_NA[n, 2 * d + 1] = first + low, first + low + 1
            hat_NA[n, 2 * d], hat_NA[n, 2 * d + 1] = np.float32(1) - part, part


def hats_of(x_ND: np.ndarray, edges_DB: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, features = x_ND.shape
    at_NA, hat_NA = np.empty((rows, 2 * features), np.int32), np.empty((rows, 2 * features), np.float32)
    hats(np.array(x_ND, order="C"), edges_DB, at_NA, hat_NA)
    return at_NA, hat_NA


def dense(at_NA: np.ndarray, hat_NA: np.ndarray, width: int) -> np.ndarray:
    """float32 [N, width]"""
    dense_NW = np.zeros((len(at_NA), width), np.float32)
    np.put_along_axis(dense_NW, at_NA, hat_NA, axis=1)
    return dense_NW


@compiled
def code(x_ND: np.ndarray, edges_DB: np.ndarray, code_ND: np.ndarray) -> None:
    """uint8: how many edges lie below the value; CODES - 1 where it is missing."""
    rows, features = x_ND.shape
    edges_C = np.empty(CODES, np.float32)
    for d in range(features):
        edges_C[:] = np.float32(np.inf)
        edges_C[: edges_DB.shape[1]] = edges_DB[d]
        for n in range(rows):
            value = x_ND[n, d]
            below = 0
            for step in (128, 64, 32, 16, 8, 4, 2, 1):  # no branch that a processor could guess wrong
                below += step if edges_C[below + step - 1] < value else 0
            code_ND[n, d] = below if value == value else CODES - 1


def codes_of_rows(x_ND: np.ndarray, edges_DB: np.ndarray) -> np.ndarray:
    code_ND = np.empty(x_ND.shape, np.uint8)
    code(np.array(x_ND, order="C"), edges_DB, code_ND)
    return code_ND
