"""Five gamblers who bet on one version being better than the other, each a fixed part of the capital at every row.

A row's gain is the difference of the two losses, -1 to 1. Where its expectation, given all that went before, is at most
zero, no capital grows in expectation; capital that has grown a lot is therefore evidence, whenever one looks at it.
Which bet grows fastest depends on the mean gain by its variance, which nobody knows: the mean of the five is within a few
labels of the best (method of mixtures: Waudby-Smith and Ramdas, "Estimating Means of Bounded Random Variables by Betting",
JRSS B 86, 2024, section 4.2). `benchmarks/gate.py` has what it costs. All capital is in logarithms. Shapes: N rows, K bets.
"""

import numpy as np

BET_K = np.array([0.04, 0.1, 0.22, 0.45, 0.9])


def log_capital(before_K: np.ndarray, gain_N: np.ndarray) -> np.ndarray:
    """[K, 1 + N]: each gambler's before the first row and after every one; bit for bit the same however rows are cut."""
    growth_KN = np.log1p(np.multiply.outer(BET_K, gain_N))
    capital_KN: np.ndarray = np.add.accumulate(np.concatenate([before_K[:, None], growth_KN], axis=1), axis=1)
    return capital_KN


def log_mean(capital_KN: np.ndarray) -> np.ndarray:
    """[N]: the logarithm of the mean capital."""
    mean_N: np.ndarray = np.logaddexp.reduce(capital_KN, axis=0) - np.log(len(BET_K))
    return mean_N
