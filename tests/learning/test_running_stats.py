import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from actors.learning.running_stats import RunningStats

rows = arrays(
    np.float64,
    st.tuples(st.integers(0, 30), st.just(3)),
    elements=st.one_of(st.floats(-1e4, 1e4), st.just(float("nan"))),
)


@given(rows, rows, rows)
def test_merging_parts_in_any_grouping_equals_one_pass_over_all_rows(a, b, c):
    whole = RunningStats.of(np.concatenate([a, b, c]))
    for merged in (
        RunningStats.of(a).merge(RunningStats.of(b)).merge(RunningStats.of(c)),
        RunningStats.of(a).merge(RunningStats.of(b).merge(RunningStats.of(c))),
    ):
        np.testing.assert_array_equal(merged.count_D, whole.count_D)
        np.testing.assert_allclose(merged.mean_D, whole.mean_D, rtol=1e-9, atol=1e-7)
        np.testing.assert_allclose(merged.m2_D, whole.m2_D, rtol=1e-7, atol=1e-3)


@given(rows)
def test_missing_values_count_for_nothing(x):
    stats = RunningStats.of(x)
    for column in range(3):
        present = x[~np.isnan(x[:, column]), column]
        assert stats.count_D[column] == len(present)
        if len(present):
            np.testing.assert_allclose(stats.mean_D[column], present.mean(), rtol=1e-9, atol=1e-9)


def test_standardising_centres_scales_and_puts_a_missing_value_at_the_mean():
    x = np.random.default_rng(0).normal(5.0, 3.0, (1000, 2)).astype(np.float32)
    x[3, 1] = np.nan
    z = RunningStats.of(x).standardise(x)
    assert z.dtype == np.float32 and z[3, 1] == 0.0
    np.testing.assert_allclose(z.mean(axis=0), 0.0, atol=1e-2)
    np.testing.assert_allclose(z.std(axis=0), 1.0, atol=1e-2)


def test_a_constant_column_is_not_blown_up_by_rounding_noise():
    x = np.full((1000, 1), 0.1, dtype=np.float32)
    x[::2] = np.nextafter(np.float32(0.1), np.float32(1.0))
    z = RunningStats.of(x).standardise(x)
    assert np.abs(z).max() < 1e-3


def test_an_outlier_is_clipped():
    stats = RunningStats.of(np.random.default_rng(0).normal(size=(100, 1)))
    assert stats.standardise(np.array([[1e30]]))[0, 0] == 10.0


def test_repeating_rows_is_merging_them_with_themselves():
    stats = RunningStats.of(np.random.default_rng(0).normal(size=(50, 4)))
    twice = stats.repeated(2)
    merged = stats.merge(stats)
    np.testing.assert_array_equal(twice.m2_D, merged.m2_D)
    np.testing.assert_array_equal(twice.mean_D, merged.mean_D)
