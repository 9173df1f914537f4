"""Kolmogorov-Smirnov on every column: the largest gap between the distribution of the reference and that of a window.

The bound is that of Dvoretzky, Kiefer and Wolfowitz (1956) with Massart's constant (1990), for two samples as in Wei and
Dudley, "Two-sample Dvoretzky-Kiefer-Wolfowitz inequalities", Statistics and Probability Letters 82, 2012. Ties, and bins in
place of single values, only make the gap smaller.
"""

from math import log, sqrt
from typing import Literal

import numpy as np

from actors.learning.drift.input_config import InputWatchConfig
from actors.learning.section import setting


class KsInputConfig(InputWatchConfig):
    kind: Literal["ks_input"] = setting(
        "ks_input", "Kolmogorov-Smirnov test of the inputs (or predictions), every column of them: needs no labels."
    )


def ks_gaps(reference_DB: np.ndarray, window_DB: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Per column the gap, 0 to 1, and the one that chance exceeds with probability `alpha` at most. [D] each."""
    reference_rows, window_rows = int(reference_DB[0].sum()), int(window_DB[0].sum())
    gap_D = np.abs(reference_DB.cumsum(axis=1) / reference_rows - window_DB.cumsum(axis=1) / window_rows).max(axis=1)
    bound = sqrt(log(2 / alpha) * (reference_rows + window_rows) / (2 * reference_rows * window_rows))
    return gap_D, np.full(len(gap_D), bound)
