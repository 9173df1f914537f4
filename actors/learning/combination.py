"""From what several shards made of the same weights to one vector, also where one of them is out of order.

Mean, weighted by rows. Coordinate-wise trimmed mean and median: Yin et al. (2018), "Byzantine-robust distributed learning:
towards optimal statistical rates", definitions 1 and 2. Krum: Blanchard et al. (2017), "Machine learning with adversaries:
Byzantine tolerant gradient descent", section 4. Shapes: S shards, P weights.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

Strategy = Literal["mean", "trimmed_mean", "median", "krum"]


def fewest_shards(strategy: Strategy, faulty: int) -> int:
    """With fewer, `faulty` shards out of order can make of the result what they like."""
    return {"mean": 1, "krum": 2 * faulty + 3}.get(strategy, 2 * faulty + 1)


def mean(vectors: Sequence[np.ndarray], rows: Sequence[int]) -> np.ndarray | None:
    """Weighted by rows, in float64, around the first vector: equal vectors give that vector bit for bit. None for none."""
    total = sum(rows)
    if not total:
        return None
    first_P = vectors[0]
    mean_P = first_P.copy()
    for vector_P, n in zip(vectors[1:], rows[1:], strict=True):
        mean_P += n / total * (vector_P - first_P)
    return mean_P


def combined(strategy: Strategy, faulty: int, vectors: Sequence[np.ndarray], rows: Sequence[int]) -> np.ndarray | None:
    """One vector, float64. `faulty` of them may be anything; the largest and the smallest so many of a weight are left out.

    Krum is a choice, made before: here it is a mean.
    """
    trained = [vector_P for vector_P, n in zip(vectors, rows, strict=True) if n]
    if strategy in ("mean", "krum") or len(trained) < 3:
        return mean(vectors, rows)
    sorted_SP = np.sort(np.stack(trained), axis=0)
    if strategy == "median":
        middle_P: np.ndarray = (sorted_SP[(len(trained) - 1) // 2] + sorted_SP[len(trained) // 2]) / 2
        return middle_P
    trim = min(faulty, (len(trained) - 1) // 2)
    kept_SP = sorted_SP[trim : len(trained) - trim]
    return mean(list(kept_SP), [1] * len(kept_SP))


def krum(faulty: int, vectors: Sequence[np.ndarray]) -> int:
    """Which vector lies nearest to its S - faulty - 2 nearest neighbours: that many are sure to be in order."""
    shards = len(vectors)
    stack_SP = np.stack(vectors)
    squared_SS = np.array([np.square(stack_SP - each_P).sum(axis=1) for each_P in vectors])
    neighbours = max(1, shards - min(faulty, (shards - 3) // 2) - 2)
    scores_S = np.sort(squared_SS, axis=1)[:, 1 : 1 + neighbours].sum(axis=1)
    return int(scores_S.argmin())
