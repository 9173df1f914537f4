"""Linear experts that learn from every row as its label comes, at several step sizes.

Nobody knows the right one beforehand: it differs tenfold between streams, and changes within one. Momentum is left out: from
one row at a time it carries the last row's error into rows that it has nothing to do with. Plain gradient steps; steps divided
by the root mean square of recent gradients (Tieleman and Hinton 2012, RMSprop), which always follow; and steps divided by the
root of the sum of all squares (Duchi, Hazan, Singer, JMLR 2011, AdaGrad), which calm down input by input: who comes seldom
still learns quickly when most others have settled. Where that sum fades they follow a little.

Shapes: N rows to predict, T labelled rows, F inputs (the last of a dense view is 1), A inputs of a row that may be active, H
heads, K outputs. A step, 4 numbers: its size, what is left of the earlier squares, what a new one adds, and what is added to
their root.
"""

import numpy as np

from actors.learning.models.ensemble.compiled import compiled
from actors.learning.models.ensemble.targets import CLASSES, answer, error

STEPS_H4 = np.array(
    [[0.03, 0, 0, 1], [0.1, 0, 0, 1], [1e-3, 0.99, 0.01, 1e-8], [1e-2, 0.99, 0.01, 1e-8], [3e-2, 0.99, 0.01, 1e-8]], np.float32
)
VALUE_STEPS_H4 = np.array([[0.1, 1, 1, 0.1], [0.3, 1, 1, 0.1], [0.4, 0.999, 1, 0.1]], np.float32)


@compiled
def _descend(weights_F: np.ndarray, squares_F: np.ndarray, x_F: np.ndarray, gap: float, step_4: np.ndarray) -> None:
    """One step along gap * x_F. In place."""
    rate, kept, new, least = step_4[0], step_4[1], step_4[2], step_4[3]
    if new == 0:
        for f in range(len(x_F)):
            weights_F[f] -= rate * gap * x_F[f]
        return
    for f in range(len(x_F)):
        gradient = gap * x_F[f]
        squares_F[f] = kept * squares_F[f] + new * gradient * gradient
        weights_F[f] -= rate * gradient / (np.sqrt(squares_F[f]) + least)


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
    steps_H4: np.ndarray,
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
                        _descend(weights_HKF[h, k], squares_HKF[h, k], x_TF[t], gap_K[k], steps_H4[h])
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
def sparse_heads(
    aim: int,
    at_NA: np.ndarray,
    x_NA: np.ndarray,
    at_TA: np.ndarray,
    x_TA: np.ndarray,
    code_T: np.ndarray,
    value_T: np.ndarray,
    weight_T: np.ndarray,
    upto_N: np.ndarray,
    known_K: np.ndarray,
    weights_HFK: np.ndarray,
    squares_HFK: np.ndarray,
    steps_H4: np.ndarray,
    said_NEK: np.ndarray,
    first: int,
) -> None:
    """As `dense_heads`, on inputs of which few are not zero: what they are, and where the weights of each lie."""
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
                    if x_TA[t, a] != 0:
                        for k in range(outputs):
                            out_K[k] += weights_HFK[h, at_TA[t, a], k] * x_TA[t, a]
                answer(aim, out_K, known_K, p_K)
                error(aim, p_K, known_K, code_T[t], value_T[t], weight_T[t], gap_K)
                rate, kept, new, least = steps_H4[h, 0], steps_H4[h, 1], steps_H4[h, 2], steps_H4[h, 3]
                for a in range(active):
                    f, x = at_TA[t, a], x_TA[t, a]
                    if x != 0 and new == 0:
                        for k in range(outputs):
                            weights_HFK[h, f, k] -= rate * x * gap_K[k]
                    elif x != 0:
                        for k in range(outputs):
                            gradient = gap_K[k] * x
                            squares_HFK[h, f, k] = kept * squares_HFK[h, f, k] + new * gradient * gradient
                            weights_HFK[h, f, k] -= rate * gradient / (np.sqrt(squares_HFK[h, f, k]) + least)
            t += 1
        if n < rows:
            for h in range(heads):
                out_K[:] = np.float32(0)
                for a in range(active):
                    if x_NA[n, a] != 0:
                        for k in range(outputs):
                            out_K[k] += weights_HFK[h, at_NA[n, a], k] * x_NA[n, a]
                answer(aim, out_K, known_K, said_NEK[n, first + h])
