"""Experts in closed form, that forget nothing that they are not told to forget: discriminant analysis, and ridge regression.

They are solved from sums over rows. Sums do not depend on the rows' order, so classes that came once and never again are known
as well as the last ones, and what several learners saw adds up exactly. The sums are those of the standardised row and of
random Fourier features of it (Rahimi and Recht, "Random Features for Large-Scale Kernel Machines", NIPS 2007), with every row
weighing the same whenever it came (decay 1), or fading (decay 0.999 a row). Of them, classes are told by linear discriminant
analysis, one mean for each and one covariance for all (Hayes and Kanan, "Lifelong Machine Learning with Deep Streaming Linear
Discriminant Analysis", CVPR Workshops 2020, section 3), which is blind to how often each came where nothing fades; and values
are told by ridge regression.

Shapes: N rows, T labelled rows, D features, R numbers told of a row, the last of them 1, J decays, K outputs.
"""

from collections.abc import Mapping

import numpy as np

from actors.learning.models.ensemble.targets import CLASSES, Targets

DECAYS = (1.0, 0.999)
_FEATURES, _MOST_VALUES = 256, 256
_BANDWIDTH = 1.5
_RIDGE, _SHRUNK = 1e-3, 0.1
_SOLVED_EVERY_ROWS, _EARLY_ROWS, _SOLVED_EARLY_EVERY_ROWS = 256, 2048, 32


def projection(inputs: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 [D, F] and [F], the same in every process and every run."""
    rng = np.random.default_rng([inputs, _FEATURES])
    directions_DF = rng.standard_normal((inputs, _FEATURES)) * (_BANDWIDTH / np.sqrt(inputs))
    return directions_DF.astype(np.float32), (rng.random(_FEATURES) * 2.0 * np.pi).astype(np.float32)


def features(z_ND: np.ndarray, projected: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """float32 [N, R]. Of more than 256 features only what is random is told."""
    directions_DF, phase_F = projected
    told = [np.cos(z_ND @ directions_DF + phase_F), np.ones((len(z_ND), 1), np.float32)]
    return np.concatenate([z_ND, *told] if z_ND.shape[1] <= _MOST_VALUES else told, axis=1)


def empty(inputs: int, outputs: int) -> dict[str, np.ndarray]:
    size = _FEATURES + 1 + (inputs if inputs <= _MOST_VALUES else 0)
    return {
        "analytic.gram": np.zeros((len(DECAYS), size, size)),
        "analytic.moment": np.zeros((len(DECAYS), size, outputs)),
        "analytic.solution": np.zeros((len(DECAYS), size, outputs), np.float32),
    }


def predict(parts: Mapping[str, np.ndarray], aim: int, told_NR: np.ndarray, said_NEK: np.ndarray, first: int) -> None:
    """Values, or the probabilities of classes; of none while there is no solution."""
    for j, solution_RK in enumerate(parts["analytic.solution"]):
        said_NK = told_NR @ solution_RK
        if aim == CLASSES:
            is_told_K = solution_RK.any(axis=0)
            said_NK[:, ~is_told_K] = -np.inf
            said_NK = np.exp(said_NK - said_NK.max(axis=1, keepdims=True, initial=-1e9))
        said_NEK[:, first + j] = said_NK


def learn(
    parts: dict[str, np.ndarray], aim: int, told_TR: np.ndarray, targets: Targets, rows_before: int, rows_after: int
) -> None:
    """Adds the rows to the sums, in place, and solves anew: once in 32 rows at first, once in 256 later."""
    rows, outputs = len(targets), parts["analytic.moment"].shape[2]
    target_TK = targets.value_T[:, None] if aim != CLASSES else np.eye(outputs, dtype=np.float32)[targets.code_T]
    gram_RR, moment_RK = told_TR.T @ told_TR, told_TR.T @ target_TK
    for j, decay in enumerate(DECAYS):
        kept = decay**rows
        parts["analytic.gram"][j] = parts["analytic.gram"][j] * kept + gram_RR
        parts["analytic.moment"][j] = parts["analytic.moment"][j] * kept + moment_RK
    every = _SOLVED_EARLY_EVERY_ROWS if rows_before < _EARLY_ROWS else _SOLVED_EVERY_ROWS
    if rows_after // every == rows_before // every:
        return
    for j, decay in enumerate(DECAYS):
        gram_RR, moment_RK = parts["analytic.gram"][j], parts["analytic.moment"][j]
        solved = _discriminants(gram_RR, moment_RK, decay < 1) if aim == CLASSES else _ridge(gram_RR, moment_RK)
        parts["analytic.solution"][j] = solved


def _ridge(gram_RR: np.ndarray, moment_RK: np.ndarray) -> np.ndarray:
    penalty = 1.0 + _RIDGE * np.trace(gram_RR) / len(gram_RR)
    solution_RK: np.ndarray = np.linalg.solve(gram_RR + penalty * np.eye(len(gram_RR)), moment_RK)
    return solution_RK


def _discriminants(gram_RR: np.ndarray, moment_RK: np.ndarray, counts_tell: bool) -> np.ndarray:
    """[R, K]: log odds, up to what is the same for all; zeros of a class that never came."""
    rows_K = moment_RK[-1]
    came_K = rows_K > 0
    mean_RK = moment_RK / np.maximum(rows_K, 1e-9)
    within_RR = (gram_RR - mean_RK @ moment_RK.T) / max(rows_K.sum() - came_K.sum(), 1.0)
    size = len(within_RR)
    within_RR += (_SHRUNK * np.trace(within_RR) / size + 1e-6) * np.eye(size)
    solution_RK = np.linalg.solve(within_RR, mean_RK)
    solution_RK[-1] -= 0.5 * (mean_RK * solution_RK).sum(axis=0)
    if counts_tell:
        solution_RK[-1] += np.log(np.maximum(rows_K, 1e-9))
    kept_RK: np.ndarray = solution_RK * came_K
    return kept_RK
