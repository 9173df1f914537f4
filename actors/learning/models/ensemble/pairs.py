"""What two ids mean together: a factorization machine, learned row by row as the labels come.

Every id has a vector, and so has every number of a row; the score of a row is the sum of their weights and of the products of
all pairs of vectors (Rendle, "Factorization Machines", ICDM 2010, equation 5). So it tells what a user thinks of an item that
he never met. Steps are scaled by the gradients that there were (AdaGrad; as in Juan, Zhuang, Chin, Lin, "Field-aware
Factorization Machines for CTR Prediction", RecSys 2016, section 3.1). Classes are told by the lowest bits of their codes, as in
`evidence`. Only rows with ids are asked about.

Shapes: N rows to predict, T labelled rows, C ids of a row, D numbers, P step sizes, I rows of the table, the last D for the
numbers, R bits, F factors, G = F + 1, the weight comes last. E experts, K outputs.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from actors.learning.models.ensemble.compiled import compiled
from actors.learning.models.ensemble.targets import CLASSES

RATES_P = np.array([0.2, 0.4], np.float32)
EXPERTS = len(RATES_P)
MOST_IDS, MOST_NUMBERS = 32, 32
_BITS, _FACTORS, _SPREAD, _SEED = 4, 16, 0.05, 7
_LEAST_SQUARE = np.float32(1e-2)


def bits_of(outputs: int) -> int:
    """Of the codes of so many classes, as far as they are told; 1 for a value."""
    return min(max((outputs - 1).bit_length(), 1), _BITS)


def empty(rows: int, outputs: int) -> dict[str, np.ndarray]:
    """For a table of so many rows. The vectors start small and unlike: from zeros they would never move."""
    rng = np.random.default_rng(_SEED)
    vectors_PIRG = rng.normal(0.0, _SPREAD, (EXPERTS, rows, _BITS, _FACTORS + 1)).astype(np.float32)
    vectors_PIRG[..., -1] = 0.0
    vectors_PIRG = vectors_PIRG[:, :, : bits_of(outputs)].copy()
    return {"pairs.vectors": vectors_PIRG, "pairs.squares": np.zeros_like(vectors_PIRG)}


def widened(parts: Mapping[str, np.ndarray], outputs: int) -> dict[str, np.ndarray]:
    """For more classes: with as many bits as tell them, where there is a table."""
    if "pairs.vectors" not in parts or parts["pairs.vectors"].shape[2] >= bits_of(outputs):
        return {}
    known, fresh = parts["pairs.vectors"].shape, empty(parts["pairs.vectors"].shape[1], outputs)
    return {name: np.concatenate([parts[name], array[:, :, known[2] :]], axis=2) for name, array in fresh.items()}


@compiled
def _score(place_C: np.ndarray, z_D: np.ndarray, vectors_IRG: np.ndarray, r: int, sum_F: np.ndarray) -> Any:
    """The score of a row by bit r; fills the sum of its vectors."""
    table, factors = len(vectors_IRG), len(sum_F)
    score, squares = np.float32(0), np.float32(0)
    sum_F[:] = np.float32(0)
    for j in range(len(place_C) + len(z_D)):
        is_id = j < len(place_C)
        at = place_C[j] if is_id else table - len(z_D) + j - len(place_C)
        x = np.float32(1) if is_id else z_D[j - len(place_C)]
        for f in range(factors):
            part = vectors_IRG[at, r, f] * x
            sum_F[f] += part
            squares += part * part
        score += vectors_IRG[at, r, factors] * x
    total = np.float32(0)
    for f in range(factors):
        total += sum_F[f] * sum_F[f]
    return score + np.float32(0.5) * (total - squares)


@compiled
def _descend(
    place_C: np.ndarray,
    z_D: np.ndarray,
    gap: Any,
    rate: Any,
    r: int,
    sum_F: np.ndarray,
    vectors_IRG: np.ndarray,
    squares_IRG: np.ndarray,
) -> None:
    table, factors = len(vectors_IRG), len(sum_F)
    for j in range(len(place_C) + len(z_D)):
        is_id = j < len(place_C)
        at = place_C[j] if is_id else table - len(z_D) + j - len(place_C)
        x = np.float32(1) if is_id else z_D[j - len(place_C)]
        for g in range(factors + 1):
            others = sum_F[g] - vectors_IRG[at, r, g] * x if g < factors else np.float32(1)
            slope = gap * x * others
            squares_IRG[at, r, g] += slope * slope
            vectors_IRG[at, r, g] -= rate * slope / np.sqrt(squares_IRG[at, r, g] + _LEAST_SQUARE)


@compiled
def pairs(
    aim: int,
    place_NC: np.ndarray,
    z_ND: np.ndarray,
    place_TC: np.ndarray,
    z_TD: np.ndarray,
    code_T: np.ndarray,
    value_T: np.ndarray,
    upto_N: np.ndarray,
    rates_P: np.ndarray,
    vectors_PIRG: np.ndarray,
    squares_PIRG: np.ndarray,
    said_NEK: np.ndarray,
    first: int,
) -> None:
    """Answers row n after the first `upto_N[n]` labels, as expert `first` and those that follow, and learns all of them."""
    rows, outputs = len(place_NC), said_NEK.shape[2]
    bits, sum_F = vectors_PIRG.shape[2], np.empty(vectors_PIRG.shape[3] - 1, np.float32)
    t = 0
    for n in range(rows + 1):
        while t < (upto_N[n] if n < rows else len(code_T)):
            for p in range(len(rates_P)):
                for r in range(bits):
                    score = _score(place_TC[t], z_TD[t], vectors_PIRG[p], r, sum_F)
                    if aim == CLASSES:
                        gap = np.float32(1) / (np.float32(1) + np.exp(-score)) - np.float32((code_T[t] >> r) & 1)
                    else:
                        gap = min(max(score - value_T[t], np.float32(-3)), np.float32(3))
                    _descend(place_TC[t], z_TD[t], gap, rates_P[p], r, sum_F, vectors_PIRG[p], squares_PIRG[p])
            t += 1
        if n < rows:
            for p in range(len(rates_P)):
                said_K = said_NEK[n, first + p]
                said_K[:] = np.float32(1)
                for r in range(bits):
                    score = _score(place_NC[n], z_ND[n], vectors_PIRG[p], r, sum_F)
                    if aim != CLASSES:
                        said_K[0] = score
                        continue
                    one = np.float32(1) / (np.float32(1) + np.exp(-score))
                    for k in range(outputs):
                        said_K[k] *= one if (k >> r) & 1 else 1 - one
