"""Ids as numbers: the plain sums, nothing of a label before it is there, and nothing of what nobody can know."""

import math

import numpy as np
import pytest

from actors.learning.inputs import IDS, InputKind, InputLayout
from actors.learning.models.ensemble.evidence import BITS, Widening, places
from actors.learning.models.ensemble.targets import CLASSES, SCORES, SQUARED, Targets
from actors.learning.running_stats import RunningStats

LAYOUT = InputLayout((InputKind.CATEGORY, InputKind.NUMBER, InputKind.CATEGORY))
KEPT, ALL_KEPT, PRIOR = 0.98, 0.999, 3.0


def targets_of(code_T: np.ndarray, value_T: np.ndarray | None = None) -> Targets:
    given_T = np.full(len(code_T), np.nan) if value_T is None else value_T
    return Targets(code_T, given_T.astype(np.float32), np.ones(len(code_T), np.float32))


def rows_of(rng: np.random.Generator, rows: int, ids: int = 20) -> np.ndarray:
    id_V = rng.integers(1, IDS, ids)
    columns = [id_V[rng.integers(ids, size=rows)], rng.normal(size=rows), id_V[rng.integers(ids, size=rows)]]
    return np.stack(columns, axis=1).astype(np.float32)


def told(widening: Widening, x_NW: np.ndarray) -> np.ndarray:
    """The evidence within wide rows, by id."""
    first = len(widening.layout.other_D)
    return x_NW[:, first : first + widening.columns * widening.numbers].reshape(len(x_NW), widening.columns, widening.numbers)


def plainly(id_T: np.ndarray, code_T: np.ndarray, upto: int, of: int) -> list[float]:
    """Of id `of` after the first `upto` labels."""
    found = []
    for r in range(BITS):
        here = rows = every = all_rows = 0.0
        for one, code in zip(id_T[:upto], code_T[:upto], strict=True):
            bit = code >> r & 1
            every, all_rows = ALL_KEPT * every + bit, ALL_KEPT * all_rows + 1
            if one == of:
                here, rows = KEPT * here + bit, KEPT * rows + 1
        usual = every / max(all_rows, 1.0)
        p = (here + PRIOR * usual) / (rows + PRIOR)
        found.append(math.log(p / (1 - p)) - math.log(usual / (1 - usual)) if 1e-3 < usual < 1 - 1e-3 else 0.0)
    return found


@pytest.mark.parametrize("delay", [0, 7])
def test_it_is_the_log_odds_where_a_value_came_less_those_of_all_by_the_labels_that_were_there(delay: int) -> None:
    rng, widening = np.random.default_rng(1), Widening(LAYOUT, CLASSES)
    x_ND, code_T = rows_of(rng, 120), rng.integers(5, size=120)
    upto_N = np.maximum(np.arange(120) - delay, 0)
    test, train = widening.widened(widening.empty(), x_ND, x_ND.copy(), targets_of(code_T), upto_N)
    for c, d in enumerate((0, 2)):
        for n in range(120):
            expected = plainly(x_ND[:, d], code_T, upto_N[n], x_ND[n, d])
            np.testing.assert_allclose(told(widening, test.x_NW)[n, c], expected, atol=1e-4)
            expected = plainly(x_ND[:, d], code_T, n, x_ND[n, d])
            np.testing.assert_allclose(told(widening, train.x_NW)[n, c], expected, atol=1e-4)


@pytest.mark.parametrize("aim", [CLASSES, SQUARED, SCORES])
def test_no_row_tells_of_its_own_label_and_rounds_join_seamlessly(aim: int) -> None:
    rng, widening = np.random.default_rng(2), Widening(LAYOUT, aim)
    x_ND, code_T, value_T = rows_of(rng, 100), rng.integers(3, size=100), rng.random(100)
    given = targets_of(code_T, None if aim == CLASSES else value_T)
    changed = targets_of(np.append(code_T[:-1], 2 - code_T[-1]), None if aim == CLASSES else np.append(value_T[:-1], 9.0))
    whole, _ = widening.widened(widening.empty(), x_ND, x_ND, given, np.arange(100))
    other, _ = widening.widened(widening.empty(), x_ND, x_ND, changed, np.arange(100))
    np.testing.assert_array_equal(whole.x_NW, other.x_NW)
    parts, found = widening.empty(), []
    for part in (slice(0, 30), slice(30, 100)):
        cut = Targets(given.code_T[part], given.value_T[part], given.weight_T[part])
        found.append(widening.widened(parts, x_ND[part], x_ND[part], cut, np.arange(len(cut)))[0].x_NW)
    np.testing.assert_array_equal(np.concatenate(found), whole.x_NW)


