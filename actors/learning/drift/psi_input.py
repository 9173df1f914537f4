"""The population stability index of every column: how far the shares of a window's bins are from the reference's.

Where nothing has changed it is about (1/R + 1/W) times chi-square with as many degrees of freedom as there are bins less one
(Yurdakul, "Statistical Properties of Population Stability Index", 2018); the quantile is bounded as by Laurent and Massart,
"Adaptive Estimation of a Quadratic Functional", Annals of Statistics 28, 2000, lemma 1.
"""

from math import log
from typing import Literal

import numpy as np

from actors.learning.drift.input_config import InputWatchConfig
from actors.learning.section import setting

_PRIOR_ROWS = 0.5  # in every bin, so that an empty one does not make the index infinite


class PsiInputConfig(InputWatchConfig):
    kind: Literal["psi_input"] = setting(
        "psi_input", "Population stability index of the inputs (or predictions), every column of them: needs no labels."
    )


def stability_indices(reference_DB: np.ndarray, window_DB: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Per column the index, and the one that chance exceeds with probability about `alpha`. [D] each."""
    used_DB = (reference_DB + window_DB) > 0
    expected_DB, seen_DB = (reference_DB + _PRIOR_ROWS) * used_DB, (window_DB + _PRIOR_ROWS) * used_DB
    expected_DB, seen_DB = (counts / counts.sum(axis=1, keepdims=True) for counts in (expected_DB, seen_DB))
    with np.errstate(divide="ignore", invalid="ignore"):
        parts_DB = np.where(used_DB, (seen_DB - expected_DB) * (np.log(seen_DB) - np.log(expected_DB)), 0.0)
    freedom_D = used_DB.sum(axis=1) - 1
    x = log(1 / alpha)
    quantile_D = freedom_D + 2 * np.sqrt(freedom_D * x) + 2 * x
    return parts_DB.sum(axis=1), quantile_D * (1 / int(reference_DB[0].sum()) + 1 / int(window_DB[0].sum()))
