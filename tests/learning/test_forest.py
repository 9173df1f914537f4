"""Rolling forests: an answer depends on visible labels alone, and the present begins where the rules change."""

import numpy as np
import pytest

from actors.learning.models.ensemble import forest, quantiles
from actors.learning.models.ensemble.targets import CLASSES, SQUARED, Targets


def targets_of(y_N: np.ndarray, aim: int) -> Targets:
    code_N = y_N.astype(np.int64) if aim == CLASSES else np.zeros(len(y_N), np.int64)
    return Targets(code_N, y_N.astype(np.float32), np.ones(len(y_N), np.float32))


def learned(
    x_ND: np.ndarray, y_N: np.ndarray, aim: int = CLASSES, *, round_rows: int = 64, delay: int = 0
) -> tuple[np.ndarray, dict[str, np.ndarray], list[int]]:
    """What the forests said of each row [N, E, K], what they are at the end, and at which rows the present began."""
    outputs = int(y_N.max()) + 1 if aim == CLASSES else 1
    parts = forest.empty(outputs) | {"memory.x": x_ND[:0]}
    memory, targets = Targets.none(), targets_of(y_N, aim)
    edges_DB = quantiles.edges_of(x_ND, quantiles.CODE_EDGES + 2)[:, 1:-1].copy()
    said_NEK, began = np.zeros((len(x_ND), forest.EXPERTS, outputs), np.float32), [0]
    for start in range(0, len(x_ND), round_rows):
        row_N = np.arange(start, min(start + round_rows, len(x_ND)))
        train_T = row_N[row_N >= delay] - delay
        upto_N = np.searchsorted(train_T, row_N - delay)
        said = said_NEK[row_N[0] : row_N[-1] + 1]
        forest.said(parts, aim, edges_DB, x_ND[row_N], x_ND[train_T], memory, targets.at(train_T), upto_N, said, 0)
        parts["memory.x"] = np.concatenate([parts["memory.x"], x_ND[train_T]])[-5000:]
        memory = memory.joined(targets.at(train_T), 5000)
        if parts["forest.clock"][1] != began[-1]:
            began.append(int(parts["forest.clock"][1]))
    return said_NEK, parts, began[1:]


def rules(rows: int, changes: tuple[int, ...], seed: int = 0, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """One of six features decides between two classes; another one after each change."""
    rng = np.random.default_rng(seed)
    x_ND = rng.normal(0, 1, (rows, 6)).astype(np.float32)
    decides_N = np.searchsorted(changes, np.arange(rows), side="right")
    return x_ND, (x_ND[np.arange(rows), decides_N] > 0.3).astype(int) ^ (rng.random(rows) < noise)


def test_the_present_begins_at_the_row_where_the_rule_changes() -> None:
    x_ND, y_N = rules(3000, (1207, 2300))
    _, _, began = learned(x_ND, y_N)
    assert len(began) == 2
    assert began == pytest.approx([1207, 2300], abs=8)


def test_soon_after_a_change_the_present_knows_what_the_longest_window_does_not() -> None:
    x_ND, y_N = rules(3000, (2000,))
    said_NEK, _, _ = learned(x_ND, y_N)
    is_right_NE = said_NEK.argmax(axis=2) == y_N[:, None]
    present, longest = is_right_NE[2100:2300, [1, 5]].mean(axis=0)
    assert present > 0.84
    assert longest < 0.7


def test_a_calm_stream_is_one_present() -> None:
    """Each run may begin anew by chance once in twenty."""
    changes = sum(len(learned(*rules(2500, (), seed, noise))[2]) for seed in range(8) for noise in (0.0, 0.2))
    assert changes <= 2


def test_a_rise_in_errors_is_found_and_a_fall_is_none() -> None:
    rng = np.random.default_rng(0)
    few_N, many_N = (rng.random(300) < 0.05).astype(np.float32), (rng.random(60) < 0.5).astype(np.float32)
    assert forest.change(np.concatenate([few_N, many_N])) == pytest.approx(300, abs=12)
    assert forest.change(np.concatenate([many_N, few_N])) == -1
    assert forest.change(few_N) == -1


def test_values_have_a_present_too() -> None:
    rng = np.random.default_rng(3)
    x_ND = rng.normal(0, 1, (2400, 4)).astype(np.float32)
    y_N = np.where(np.arange(2400) < 1500, x_ND[:, 0], -x_ND[:, 0]) + 0.1 * rng.normal(0, 1, 2400)
    said_NEK, _, began = learned(x_ND, y_N, SQUARED)
    assert began == [pytest.approx(1500, abs=8)]
    assert np.abs(said_NEK[1700:, 1, 0] - y_N[1700:]).mean() < 0.3


def test_it_does_not_matter_how_rows_are_dealt_into_rounds() -> None:
    x_ND, y_N = rules(1500, (800,))
    small, parts, _ = learned(x_ND, y_N, round_rows=48)
    large, others, _ = learned(x_ND, y_N, round_rows=1000)
    np.testing.assert_array_equal(small, large)
    for name in parts:
        np.testing.assert_array_equal(parts[name], others[name])


@pytest.mark.parametrize("delay", [0, 100])
def test_no_answer_depends_on_a_label_that_comes_later(delay: int) -> None:
    x_ND, y_N = rules(1200, (600,))
    row = 700
    y_other_N = np.where(np.arange(1200) < row, y_N, 1 - y_N)
    said, others = (learned(x_ND, labels, round_rows=256, delay=delay)[0] for labels in (y_N, y_other_N))
    np.testing.assert_array_equal(said[: row + delay + 1], others[: row + delay + 1])
    assert (said[row + delay + 1 :] != others[row + delay + 1 :]).any()


def test_missing_values_go_their_own_way() -> None:
    rng = np.random.default_rng(5)
    x_ND = rng.normal(0, 1, (1500, 3)).astype(np.float32)
    y_N = rng.integers(2, size=1500)
    x_ND[y_N == 1, 1] = np.nan
    said_NEK, _, _ = learned(x_ND, y_N)
    assert (said_NEK[300:, 5].argmax(axis=1) == y_N[300:]).all()


def test_what_is_kept_is_bounded() -> None:
    x_ND, y_N = rules(3000, (1500,))
    _, parts, _ = learned(x_ND, y_N)
    kept = forest.empty(2)
    for name in kept:
        assert parts[name].shape == (kept[name].shape if name != "forest.miss" else (1024,))


def test_edges_of_codes_are_fitted_as_rows_double_and_then_every_5000() -> None:
    fitted = [after for after in range(50, 20_050, 50) if quantiles.is_due(after - 50, after)]
    assert fitted == [200, 400, 800, 1600, 3200, 5000, 6400, 10_000, 12_800, 15_000, 20_000]


def test_a_code_is_how_many_edges_lie_below() -> None:
    rng = np.random.default_rng(7)
    x_ND = np.round(rng.normal(0, 1, (500, 3)), 1).astype(np.float32)
    x_ND[::9, 1] = np.nan
    edges_DB = quantiles.edges_of(x_ND, quantiles.CODE_EDGES + 2)[:, 1:-1].copy()
    code_ND = quantiles.codes_of_rows(x_ND, edges_DB)
    below_ND = (edges_DB.T[None] < x_ND[:, None]).sum(axis=1)
    np.testing.assert_array_equal(code_ND, np.where(np.isnan(x_ND), quantiles.CODES - 1, below_ND))
