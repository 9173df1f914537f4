"""Experts that look at no feature: what the latest labels were. In a stream whose labels come in runs they are hard to beat.

Shapes: N rows to predict, T labelled rows, J rates of forgetting, K outputs.
"""

import numpy as np

from actors.learning.models.ensemble.compiled import compiled
from actors.learning.models.ensemble.targets import CLASSES, SCORES

KEPT_J = np.array([0.5, 0.9, 0.98, 0.998, 1.0], np.float32)
EXPERTS = len(KEPT_J) + 1
_TRANSITION_KEPT = np.float32(0.98)


@compiled
def recent_labels(
    aim: int,
    code_T: np.ndarray,
    value_T: np.ndarray,
    upto_N: np.ndarray,
    kept_J: np.ndarray,
    sums_JK: np.ndarray,
    weights_JK: np.ndarray,
    last_1: np.ndarray,
    follows_KK: np.ndarray,
    said_NEK: np.ndarray,
    first: int,
) -> None:
    """Shares of the classes, or mean values or scores, that fade at the rates `kept_J`; and what followed the latest label.

    Changes its sums in place. `last_1` is the latest label's code, -1 before the first, or the latest value. `follows_KK` has no
    row for classes beyond its size, and none in a regression, where the last expert is the latest value itself.
    """
    rows, rates, outputs = len(upto_N), len(kept_J), sums_JK.shape[1]
    follows = follows_KK.shape[0]
    t = 0
    for n in range(rows + 1):
        while t < (upto_N[n] if n < rows else len(code_T)):
            code, value = code_T[t], value_T[t]
            is_score = aim == SCORES and value == value
            for j in range(rates):
                for k in range(outputs):
                    if aim == CLASSES or not (is_score and k != code):
                        sums_JK[j, k] *= kept_J[j]
                        weights_JK[j, k] *= kept_J[j]
                    if not (is_score and k != code):
                        weights_JK[j, k] += np.float32(1)
                if aim == CLASSES or (aim == SCORES and not is_score):
                    sums_JK[j, code] += np.float32(1)
                else:
                    sums_JK[j, code] += value
            if aim == CLASSES:
                last = int(last_1[0])
                if 0 <= last < follows and code < follows:
                    for k in range(follows):
                        follows_KK[last, k] *= _TRANSITION_KEPT
                    follows_KK[last, code] += np.float32(1)
                last_1[0] = code
            elif aim != SCORES:
                last_1[0] = value
            t += 1
        if n < rows:
            for j in range(rates):
                for k in range(outputs):
                    if aim == SCORES:
                        said_NEK[n, first + j, k] = (sums_JK[j, k] + np.float32(0.01)) / (weights_JK[j, k] + np.float32(0.02))
                    else:
                        said_NEK[n, first + j, k] = sums_JK[j, k] / max(weights_JK[j, k], np.float32(1e-6))
            last_K = said_NEK[n, first + rates]
            if aim == CLASSES:
                last = int(last_1[0])
                for k in range(outputs):
                    last_K[k] = follows_KK[last, k] if 0 <= last < follows and k < follows else np.float32(0)
            elif aim == SCORES:
                last_K[:] = np.float32(0.5)
            else:
                last_K[0] = last_1[0]