def test_a_new_value_tells_nothing_and_a_missing_one_is_a_value_of_its_own() -> None:
    rng, widening = np.random.default_rng(3), Widening(LAYOUT, CLASSES)
    x_ND, parts = rows_of(rng, 200), widening.empty()
    x_ND[:100, 0] = np.nan
    code_T = np.isnan(x_ND[:, 0]).astype(np.int64)
    widening.widened(parts, x_ND[:0], x_ND, targets_of(code_T), np.zeros(0, np.int64))
    asked_ND = np.array([[np.nan, 0.0, 1.0], [12345.0, 0.0, 1.0]], np.float32)
    found, _ = widening.widened(parts, asked_ND, x_ND[:0], targets_of(code_T[:0]), np.zeros(2, np.int64))
    assert told(widening, found.x_NW)[0, 0, 0] > 2.0
    np.testing.assert_allclose(told(widening, found.x_NW)[1], 0.0, atol=1e-5)
    np.testing.assert_array_equal(told(widening, found.x_NW)[:, :, 1:], 0.0)  # bits that neither class has


def test_a_low_score_speaks_against_the_answer_that_got_it_and_a_value_is_its_mean() -> None:
    x_ND = np.array([[7, 0, 1], [9, 0, 1]] * 40, np.float32)
    for aim, code_T, value_T in (
        (SCORES, np.ones(80, np.int64), np.tile([1.0, 0.0], 40)),
        (SQUARED, np.zeros(80, np.int64), np.tile([1.0, -1.0], 40)),
    ):
        widening = Widening(LAYOUT, aim)
        parts = widening.empty()
        widening.widened(parts, x_ND[:0], x_ND, targets_of(code_T, value_T), np.zeros(0, np.int64))
        found, _ = widening.widened(parts, x_ND[:2], x_ND[:0], targets_of(code_T[:0]), np.zeros(2, np.int64))
        good, bad = told(widening, found.x_NW)[:, 0, 0]
        assert good > 0.5 and bad < -0.5
        assert np.abs(told(widening, found.x_NW)[:, 1]).max() < 0.1  # the other column has one value, which tells nothing


def test_numbers_alone_stay_what_they_are_and_wide_rows_are_as_wide_as_they_say() -> None:
    x_ND = np.random.default_rng(4).normal(size=(5, 3)).astype(np.float32)
    none, upto_N = targets_of(np.zeros(0, np.int64)), np.zeros(5, np.int64)
    found, _ = Widening(InputLayout.of(3), CLASSES).widened({}, x_ND, x_ND[:0], none, upto_N)
    assert np.array_equal(found.x_NW, x_ND) and found.id_NC.shape == (5, 0)
    for columns in (1, 2, 5, 40, 3000):
        widening = Widening(InputLayout((InputKind.CATEGORY,) * columns), CLASSES)
        ids_NC = np.random.default_rng(5).integers(1, IDS, (5, columns)).astype(np.float32)
        wide, _ = widening.widened(widening.empty(), ids_NC, ids_NC[:0], none, upto_N)
        assert sum(array.nbytes for array in widening.empty().values()) < 3_000_000
        assert wide.x_NW.shape == (5, widening.width) == (5, len(widening.statistics(RunningStats.of(ids_NC)).count_D))
        place_NC = places(wide.id_NC, widening.id_rows)
        assert len({*place_NC[0]}) == columns and place_NC.max() < widening.id_rows
