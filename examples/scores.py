"""What a window of predictions is worth. Shapes: N rows, in the order of the stream."""

from collections.abc import Callable

import numpy as np

Score = Callable[[np.ndarray, np.ndarray], float]
"""From what was told of N rows, and what was true, to a score; NaN where the rows cannot tell."""


def caught(share: float) -> Score:
    """The part of the positives among the `share` of the rows that are most suspected: recall at a fixed alert rate."""

    def score(suspicion_N: np.ndarray, is_positive_N: np.ndarray) -> float:
        alerts_N = np.argsort(-suspicion_N, kind="stable")[: round(share * len(suspicion_N))]
        return float(is_positive_N[alerts_N].sum() / is_positive_N.sum()) if is_positive_N.any() else float("nan")

    return score


def area_under_curve(score_N: np.ndarray, is_positive_N: np.ndarray) -> float:
    """How often a positive is scored above a negative, ties by half (Hanley and McNeil 1982, by ranks)."""
    positives = int(is_positive_N.sum())
    negatives = len(is_positive_N) - positives
    if not positives or not negatives:
        return float("nan")
    _, at_N, count_U = np.unique(score_N, return_inverse=True, return_counts=True)
    mean_rank_U = np.cumsum(count_U) - (count_U - 1) / 2
    ranks = mean_rank_U[at_N][is_positive_N.astype(bool)].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def share_right(told_N: np.ndarray, true_N: np.ndarray) -> float:
    return float(np.mean(told_N == true_N))


def mean_absolute_error(told_N: np.ndarray, true_N: np.ndarray) -> float:
    return float(np.mean(np.abs(told_N - true_N)))
