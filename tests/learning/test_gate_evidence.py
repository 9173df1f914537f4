"""What the gate counts as evidence: exact where it is a theorem, the same however rows come, and never wrong in its sign."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from actors.learning.gate.bets import BET_K
from actors.learning.gate.config import GuardsConfig
from actors.learning.gate.e_detector import EDetector
from actors.learning.gate.e_process import EProcess
from actors.learning.gate.losses import RelativeLoss, expected_code, feedback_loss, zero_one_loss
from actors.learning.gate.run_length import RunLength
from actors.learning.gate.slices import SliceHarm
from actors.learning.labels import FEEDBACK
from actors.learning.part import Part, pack, unpack

BOTH = pytest.mark.parametrize("kind", [EProcess, EDetector])
gains = st.lists(st.one_of(st.sampled_from([-1.0, 0.0, 1.0]), st.floats(-1, 1)), max_size=60)


def written_and_read(state):
    part = pack(state)
    return unpack(Part(part.arrays, json.loads(json.dumps(part.plain, allow_nan=False))))


def paths(rows):
    """[2^rows, rows]: every sequence of fair coins, gains of -1 and 1."""
    return np.array(list(itertools.product([-1.0, 1.0], repeat=rows)))


@BOTH
@settings(max_examples=60, deadline=None)
@given(gain=gains, cuts=st.lists(st.integers(0, 60), max_size=6))
def test_evidence_is_the_same_to_the_bit_however_rows_are_cut_and_state_is_written_down(kind, gain, cuts):
    gain_N = np.array(gain)
    whole, log_e_N = kind().after(gain_N)
    one_by_one, pieces, found = kind(), kind(), []
    for value, log_e in zip(gain_N, log_e_N, strict=True):
        one_by_one, (alone,) = one_by_one.after(np.array([value]))
        assert alone == log_e == one_by_one.log_e
    for piece in np.split(gain_N, sorted(min(cut, len(gain)) for cut in cuts)):
        pieces, more = kind.from_state(written_and_read(pieces.to_state())).after(piece)
        found += more.tolist()
    assert found == log_e_N.tolist() and pieces.log_e == one_by_one.log_e == whole.log_e


@settings(max_examples=60, deadline=None)
@given(gain=gains)
def test_both_are_what_their_definitions_say(gain):
    growth_KN = 1.0 + np.multiply.outer(BET_K, np.array(gain))
    _, process_N = EProcess().after(np.array(gain))
    _, detector_N = EDetector().after(np.array(gain))
    for n in range(1, len(gain) + 1):
        assert np.isclose(process_N[n - 1], np.log(growth_KN[:, :n].prod(axis=1).mean()), atol=1e-9)
        joined = sum(growth_KN[:, j:n].prod(axis=1) for j in range(n))
        assert np.isclose(detector_N[n - 1], np.log(joined.mean()), atol=1e-9)


def test_where_no_version_is_better_the_mean_capital_is_1_and_that_of_the_detector_the_number_of_rows():
    process = np.array([np.exp(EProcess().after(path)[1]) for path in paths(10)])
    detector = np.array([np.exp(EDetector().after(path)[1]) for path in paths(10)])
    assert np.allclose(process.mean(axis=0), 1.0) and np.allclose(detector.mean(axis=0), np.arange(1, 11))


@pytest.mark.parametrize("alpha", [0.5, 0.2, 0.05])
def test_of_all_paths_of_a_fair_coin_at_most_alpha_ever_look_significant(alpha):
    highest = np.array([np.exp(EProcess().after(path)[1]).max() for path in paths(12)])
    assert 0 < (highest >= 1 / alpha).mean() <= alpha


@BOTH
def test_capital_stays_a_number_after_any_luck(kind):
    for gain in (1.0, -1.0):
        there, _ = kind().after(np.full(100_000, gain))
        back, log_e_N = there.after(np.full(100_000, -gain))
        assert np.isfinite(there.log_e) and np.isfinite(back.log_e) and np.isfinite(log_e_N).all()


def test_the_detector_forgets_good_times_and_the_process_does_not():
    gain_N = np.concatenate([np.full(2_000, -0.5), np.full(200, 0.5)])
    assert np.exp(EDetector().after(gain_N)[1][-1]) > 1e5
    assert EProcess().after(gain_N)[1][-1] < 0


@pytest.mark.parametrize("points, process_row, detector_row", [(1, 5385, 5385), (2, 1557, 1636), (5, 166, 316)])
def test_evidence_suffices_at_these_rows(points, process_row, detector_row):
    """Pinned, where products of capital without logarithms pass 20 and 100,000, too; disagreement on 6 % of the rows."""
    even_N = np.random.default_rng(3).random(20_000)
    gain_N = np.select([even_N < 0.03 + points / 200, even_N < 0.06], [1.0, -1.0], 0.0)
    assert int((EProcess().after(gain_N)[1] >= np.log(20)).argmax()) == process_row
    assert int((EDetector().after(gain_N)[1] >= np.log(100_000)).argmax()) == detector_row


# --- slices


def test_harm_in_one_class_is_seen_behind_gains_in_the_others_and_a_small_one_is_tolerated():
    rng = np.random.default_rng(1)
    slice_N = rng.integers(0, 3, 3_000)
    for loss, is_harm in ((0.2, True), (0.015, False)):
        gain_N = np.where(slice_N == 2, -(rng.random(3_000) < loss).astype(float), 0.3)
        harm, log_e_N = SliceHarm(GuardsConfig()).after(slice_N, gain_N)
        assert ((log_e_N >= harm.log_limit).any()) == is_harm
        assert not (log_e_N[slice_N != 2] > 0).any()


def test_classes_beyond_the_bound_count_as_one():
    slice_N = np.arange(500) % 50
    harm, _ = SliceHarm(GuardsConfig(slices=3)).after(slice_N, np.full(500, -1.0))
    assert [code for code, _ in harm.to_state()] == [-1, 0, 1, 2]


slice_rows = st.lists(st.tuples(st.integers(-1, 5), st.floats(-1, 1)), max_size=20)


@settings(max_examples=60, deadline=None)
@given(before=slice_rows, after=slice_rows)
def test_slices_do_not_care_how_rows_are_cut(before, after):
    guards = GuardsConfig(slices=3)
    slice_N, gain_N = np.array([*before, *after]).reshape(-1, 2).T
    slice_N, cut = slice_N.astype(np.int64), len(before)
    whole, log_e_N = SliceHarm(guards).after(slice_N, gain_N)
    first, before_N = SliceHarm(guards).after(slice_N[:cut], gain_N[:cut])
    second, after_N = SliceHarm.from_state(guards, written_and_read(first.to_state())).after(slice_N[cut:], gain_N[cut:])
    assert [*before_N, *after_N] == list(log_e_N)
    assert [code for code, _ in second.to_state()] == [code for code, _ in whole.to_state()]


# --- runs

values = st.lists(st.sampled_from([0.0, 1.0, np.nan]), max_size=8)


@given(values, values)
def test_a_run_is_as_long_as_the_same_value_was_seen(before, after):
    first, before_N = RunLength().after(np.array(before))
    _, after_N = RunLength.from_state(written_and_read(first.to_state())).after(np.array(after))
    expected, last, length = [], None, 0
    for value in [*before, *after]:
        length = length + 1 if value == last else 1
        last = value
        expected.append(length)
    assert [*before_N, *after_N] == expected


# --- losses

errors = st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=30)


@given(errors, st.randoms(use_true_random=False), st.sampled_from([1, 2]))
def test_the_smaller_error_loses_less_whatever_the_unit(production, random, power):
    production_N = np.array(production)
    shadow_N = np.array([error * random.choice([0.5, 1.0, 1.5]) for error in production])
    lost_N, shadow_lost_N = RelativeLoss(power).losses(production_N, -shadow_N)
    assert (np.sign(lost_N - shadow_lost_N)[1:] == np.sign(production_N - shadow_N)[1:]).all()
    assert lost_N[0] == shadow_lost_N[0], "before there is a scale it is a tie"
    assert ((lost_N >= 0) & (lost_N <= 1)).all()
    in_other_unit = RelativeLoss(power).losses(1024.0 * production_N, 1024.0 * shadow_N)
    assert np.allclose(in_other_unit, [lost_N, shadow_lost_N], rtol=1e-12)


@given(errors, st.integers(1, 29))
def test_a_rows_scale_is_fixed_before_its_label_is_seen(production, cut):
    assume(cut < len(production))
    production_N, shadow_N = np.array(production), np.full(len(production), 0.7)
    _, expected_N = RelativeLoss(1).losses(production_N, shadow_N)
    first = RelativeLoss(1)
    _, before_N = first.losses(production_N[:cut], shadow_N[:cut])
    second = RelativeLoss(1)
    second.restore(written_and_read(first.to_state()))
    changed_N = production_N[cut:].copy()
    changed_N[0] *= 100
    _, after_N = second.losses(changed_N, shadow_N[cut:])
    assert [*before_N, after_N[0]] == list(expected_N[: cut + 1])


def test_the_scale_follows_productions_median_error():
    rng = np.random.default_rng(0)
    relative = RelativeLoss(1)
    for unit in (1.0, 50.0):
        lost_N, _ = relative.losses(unit * rng.exponential(size=4_000), np.zeros(4_000))
        assert 0.47 < (lost_N[1_000:] < 0.5).mean() < 0.53


def test_no_answer_loses_1_and_a_perfect_production_is_no_obstacle():
    production_N, shadow_N = np.array([0.0, 0.0, np.nan, 0.0, 1e300]), np.array([np.inf, 2.0, 1.0, 0.0, 1e-300])
    lost_N, shadow_lost_N = RelativeLoss(2).losses(production_N, shadow_N)
    assert lost_N.tolist() == [0, 0, 1, 0, 1] and shadow_lost_N.tolist() == [1, 1, 1, 0, 1]
    assert zero_one_loss(np.array([0, 1, 1]), np.array([0, 0, -1])).tolist() == [0, 1, 1]
    label_N = np.array([(0, np.nan, 1, 1), (2, np.nan, 1, 1), (0, 1, 0.5, 1)], FEEDBACK)
    nothing_NK = np.array([[0.5, 0.5], [0.5, 0.5], [np.nan, np.nan]])
    assert feedback_loss(label_N, nothing_NK, 10.0).tolist() == [0.5, 1, 1]


def test_the_reward_of_answers_that_were_not_given_is_estimated_without_bias():
    given_K, asked_K, reward_K = np.array([0.9, 0.05, 0.05]), np.array([0.1, 0.8, 0.1]), np.array([0.2, 1.0, 0.0])
    label_K = np.zeros(3, FEEDBACK)
    label_K["code"], label_K["score"], label_K["propensity"] = np.arange(3), reward_K, given_K
    earned_K = 20.0 * (1.0 - feedback_loss(label_K, np.tile(asked_K, (3, 1)), 20.0))
    assert np.isclose(given_K @ earned_K, asked_K @ reward_K)
    bounded_K = feedback_loss(label_K, np.tile(asked_K, (3, 1)), 2.0)
    assert np.allclose(bounded_K, [1 - 0.1 / 0.9 * 0.2 / 2, 0.0, 1.0]), "16 times as probable counts for 2"


def test_the_output_of_a_classifier_tells_distributions_apart_that_have_the_same_best_class():
    outputs = expected_code(np.array([[0.6, 0.4], [0.7, 0.3], [0.7, 0.3], [np.nan, 1.0]]))
    assert outputs[0] != outputs[1] == outputs[2] and np.isnan(outputs[3])
