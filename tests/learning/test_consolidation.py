import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.learning.consolidation import ConsolidationConfig, Contribution, consolidate, delta_norm, refusal
from actors.learning.running_stats import RunningStats
from actors.learning.state import LocalChange, ModelState, layout_of, relaid


def change(weights, rows=10, buffers=None, optimizer=None, classes=2):
    weights = np.asarray(weights, np.float32)
    return LocalChange(
        layout_of({"w": weights.shape}),
        weights.reshape(-1),
        optimizer or {},
        buffers or {},
        RunningStats.empty(1),
        RunningStats.empty(0),
        np.full(classes, rows // classes),
        tuple("abcdef"[:classes]),
        rows,
    )


def state(weights, rows=0):
    weights = np.asarray(weights, np.float32)
    empty = ModelState.empty(1, 0)
    return ModelState(
        layout_of({"w": weights.shape}),
        weights.reshape(-1),
        {},
        {},
        empty.features,
        empty.target,
        np.zeros(2, np.int64),
        (),
        rows,
    )


@given(st.lists(st.floats(-100, 100, width=32), min_size=4, max_size=4), st.integers(1, 5))
def test_equal_contributions_give_that_contribution_bit_for_bit(weights, copies):
    base = state([0.1, -7.0, 3e-5, 12345.678])
    merged = consolidate(base, [Contribution(base, 0, change(weights)) for _ in range(copies)], copies)
    np.testing.assert_array_equal(merged.flat_P, np.asarray(weights, np.float32))


def test_the_mean_is_weighted_by_rows_and_rows_add_up():
    base = state([0.0, 0.0], rows=5)
    merged = consolidate(
        base, [Contribution(base, 0, change([4.0, 0.0], rows=30)), Contribution(base, 0, change([0.0, 4.0], rows=10))], 2
    )
    np.testing.assert_allclose(merged.flat_P, [3.0, 1.0])
    assert merged.rows == 45


def test_no_contribution_leaves_the_head_as_it_is():
    base = state([1.0])
    assert consolidate(base, [], 2) is base


def test_a_stale_contribution_moves_the_head_by_its_discounted_share():
    old, head = state([0.0]), state([10.0])
    merged = consolidate(head, [Contribution(old, 1, change([4.0]))], 2)
    np.testing.assert_allclose(merged.flat_P, [10.0 + 4.0 / (2 * 2)])


def test_shards_that_have_met_different_classes_are_aligned_by_class():
    base = state(np.ones((2, 3)))
    small, large = np.full((2, 3), 3.0), np.full((4, 3), 5.0)
    merged = consolidate(
        base, [Contribution(base, 0, change(small, 10, classes=2)), Contribution(base, 0, change(large, 10, classes=4))], 2
    )
    weights = merged.tensors()["w"]
    np.testing.assert_allclose(weights[:2], 4.0)
    np.testing.assert_allclose(weights[2:], 2.5)  # half of the shards moved it away from zero, where it starts
    assert merged.classes == ("a", "b", "c", "d") and len(merged.class_counts_K) == 4


def test_integer_buffers_are_never_averaged_and_float_ones_are():
    base = state([0.0])
    parts = [change([1.0], 10, {"count": np.array(3), "mean": np.array([1.0], np.float32)})]
    parts += [change([1.0], 10, {"count": np.array(8), "mean": np.array([2.0], np.float32)})]
    merged = consolidate(base, [Contribution(base, 0, part) for part in parts], 2)
    assert merged.buffers["count"] == 8 and merged.buffers["count"].dtype.kind == "i"
    np.testing.assert_allclose(merged.buffers["mean"], [1.5])


def test_moments_are_averaged_and_step_counts_are_not():
    base = state([0.0])
    parts = [
        change([1.0], 10, optimizer={"step": np.float32(steps), "m": np.array([m], np.float32)})
        for steps, m in ((4, 1.0), (6, 3.0))
    ]
    merged = consolidate(base, [Contribution(base, 0, part) for part in parts], 2)
    assert merged.optimizer["step"] == 6
    np.testing.assert_allclose(merged.optimizer["m"], [2.0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_contribution_that_is_not_finite_is_refused_with_the_reason(bad):
    base = state([0.0, 0.0])
    assert "not finite" in refusal(base, change([1.0, bad]), 1.0, None, 100.0)
    moments = {"m": np.array([0.0, bad], np.float32)}
    assert "m: 1 of 2" in refusal(base, change([1.0, 1.0], optimizer=moments), 1.0, None, 100.0)


def test_a_step_far_longer_than_usual_is_refused_and_a_usual_one_is_not():
    base = state([0.0, 0.0])
    wild, usual = change([500.0, 0.0]), change([1.0, 1.0])
    assert "times the usual" in refusal(base, wild, delta_norm(base, wild), 1.0, 100.0)
    assert refusal(base, usual, delta_norm(base, usual), 1.0, 100.0) is None
    assert refusal(base, wild, delta_norm(base, wild), None, 100.0) is None, "too early to know what is usual"


def test_after_a_time_in_which_there_was_nothing_to_learn_a_lesson_is_no_outlier():
    base = state([0.5, -0.5])
    lesson, wild = change([0.52, -0.5]), change([500.0, -0.5])
    assert refusal(base, lesson, delta_norm(base, lesson), 1e-7, 100.0) is None
    assert "times the usual 0.5" in refusal(base, wild, delta_norm(base, wild), 1e-7, 100.0)


def test_a_contribution_of_another_model_is_refused():
    assert "different models" in refusal(state(np.zeros((2, 2))), change(np.zeros(4)), 0.0, None, 100.0)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 3), st.integers(0, 3))
def test_relaying_out_keeps_every_weight_in_its_place(rows, columns, more_rows, more_columns):
    old = layout_of({"a": (rows, columns), "b": (rows,)})
    new = layout_of({"a": (rows + more_rows, columns + more_columns), "b": (rows + more_rows,)})
    flat = np.arange(1, old[-1].stop + 1, dtype=np.float32)
    grown = relaid(flat, old, new)
    a, b = grown[: new[0].stop].reshape(new[0].shape), grown[new[1].start :]
    np.testing.assert_array_equal(a[:rows, :columns].reshape(-1), flat[: old[0].stop])
    np.testing.assert_array_equal(b[:rows], flat[old[1].start :])
    assert grown.sum() == flat.sum()


ROBUST = ["trimmed_mean", "median", "krum"]


def merged_by(strategy, weights, *, head=None, rows=None, **options):
    base = head or state(np.zeros(len(weights[0])))
    rows = rows or [10] * len(weights)
    contributions = [Contribution(base, 0, change(each, n, **options)) for each, n in zip(weights, rows, strict=True)]
    return consolidate(base, contributions, len(weights), ConsolidationConfig(strategy=strategy))


@pytest.mark.parametrize("strategy", ["mean", *ROBUST])
@settings(deadline=None, max_examples=40)
@given(weights=st.lists(st.floats(-100, 100, width=32), min_size=4, max_size=4), copies=st.integers(1, 6))
def test_whatever_the_strategy_equal_contributions_give_that_contribution_bit_for_bit(strategy, weights, copies):
    merged = merged_by(strategy, [weights] * copies)
    np.testing.assert_array_equal(merged.flat_P, np.asarray(weights, np.float32))


@pytest.mark.parametrize("strategy", ROBUST)
@settings(deadline=None, max_examples=40)
@given(bad=st.floats(-1e6, 1e6, width=32), at=st.integers(0, 4), seed=st.integers(0, 50))
def test_one_shard_out_of_order_moves_the_result_no_further_than_the_others_lie_apart(strategy, bad, at, seed):
    good = np.random.default_rng(seed).normal(1.0, 0.1, (5, 6)).astype(np.float32)
    weights = good.copy()
    weights[at] = bad
    merged = merged_by(strategy, list(weights), rows=[10, 10, 10, 10, 1000] if at == 4 else None).flat_P
    others = np.delete(good, at, axis=0)
    if strategy == "krum" and (merged == weights[at]).all():  # what lies amid the others is not out of order
        assert np.linalg.norm(bad - others.mean(axis=0)) < 1.0
        return
    assert (merged >= others.min(axis=0) - 1e-6).all() and (merged <= others.max(axis=0) + 1e-6).all()


def test_trimmed_mean_and_median_go_weight_by_weight_and_krum_takes_one_as_it_is():
    weights = [[0.0, 9.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [90.0, -4.0]]
    np.testing.assert_allclose(merged_by("trimmed_mean", weights).flat_P, [2.0, 2.0])
    np.testing.assert_allclose(merged_by("median", weights).flat_P, [2.0, 2.0])
    assert merged_by("krum", weights).flat_P.tolist() == [2.0, 2.0]
    assert merged_by("krum", weights).rows == 50, "the rows of all have been learned"


@pytest.mark.parametrize("strategy", ROBUST)
def test_moments_are_combined_like_the_weights_and_integers_are_still_not_averaged(strategy):
    base = state([0.0])
    contributions = [
        Contribution(base, 0, change([w], 10, {"count": np.array(n)}, {"step": np.float32(n), "m": np.array([m], np.float32)}))
        for w, n, m in ((1.0, 3, 1.0), (1.0, 4, 2.0), (1.1, 8, 3.0), (1.2, 4, 4.0), (50.0, 5, 1e6))
    ]
    merged = consolidate(base, contributions, 5, ConsolidationConfig(strategy=strategy))
    assert merged.buffers["count"].dtype.kind == "i" and merged.buffers["count"] in (3, 4, 8)
    assert merged.optimizer["step"] in (3, 4, 8) and 1.0 <= merged.optimizer["m"][0] <= 4.0


def test_the_outer_optimizer_is_torchs_nesterov_along_the_mean_step_and_its_momentum_is_in_the_version():
    config = ConsolidationConfig(outer="nesterov", outer_learning_rate=0.5, outer_momentum=0.8)
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = torch.optim.SGD([weight], lr=0.5, momentum=0.8, nesterov=True)
    head, rng = state([1.0, -2.0]), np.random.default_rng(0)
    for _ in range(5):
        ends = [head.flat_P + rng.normal(size=2).astype(np.float32) for _ in range(2)]
        weight.grad = torch.from_numpy(head.flat_P - np.mean(ends, axis=0))
        optimizer.step()
        changes = [Contribution(head, 0, change(end)) for end in ends]
        head = ModelState.from_state(consolidate(head, changes, 2, config).to_state())
        np.testing.assert_allclose(head.flat_P, weight.detach().numpy(), rtol=1e-5)
    assert np.abs(head.tied["outer_momentum"]).sum() > 0


def test_without_an_outer_optimizer_one_shard_is_taken_as_it_is():
    base, one = state([0.1, -7.0]), [3e-5, 12345.678]
    merged = consolidate(base, [Contribution(base, 0, change(one))], 1, ConsolidationConfig())
    np.testing.assert_array_equal(merged.flat_P, np.asarray(one, np.float32))
    assert not merged.tied


def test_the_outer_momentum_grows_with_the_model():
    config = ConsolidationConfig(outer="nesterov")
    base = state(np.ones((2, 3)))
    first = consolidate(base, [Contribution(base, 0, change(np.full((2, 3), 2.0)))], 1, config)
    second = consolidate(first, [Contribution(first, 0, change(np.full((4, 3), 2.0), classes=4))], 1, config)
    assert second.flat_P.shape == second.tied["outer_momentum"].shape == (12,)
