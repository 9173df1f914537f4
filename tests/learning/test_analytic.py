"""Discriminant analysis and ridge regression from sums over rows."""

import numpy as np
import pytest

from actors.learning.models.ensemble import analytic
from actors.learning.models.ensemble.targets import CLASSES, SQUARED, Targets

CLASSES_K = 6


def targets_of(code_T: np.ndarray, value_T: np.ndarray | None = None) -> Targets:
    value_T = np.full(len(code_T), np.nan) if value_T is None else value_T
    return Targets(code_T, value_T.astype(np.float32), np.ones(len(code_T), np.float32))


def gaussians(code_T: np.ndarray, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mean_KD = np.random.default_rng(1).normal(0, 2, (CLASSES_K, 8))
    return (mean_KD[code_T] + rng.standard_normal((len(code_T), 8))).astype(np.float32)


def learned(x_TD: np.ndarray, targets: Targets, aim: int = CLASSES, outputs: int = CLASSES_K, rows: int = 64) -> dict:
    parts = analytic.empty(x_TD.shape[1], outputs)
    for first in range(0, len(x_TD), rows):
        told_TR = analytic.features(x_TD[first : first + rows], analytic.projection(x_TD.shape[1]))
        part = Targets(*(array[first : first + rows] for array in (targets.code_T, targets.value_T, targets.weight_T)))
        analytic.learn(parts, aim, told_TR, part, first, min(first + rows, len(x_TD)))
    return parts


def said(parts: dict, x_ND: np.ndarray, aim: int = CLASSES, outputs: int = CLASSES_K) -> np.ndarray:
    """float32 [N, 2, K]"""
    said_NEK = np.zeros((len(x_ND), len(analytic.DECAYS), outputs), np.float32)
    analytic.predict(parts, aim, analytic.features(x_ND, analytic.projection(x_ND.shape[1])), said_NEK, 0)
    return said_NEK


def test_a_class_that_came_seldom_and_long_ago_is_told_as_well_as_the_others() -> None:
    code_T = np.concatenate([np.zeros(64, np.int64), np.random.default_rng(2).integers(1, CLASSES_K, 4_032)])
    parts = learned(gaussians(code_T), targets_of(code_T))
    every_N = np.repeat(np.arange(CLASSES_K), 200)
    always_N, fading_N = (answer_N for answer_N in said(parts, gaussians(every_N, seed=3)).argmax(axis=2).T)
    right_K = (always_N == every_N).reshape(CLASSES_K, 200).mean(axis=1)
    assert right_K.min() > 0.95
    assert (fading_N == every_N).reshape(CLASSES_K, 200)[1:].mean() > 0.97


def test_what_fades_follows_classes_that_trade_places_and_what_does_not_is_torn() -> None:
    code_T = np.random.default_rng(4).integers(CLASSES_K, size=8_192)
    x_TD, told_T = gaussians(code_T), np.where(np.arange(8_192) < 4_096, code_T, (code_T + 1) % CLASSES_K)
    answer_N2 = said(learned(x_TD, targets_of(told_T)), x_TD[-500:]).argmax(axis=2)
    always, fading = (answer_N2 == told_T[-500:, None]).mean(axis=0)
    assert fading > 0.95 > always


def test_a_class_that_it_never_saw_gets_nothing_and_before_the_first_solution_all_get_nothing() -> None:
    code_T = np.random.default_rng(5).integers(CLASSES_K - 1, size=512)
    probability_NEK = said(learned(gaussians(code_T), targets_of(code_T)), gaussians(code_T[:20]))
    assert (probability_NEK[..., -1] == 0).all() and (probability_NEK.max(axis=2) == 1).all()
    assert not said(learned(gaussians(code_T[:8]), targets_of(code_T[:8])), gaussians(code_T[:20])).any()


def test_the_order_of_rows_makes_no_difference_where_nothing_fades() -> None:
    code_T = np.random.default_rng(6).integers(CLASSES_K, size=1_024)
    x_TD, order_T = gaussians(code_T), np.random.default_rng(7).permutation(1_024)
    one, other = learned(x_TD, targets_of(code_T)), learned(x_TD[order_T], targets_of(code_T[order_T]), rows=256)
    np.testing.assert_allclose(one["analytic.gram"][0], other["analytic.gram"][0], rtol=1e-4, atol=1e-3)
    x_ND = gaussians(code_T[:200], seed=8)
    assert (said(one, x_ND)[:, 0].argmax(axis=1) == said(other, x_ND)[:, 0].argmax(axis=1)).mean() > 0.99


@pytest.mark.parametrize("inputs", [3, 300])
def test_values_are_estimated_by_a_line_and_by_what_bends_it(inputs: int) -> None:
    """Of so many features that they are not told as they are, random ones say less, but more than the mean."""
    rng = np.random.default_rng(9)
    x_TD = rng.standard_normal((4_096, inputs)).astype(np.float32)
    value_T = 2 * x_TD[:, 0] + np.sin(2 * x_TD[:, 1]) + 0.1 * rng.standard_normal(4_096)
    parts = learned(x_TD, targets_of(np.zeros(4_096, np.int64), value_T), SQUARED, 1, rows=256)
    error_N = said(parts, x_TD[-500:], SQUARED, 1)[:, 0, 0] - value_T[-500:]
    assert np.square(error_N).mean() / value_T.var() < (0.05 if inputs == 3 else 0.9)
