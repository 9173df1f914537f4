"""Linear experts that learn from every row as its label comes, at several step sizes.

Nobody knows the right one beforehand: it differs tenfold between streams, and changes within one. Momentum is left out: from
one row at a time it carries the last row's error into rows that it has nothing to do with. Plain gradient steps, and steps
divided by the root mean square of recent gradients (Tieleman and Hinton 2012, RMSprop).

Shapes: N rows to predict, T labelled rows, F inputs (the last of a dense view is 1), A active hats, H heads, K outputs.
"""

import numpy as np

from actors.learning.models.ensemble.compiled import compiled
from actors.learning.models.ensemble.targets import CLASSES, answer, error

RATES_H = np.array([0.03, 0.1, 1e-3, 1e-2, 3e-2], np.float32)
IS_SCALED_H = np.array([False, False, True, True, True])
VALUE_RATES_H = np.array([0.01, 0.03], np.float32)  # on standardised values, unscaled: simple rules are learned at once
_KEPT, _NEW, _LEAST = np.float32(0.99), np.float32(0.01), np.float32(1e-8)


@compiled
def _descend(weights_F: np.ndarray, squares_F: np.ndarray, x_F: np.ndarray, gap: float, rate: float, scaled: bool) -> None:
    if scaled:
        for f in range(len(x_F)):
            gradient = gap * x_F[f]
            squares_F[f] = _KEPT * squares_F[f] + _NEW * gradient * gradient
            weights_F[f] -= rate * gradient / (np.sqrt(squares_F[f]) + _LEAST)
    else:
        step = rate * gap
        for f in range(len(x_F)):
            weights_F[f] -= step * x_F[f]


@compiled
def dense_heads(
    aim: int,
    x_NF: np.ndarray,
    x_TF: np.ndarray,
    code_T: np.ndarray,
    value_T: np.ndarray,
    weight_T: np.ndarray,
    upto_N: np.ndarray,
    known_K: np.ndarray,
    weights_HKF: np.ndarray,
    squares_HKF: np.ndarray,
    rates_H: np.ndarray,
    is_scaled_H: np.ndarray,
    said_NEK: np.ndarray,
    first: int,
) -> None:
    """Predicts row n after learning the first `upto_N[n]` labelled rows, then learns the rest. Changes the weights in place."""
    rows, inputs = x_NF.shape
    heads, outputs, _ = weights_HKF.shape
    known_K = known_K.copy()
    out_K, p_K, gap_K = np.empty(outputs, np.float32), np.empty(outputs, np.float32), np.empty(outputs, np.float32)
    t = 0
    for n in range(rows + 1):
        while t < (upto_N[n] if n < rows else len(code_T)):
            if aim == CLASSES:
                known_K[code_T[t]] = True
            for h in range(heads):
                for k in range(outputs):
                    total = np.float32(0)
                    for f in range(inputs):
                        total += weights_HKF[h, k, f] * x_TF[t, f]
                    out_K[k] = total
                answer(aim, out_K, known_K, p_K)
                error(aim, p_K, known_K, code_T[t], value_T[t], weight_T[t], gap_K)
                for k in range(outputs):
                    if known_K[k] and gap_K[k] != 0:
                        _descend(weights_HKF[h, k], squares_HKF[h, k], x_TF[t], gap_K[k], rates_H[h], is_scaled_H[h])
            t += 1
        if n < rows:
            for h in range(heads):
                for k in range(outputs):
                    total = np.float32(0)
                    for f in range(inputs):
                        total += weights_HKF[h, k, f] * x_NF[n, f]
                    out_K[k] = total
                answer(aim, out_K, known_K, said_NEK[n, first + h])


@compiled
def hat_heads(
    aim: int,
    at_NA: np.ndarray,
    hat_NA: np.ndarray,
    at_TA: np.ndarray,
    hat_TA: np.ndarray,
    code_T: np.ndarray,
    value_T: np.ndarray,
    weight_T: np.ndarray,
    upto_N: np.ndarray,
    known_K: np.ndarray,
    weights_HFK: np.ndarray,
    squares_HFK: np.ndarray,
    rates_H: np.ndarray,
    is_scaled_H: np.ndarray,
    said_NEK: np.ndarray,
    first: int,
) -> None:
    """As `dense_heads`, on the few inputs of a row that are not zero."""
    rows, active = at_NA.shape
    heads, _, outputs = weights_HFK.shape
    known_K = known_K.copy()
    out_K, p_K, gap_K = np.empty(outputs, np.float32), np.empty(outputs, np.float32), np.empty(outputs, np.float32)
    t = 0
    for n in range(rows + 1):
        while t < (upto_N[n] if n < rows else len(code_T)):
            if aim == CLASSES:
                known_K[code_T[t]] = True
            for h in range(heads):
                out_K[:] = np.float32(0)
                for a in range(active):
                    if hat_TA[t, a] != 0:
                        for k in range(outputs):
                            out_K[k] += weights_HFK[h, at_TA[t, a], k] * hat_TA[t, a]
                answer(aim, out_K, known_K, p_K)
                error(aim, p_K, known_K, code_T[t], value_T[t], weight_T[t], gap_K)
                for a in range(active):
                    if hat_TA[t, a] != 0:
                        f, height = at_TA[t, a], hat_TA[t, a]
                        if is_scaled_H[h]:
                            for k in range(outputs):
                                gradient = gap_K[k] * height
                                squares_HFK[h, f, k] = _KEPT * squares_HFK[h, f, k] + _NEW * gradient * gradient
                                weights_HFK[h, f, k] -= rates_H[h] * gradient / (np.sqrt(squares_HFK[h, f, k]) + _LEAST)
                        else:
                            step = rates_H[h] * height
                            for k in range(outputs):
                                weights_HFK[h, f, k] -= step * gap_K[k]
            t += 1
        if n < rows:
            for h in range(heads):
                out_K[:] = np.float32(0)
                for a in range(active):
                    if hat_NA[n, a] != 0:
                        for k in range(outputs):
                            out_K[k] += weights_HFK[h, at_NA[n, a], k] * hat_NA[n, a]
                answer(aim, out_K, known_K, said_NEK[n, first + h])
