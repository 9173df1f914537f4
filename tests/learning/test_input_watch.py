"""Input drift: how often it is seen where there is none, how soon where there is some, and what a broken feed looks like."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.learning.drift.budget import within_budget
from actors.learning.drift.input_watch import InputWatch, Phase
from actors.learning.drift.ks_input import KsInputConfig
from actors.learning.drift.psi_input import PsiInputConfig
from actors.learning.part import pack, unpack

KINDS = pytest.mark.parametrize("config_class", [KsInputConfig, PsiInputConfig], ids=["ks", "psi"])


def inputs(rows: int, seed: int, columns: int = 12) -> np.ndarray:
    """Independent columns of many kinds: normal, heavy-tailed, rounded, rare, constant, with holes."""
    rng = np.random.default_rng(seed)
    x_ND = rng.normal(size=(rows, columns)).astype(np.float32)
    x_ND[:, 1] = rng.standard_cauchy(rows)
    x_ND[:, 2] = rng.integers(0, 3, rows)
    x_ND[:, 3] = rng.random(rows) < 0.02
    x_ND[:, 4] = 7.0
    x_ND[rng.random(rows) < 0.3, 5] = np.nan
    return x_ND


def watch(config_class, alpha=1e-3, **settings) -> InputWatch:
    return InputWatch(config_class(reference_rows=500, window_rows=100), alpha, **settings)


def found(each: InputWatch, x_ND: np.ndarray, first_row: int = 0):
    return each.update_many(np.arange(first_row, first_row + len(x_ND)), x_ND)


@KINDS
def test_false_alarms_are_no_more_than_the_budget_allows(config_class):
    budget = 5_000
    config = within_budget(config_class(reference_rows=500, window_rows=100), budget)
    assert config.alpha == 0.02
    alarms = sum(len(found(InputWatch(config, config.alpha), inputs(20_000, seed))) for seed in range(10))
    assert alarms <= 200_000 / budget, "about one alarm in 5,000 rows may be false"


@KINDS
@pytest.mark.parametrize("change", ["mean up", "mean down", "spread", "missing", "rare", "constant"])
def test_a_change_of_one_column_is_seen_and_named(config_class, change):
    x_ND = inputs(3000, 1)
    column = {"missing": 6, "rare": 3, "constant": 4}.get(change, 0)
    x_ND[2000:, column] = {
        "mean up": x_ND[2000:, 0] + 1.5, "mean down": x_ND[2000:, 0] - 1.5, "spread": x_ND[2000:, 0] * 5,
        "missing": np.where(np.arange(1000) % 2, np.nan, x_ND[2000:, 6]), "rare": 1.0, "constant": 6.0,
    }[change]  # fmt: skip
    names = [f"feature {d}" for d in range(12)]
    first = found(watch(config_class, columns=names), x_ND)[0]
    assert 2000 < first.row <= 2200 and first.since <= 2000 + 100
    assert first.phase is Phase.CHANGED and first.evidence["columns"] == [f"feature {column}"]
    assert first.evidence["statistic"] > first.evidence["bound"]


@KINDS
def test_after_an_alarm_the_new_world_is_the_reference(config_class):
    x_ND = inputs(6000, 2)
    x_ND[2000:, 0] += 3.0
    assert len(found(watch(config_class), x_ND)) == 1


@KINDS
@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 3000), max_size=6))
def test_feeding_in_any_pieces_and_restoring_between_them_changes_nothing(config_class, cuts):
    x_ND = inputs(3000, 3)
    x_ND[1500:2100] = 0.0
    whole = found(watch(config_class, broken_share=0.5), x_ND)
    each, pieces, start = watch(config_class, broken_share=0.5), [], 0
    for stop in [*sorted(cuts), 3000]:
        pieces += found(each, x_ND[start:stop], start)
        state = unpack(pack(each.to_state()))
        each, start = watch(config_class, broken_share=0.5), stop
        each.restore(state)
    assert pieces == whole and [f.phase for f in whole] == [Phase.BROKEN, Phase.MENDED]


@KINDS
def test_many_columns_at_once_are_a_broken_feed_until_they_look_as_before(config_class):
    x_ND = inputs(4000, 4)
    x_ND[2050:2950] = 0.0
    broken, mended = found(watch(config_class, broken_share=0.5), x_ND)
    assert (broken.phase, broken.since) == (Phase.BROKEN, 2000) and broken.row < 2200
    assert (mended.phase, mended.since, mended.row) == (Phase.MENDED, 2000, 3000)
    assert broken.evidence["share"] >= 0.5


def test_a_feed_that_stays_broken_is_the_new_world_once_patience_is_over():
    x_ND = inputs(6000, 5)
    x_ND[2000:] += 4.0
    phases = [f.phase for f in found(watch(KsInputConfig, broken_share=0.5, patience_rows=1000), x_ND)]
    assert phases == [Phase.BROKEN, Phase.STAYED]
    endless = watch(KsInputConfig, broken_share=0.5, patience_rows=None)
    assert [f.phase for f in found(endless, x_ND)] == [Phase.BROKEN] and endless.is_broken


def test_columns_of_one_name_count_once_and_few_of_them_never_make_a_broken_feed():
    x_ND = np.random.default_rng(6).normal(size=(3000, 10)).astype(np.float32)
    x_ND[2000:, :8] += 4.0
    one_hot = watch(KsInputConfig, columns=["colour"] * 8 + ["a", "b"], broken_share=0.3)
    assert [f.phase for f in found(one_hot, x_ND)] == [Phase.CHANGED]


def test_of_very_many_columns_some_are_watched():
    config = KsInputConfig(reference_rows=100, window_rows=50, max_columns=32)
    each = InputWatch(config, 1e-3)
    x_ND = np.random.default_rng(7).normal(size=(400, 3000)).astype(np.float32)
    x_ND[200:] += 3.0
    assert found(each, x_ND)[0].evidence["share"] == 1.0
    assert each.to_state()["histograms"]["first"] is None or each.to_state()["histograms"]["first"].shape[1] == 32


def test_a_column_that_appears_later_waits_for_the_next_reference():
    each = watch(KsInputConfig)
    found(each, inputs(600, 8, columns=6))
    assert found(each, inputs(1000, 9, columns=8), 600) == []
