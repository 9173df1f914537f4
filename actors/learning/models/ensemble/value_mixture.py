"""The mixture of a regression's experts: recursive least squares around their mean, beside fixed-share hedges.

The experts' errors are much alike, which makes gradient steps slow; recursive least squares with forgetting (Haykin,
"Adaptive Filter Theory", section 13) on what each says beyond their mean takes that into account. A hedge over the mean,
the least-squares mixtures and the hedges decides which is to be believed (Herbster and Warmuth 1998, by squared or absolute
loss).

Shapes: N rows to predict, T labelled rows, E experts, J forgetting rates, Q hedges, X = 1 + J + Q, one output.
"""

from typing import Any

import numpy as np

from actors.learning.models.ensemble.compiled import compiled
from actors.learning.models.ensemble.mixture import late_hedge
from actors.learning.models.ensemble.targets import SQUARED

FORGETS_J = np.array([0.99, 0.999, 0.9999], np.float32)
SHARES_Q = np.array([1e-3, 1e-2], np.float32)
MIXTURES = 1 + len(FORGETS_J) + len(SHARES_Q)
_LARGEST_LOSS = 4.0
_TOP_SHARE = np.float32(1e-3)
_MOST_VARIANCE = 1.0


@compiled
def _mixed(
    said_E: np.ndarray,
    weights_JE: np.ndarray,
    trust_QE: np.ndarray,
    top_X: np.ndarray,
    beyond_E: np.ndarray,
    mixed_X: np.ndarray,
) -> Any:
    """Fills what each expert says beyond the mean, and each mixture; returns the answer."""
    experts = len(said_E)
    mean = np.float32(0)
    for e in range(experts):
        mean += said_E[e]
    mean /= experts
    for e in range(experts):
        beyond_E[e] = said_E[e] - mean
    mixed_X[0] = mean
    for j in range(len(weights_JE)):
        total = mean
        for e in range(experts):
            total += weights_JE[j, e] * beyond_E[e]
        mixed_X[1 + j] = total
    for q in range(len(trust_QE)):
        total = np.float32(0)
        for e in range(experts):
            total += trust_QE[q, e] * said_E[e]
        mixed_X[1 + len(weights_JE) + q] = total
    answer = np.float32(0)
    for x in range(len(top_X)):
        answer += top_X[x] * mixed_X[x]
    return answer


@compiled
def _loss(aim: int, gap: float) -> float:
    return min(gap * gap if aim == SQUARED else abs(gap), _LARGEST_LOSS)


@compiled
def mix_values(
    aim: int,
    said_NE: np.ndarray,
    said_TE: np.ndarray,
    is_judged_T: np.ndarray,
    age_T: np.ndarray,
    value_T: np.ndarray,
    upto_N: np.ndarray,
    weights_JE: np.ndarray,
    covariance_JEE: np.ndarray,
    trust_QE: np.ndarray,
    top_X: np.ndarray,
    forgets_J: np.ndarray,
    shares_Q: np.ndarray,
    answer_N: np.ndarray,
) -> None:
    """As `mixture.mix`, for standardised values."""
    rows, experts = said_NE.shape
    rates, hedges = len(weights_JE), len(trust_QE)
    beyond_E, gain_E = np.empty(experts, np.float32), np.empty(experts, np.float64)
    mixed_X = np.empty(len(top_X), np.float32)
    t = 0
    for n in range(rows + 1):
        while t < (upto_N[n] if n < rows else len(value_T)):
            if is_judged_T[t]:
                value, step = value_T[t], late_hedge(age_T[t])
                _mixed(said_TE[t], weights_JE, trust_QE, top_X, beyond_E, mixed_X)
                total = np.float32(0)
                for x in range(len(top_X)):
                    top_X[x] *= np.exp(-step * _loss(aim, mixed_X[x] - value))
                    total += top_X[x]
                for x in range(len(top_X)):
                    top_X[x] = (1 - _TOP_SHARE) * top_X[x] / total + _TOP_SHARE / len(top_X)
                for q in range(hedges):
                    total = np.float32(0)
                    for e in range(experts):
                        trust_QE[q, e] *= np.exp(-step * _loss(aim, said_TE[t, e] - value))
                        total += trust_QE[q, e]
                    for e in range(experts):
                        trust_QE[q, e] = (1 - shares_Q[q]) * trust_QE[q, e] / total + shares_Q[q] / experts
                for j in range(rates):
                    spread = 0.0
                    for e in range(experts):
                        gain = 0.0
                        for f in range(experts):
                            gain += covariance_JEE[j, e, f] * beyond_E[f]
                        gain_E[e] = gain
                        spread += gain * beyond_E[e]
                    gap = min(max(value - mixed_X[1 + j], -3.0), 3.0)
                    forget = forgets_J[j]
                    trace = 0.0
                    for e in range(experts):
                        weights_JE[j, e] += gain_E[e] * gap / (forget + spread)
                        for f in range(experts):
                            covariance_JEE[j, e, f] -= gain_E[e] * gain_E[f] / (forget + spread)
                        trace += covariance_JEE[j, e, e]
                    if trace / forget < _MOST_VARIANCE * experts:  # what no row has moved does not grow without bound
                        for e in range(experts):
                            for f in range(experts):
                                covariance_JEE[j, e, f] /= forget
            t += 1
        if n < rows:
            answer_N[n] = _mixed(said_NE[n], weights_JE, trust_QE, top_X, beyond_E, mixed_X)
