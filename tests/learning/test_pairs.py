"""Factorization machines: they tell of pairs that never came, by visible labels alone."""

import numpy as np
import pytest

from actors.learning.models.ensemble import pairs
from actors.learning.models.ensemble.targets import CLASSES, SQUARED

IDS = 40  # of each of two columns


def said_of(
    place_NC: np.ndarray, y_N: np.ndarray, aim: int = CLASSES, *, z_ND: np.ndarray | None = None, delay: int = 0
) -> np.ndarray:
    """float32 [N, P, K]: row n after the labels of the rows that lie more than `delay` before it."""
    rows = len(y_N)
    z_ND = np.zeros((rows, 0), np.float32) if z_ND is None else z_ND
    outputs = int(y_N.max()) + 1 if aim == CLASSES else 1
    parts = pairs.empty(2 * IDS + z_ND.shape[1], outputs)
    said_NEK, upto_N = np.zeros((rows, pairs.EXPERTS, outputs), np.float32), np.maximum(np.arange(rows) - delay, 0)
    code_N = y_N.astype(np.int64) if aim == CLASSES else np.zeros(rows, np.int64)
    pairs.pairs(
        aim, place_NC, z_ND, place_NC, z_ND, code_N, y_N.astype(np.float32), upto_N, pairs.RATES_P, parts["pairs.vectors"],
        parts["pairs.squares"], said_NEK, 0,
    )  # fmt: skip
    return said_NEK


def tastes(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two ids, and how well their traits fit each other: neither alone tells anything."""
    rng = np.random.default_rng(seed)
    taste_UF, trait_IF = rng.choice([-1.0, 1.0], (2, IDS, 2))
    at_N2 = rng.integers(IDS, size=(rows, 2))
    fit_N = (taste_UF[at_N2[:, 0]] * trait_IF[at_N2[:, 1]]).sum(axis=1) + 0.1 * rng.standard_normal(rows)
    return at_N2 + np.array([0, IDS]), fit_N


def test_it_tells_of_pairs_that_never_came_together() -> None:
    place_NC, fit_N = tastes(6_000)
    is_left_out_N = place_NC.sum(axis=1) % 5 == 0
    order_N = np.concatenate([np.flatnonzero(~is_left_out_N), np.flatnonzero(is_left_out_N)])
    place_NC, y_N = place_NC[order_N], (fit_N[order_N] > 0).astype(int)
    first = int((~is_left_out_N).sum())
    said_NEK = said_of(place_NC, y_N, delay=len(y_N) - first)
    never = slice(first, len(y_N))
    is_clear_N = np.abs(fit_N[order_N][never]) > 1
    hit_NP = said_NEK[never].argmax(axis=2) == y_N[never, None]
    assert hit_NP[is_clear_N].mean() > 0.95


def test_values_are_told_too() -> None:
    place_NC, fit_N = tastes(6_000)
    said_NEK = said_of(place_NC, fit_N, SQUARED)
    assert np.square(said_NEK[3_000:, 0, 0] - fit_N[3_000:]).mean() < 0.2 * fit_N.var()


@pytest.mark.parametrize("classes", [3, 16])
def test_more_than_two_classes_are_told_by_the_bits_of_their_codes(classes: int) -> None:
    rng = np.random.default_rng(1)
    class_U, at_N2 = rng.integers(classes, size=IDS), rng.integers(IDS, size=(4_000, 2))
    y_N = class_U[at_N2[:, 0]]
    y_N[:classes] = np.arange(classes)
    said_NEK = said_of(at_N2 + np.array([0, IDS]), y_N)
    assert (said_NEK[2_000:].argmax(axis=2) == y_N[2_000:, None]).mean() > 0.95
    if classes == 16:
        np.testing.assert_allclose(said_NEK.sum(axis=2), 1.0, atol=1e-5)


def test_numbers_have_vectors_as_ids_do() -> None:
    """Each id has a side of its own; the number alone tells nothing."""
    rng = np.random.default_rng(2)
    side_U, at_N2 = rng.choice([-1, 1], IDS), rng.integers(IDS, size=(4_000, 2))
    z_ND = rng.standard_normal((4_000, 1)).astype(np.float32)
    y_N = (side_U[at_N2[:, 0]] * z_ND[:, 0] > 0).astype(int)
    said_NEK = said_of(at_N2 + np.array([0, IDS]), y_N, z_ND=z_ND)
    assert (said_NEK[2_000:, 1].argmax(axis=1) == y_N[2_000:]).mean() > 0.85


def test_bits_join_as_classes_come_and_leave_the_others_in_place() -> None:
    two = pairs.empty(10, 2)
    two["pairs.vectors"] += 1.0
    nine = {**two, **pairs.widened(two, 9)}
    assert [pairs.bits_of(outputs) for outputs in (0, 1, 2, 3, 9, 16, 1000)] == [1, 1, 1, 2, 4, 4, 4]
    np.testing.assert_array_equal(nine["pairs.vectors"][:, :, :1], two["pairs.vectors"])
    np.testing.assert_array_equal(nine["pairs.vectors"][:, :, 1:], pairs.empty(10, 9)["pairs.vectors"][:, :, 1:])
    assert pairs.widened(nine, 16) == {} == pairs.widened({}, 3)


@pytest.mark.parametrize("delay", [0, 50])
def test_no_answer_depends_on_a_label_that_comes_later(delay: int) -> None:
    place_NC, fit_N = tastes(600)
    y_N, row = (fit_N > 0).astype(int), 300
    y_other_N = np.where(np.arange(600) < row, y_N, 1 - y_N)
    said, others = (said_of(place_NC, labels, delay=delay) for labels in (y_N, y_other_N))
    np.testing.assert_array_equal(said[: row + delay + 1], others[: row + delay + 1])
    assert (said[row + delay + 1 :] != others[row + delay + 1 :]).any()
