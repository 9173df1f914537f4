"""Ridge regression on random features, in closed form: an expert that forgets nothing that it is not told to forget.

Its sums over rows do not depend on the rows' order, so classes that came once and never again are known as well as the last
ones, and what several learners saw adds up exactly. Random Fourier features (Rahimi and Recht, "Random Features for
Large-Scale Kernel Machines", NIPS 2007) of the standardised row; as in McDonnell et al., "RanPAC", NeurIPS 2023, sections 3-4,
but with every row weighing the same whenever it came (decay 1), or fading (decay 0.999 a row).

Shapes: N rows, D features, R random features and a constant one, J decays, K outputs.
"""

from collections.abc import Mapping

import numpy as np

from actors.learning.models.ensemble.targets import CLASSES, Targets

DECAYS = (1.0, 0.999)
_FEATURES = 256
_BANDWIDTH = 1.5
_SOLVED_EVERY_ROWS, _EARLY_ROWS, _SOLVED_EARLY_EVERY_ROWS = 256, 2048, 32


def projection(inputs: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 [D, R] and [R], the same in every process and every run."""
    rng = np.random.default_rng([inputs, _FEATURES])
    directions_DR = rng.standard_normal((inputs, _FEATURES)) * (_BANDWIDTH / np.sqrt(inputs))
    return directions_DR.astype(np.float32), (rng.random(_FEATURES) * 2.0 * np.pi).astype(np.float32)


def features(z_ND: np.ndarray, projected: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    directions_DR, phase_R = projected
    return np.concatenate([np.cos(z_ND @ directions_DR + phase_R), np.ones((len(z_ND), 1), np.float32)], axis=1)


def empty(outputs: int) -> dict[str, np.ndarray]:
    size = _FEATURES + 1
    return {
        "ridge.gram": np.zeros((len(DECAYS), size, size)),
        "ridge.moment": np.zeros((len(DECAYS), size, outputs)),
        "ridge.solution": np.zeros((len(DECAYS), size, outputs), np.float32),
    }


def predict(parts: Mapping[str, np.ndarray], aim: int, phi_NR: np.ndarray, said_NEK: np.ndarray, first: int) -> None:
    """Values; for classes the estimates of the indicators, cut off at 0.001."""
    for j in range(len(DECAYS)):
        said_NK = phi_NR @ parts["ridge.solution"][j]
        said_NEK[:, first + j] = np.maximum(said_NK, 1e-3) if aim == CLASSES else said_NK


def learn(
    parts: dict[str, np.ndarray], aim: int, phi_TR: np.ndarray, targets: Targets, rows_before: int, rows_after: int
) -> None:
    """Adds the rows to the sums, in place, and solves anew: once in 32 rows at first, once in 256 later."""
    rows, outputs = len(targets), parts["ridge.moment"].shape[2]
    said_TK = targets.value_T[:, None] if aim != CLASSES else np.eye(outputs, dtype=np.float32)[targets.code_T]
    gram_RR, moment_RK = phi_TR.T @ phi_TR, phi_TR.T @ said_TK
    for j, decay in enumerate(DECAYS):
        kept = decay**rows
        parts["ridge.gram"][j] = parts["ridge.gram"][j] * kept + gram_RR
        parts["ridge.moment"][j] = parts["ridge.moment"][j] * kept + moment_RK
    every = _SOLVED_EARLY_EVERY_ROWS if rows_before < _EARLY_ROWS else _SOLVED_EVERY_ROWS
    if rows_after // every == rows_before // every:
        return
    for j in range(len(DECAYS)):
        gram_RR = parts["ridge.gram"][j]
        penalty = 1.0 + 1e-3 * np.trace(gram_RR) / len(gram_RR)
        solution_RK = np.linalg.solve(gram_RR + penalty * np.eye(len(gram_RR)), parts["ridge.moment"][j])
        parts["ridge.solution"][j] = solution_RK
