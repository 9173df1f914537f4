"""The ensemble: honest, deterministic, the same however many shards, and good on streams that defeat single models."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from actors.learning.answer import Answer
from actors.learning.consolidation import Contribution, consolidate
from actors.learning.dealing import deal
from actors.learning.inputs import IDS, InputKind, InputLayout
from actors.learning.labels import FEEDBACK
from actors.learning.learner import LocalRound
from actors.learning.model_kinds import make_reader
from actors.learning.models.config import ModelConfig
from actors.learning.models.ensemble import experts as ask
from actors.learning.models.ensemble import heads, mixture
from actors.learning.models.ensemble.ensemble import EnsembleLearner
from actors.learning.models.ensemble.merging import merged
from actors.learning.models.ensemble.pending import asked, schedule
from actors.learning.models.ensemble.targets import CLASSES as CLASSES_AIM
from actors.learning.part import pack, unpack
from actors.learning.state import LocalChange, ModelState
from actors.learning.task import TaskConfig

MODEL = ModelConfig(kind="ensemble")
CLASSES, VALUES = TaskConfig(), TaskConfig(kind="regression")
SCORES = TaskConfig(kind="feedback", classes=["a", "b", "c"])


def empty(inputs: int, task: TaskConfig = CLASSES) -> ModelState:
    return ModelState.empty(inputs, 1 if task is VALUES else 0)


def work_of(
    x_ND: np.ndarray, y_N: np.ndarray, tests: tuple[int, int], trains: tuple[int, int], delay: int, shard: int, shards: int
) -> LocalRound:
    row_N = np.arange(len(y_N))
    test, train = slice(*tests), slice(*trains)
    x_test_ND = x_ND[test]
    x_train_ND = x_test_ND if tests == trains else x_ND[train]
    hands = [deal(stop - start, shards, 8)[shard] for start, stop in (tests, trains)]
    return LocalRound(row_N[test], x_test_ND, row_N[train], x_train_ND, y_N[train], *hands, delay)


def learned(
    x_ND: np.ndarray,
    y_N: np.ndarray,
    task: TaskConfig = CLASSES,
    *,
    delay: int = 0,
    shards: int = 1,
    round_rows: int = 64,
    head: ModelState | None = None,
    start: int = 0,
    inputs: InputLayout | None = None,
) -> tuple[np.ndarray, ModelState, list[list[LocalChange]]]:
    """What was answered for each row, the last version, and the shards' changes of each round."""
    layout = inputs or InputLayout.of(x_ND.shape[1])
    learners = [EnsembleLearner(MODEL, task, layout, seed=3) for _ in range(shards)]
    head = head or empty(x_ND.shape[1], task)
    answers = np.full(len(y_N), -2.0)
    rounds = []
    for first in range(start, len(y_N), round_rows):
        tests = first, min(first + round_rows, len(y_N))
        trains = max(start, tests[0] - delay), max(start, tests[1] - delay)
        changes = []
        for shard, learner in enumerate(learners):
            work = work_of(x_ND, y_N, tests, trains, delay, shard, shards)
            learner.load(head)
            answer = learner.round(work)
            given = answer.value_N if answer.value_N is not None else answer.code_N
            at_N = np.concatenate([np.arange(a, b) for a, b in work.test_slices] or [np.zeros(0, np.int64)]) + first
            assert given is not None
            answers[at_N] = given
            changes.append(learner.change())
        rounds.append(changes)
        if any(change.rows for change in changes):
            contributions = [Contribution(head, 0, change) for change in changes]
            head = replace(consolidate(head, contributions, shards), version=head.version + 1)
    return answers, head, rounds


def blobs(rows: int, seed: int = 0, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Classes that swap places half-way."""
    rng = np.random.default_rng(seed)
    centre_KD = 3 * np.array([[0, 1], [1, -1], [-1, -1], [2, 2]])[:classes]
    y_N = rng.integers(classes, size=rows)
    where_N = np.where(np.arange(rows) < rows // 2, y_N, (y_N + 1) % classes)
    x_ND = centre_KD[where_N] + rng.normal(0, 0.7, (rows, 2))
    return x_ND.astype(np.float32), y_N


def quadratic(rows: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    x_ND = rng.normal(0, 1, (rows, 3)).astype(np.float32)
    return x_ND, 1_000.0 + 40.0 * x_ND[:, 0] * x_ND[:, 1] + 25.0 * x_ND[:, 2] + rng.normal(0, 2, rows)


def feedback(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of answers drawn evenly, 1 for the right one; now and then a label instead."""
    rng = np.random.default_rng(2)
    x_ND = rng.normal(0, 1, (rows, 2)).astype(np.float32)
    right_N = np.where(x_ND[:, 0] > 0.4, 0, np.where(x_ND[:, 1] > 0, 1, 2))
    y_N = np.zeros(rows, FEEDBACK)
    y_N["code"] = rng.integers(3, size=rows)
    y_N["score"], y_N["propensity"] = y_N["code"] == right_N, 1 / 3
    labelled_N = rng.random(rows) < 0.1
    y_N["code"][labelled_N], y_N["score"][labelled_N] = right_N[labelled_N], np.nan
    return x_ND, y_N, right_N


def with_ids(x_ND: np.ndarray) -> tuple[np.ndarray, InputLayout]:
    """One more column, of ids."""
    id_V = np.random.default_rng(6).integers(1, IDS, 9)
    layout = InputLayout((*[InputKind.NUMBER] * x_ND.shape[1], InputKind.CATEGORY))
    return np.column_stack([x_ND, id_V[np.arange(len(x_ND)) % 9]]).astype(np.float32), layout


def pairs(rows: int) -> tuple[np.ndarray, np.ndarray, InputLayout]:
    """Of three classes, which two ids tell together and neither alone; 5 % of them are noise."""
    rng = np.random.default_rng(7)
    id_V, class_VV, at_N2 = rng.integers(1, IDS, 8), rng.integers(3, size=(8, 8)), rng.integers(8, size=(rows, 2))
    y_N = np.where(rng.random(rows) < 0.05, rng.integers(3, size=rows), class_VV[at_N2[:, 0], at_N2[:, 1]])
    return id_V[at_N2].astype(np.float32), y_N, InputLayout((InputKind.CATEGORY, InputKind.CATEGORY))


def sums(rows: int) -> tuple[np.ndarray, np.ndarray, InputLayout]:
    """Four ids of 60 each, of which every one makes a class that is drawn by chance a little more or less likely."""
    rng = np.random.default_rng(8)
    id_NC, worth_CV = rng.integers(60, size=(rows, 4)), rng.normal(0, 0.8, (4, 60))
    odds_N = worth_CV[np.arange(4), id_NC].sum(axis=1)
    y_N = (rng.random(rows) < 1 / (1 + np.exp(-odds_N))).astype(np.int64)
    return (id_NC + 1).astype(np.float32), y_N, InputLayout((InputKind.CATEGORY,) * 4)


def assert_equal(one: ModelState, other: ModelState) -> None:
    assert set(one.experts) == set(other.experts)
    assert replace(one, version=0).digest() == replace(other, version=0).digest()


def test_it_learns_a_stream_whose_classes_swap_places_and_recovers_at_once() -> None:
    x_ND, y_N = blobs(2_000)
    answer_N, _, _ = learned(x_ND, y_N)
    hit_N = answer_N == y_N
    assert hit_N[300:1_000].mean() > 0.97
    assert hit_N[1_150:].mean() > 0.95


@pytest.mark.parametrize("delay", [64, 256])
def test_where_labels_come_late_it_is_over_a_change_soon_after_its_first_labels(delay: int) -> None:
    """Not only once there are labels of what it said after them, which is twice as late."""
    x_ND, y_N = blobs(2_400)
    answer_N, _, _ = learned(x_ND, y_N, delay=delay)
    seen = 1_200 + delay
    assert (answer_N == y_N)[seen + 50 : seen + 250].mean() > 0.95


def test_readings_are_alike_until_a_label_comes_late() -> None:
    x_ND, y_N = blobs(400)
    _, head, _ = learned(x_ND, y_N)
    assert mixture.readings(head.experts) == 1
    for name in ("mixture.weights", "mixture.squares", "mixture.trust", "mixture.second"):
        said, anew = head.experts[name]
        assert np.array_equal(said, anew)
    _, head, _ = learned(x_ND, y_N, delay=1)
    assert mixture.readings(head.experts) == mixture.READINGS


@pytest.mark.parametrize("delay", [0, 3, 50])
def test_a_labelled_row_is_asked_about_after_the_labels_before_its_own(delay: int) -> None:
    test_N, train_T = np.arange(100, 140), np.arange(100 - delay, 140 - delay)
    x_AD = np.arange(200, dtype=np.float32)[:, None]
    test = ask.Rows(*(x_AD[test_N],) * 3, None, None, np.zeros((40, 0), np.int64))
    train = ask.Rows(*(x_AD[train_T],) * 3, None, None, np.zeros((40, 0), np.int64))
    upto_N, _ = schedule(test_N, train_T, delay)
    found = asked(test, train, upto_N)
    assert (np.diff(found.upto_A) >= 0).all()
    assert found.upto_A[found.train_T].tolist() == list(range(40))
    assert found.upto_A[found.test_N].tolist() == upto_N.tolist()
    for rows, at_N in ((test_N, found.test_N), (train_T, found.train_T)):
        assert found.rows.x_ND[at_N, 0].tolist() == found.rows.z_ND[at_N, 0].tolist() == rows.tolist()


def test_on_labels_that_say_nothing_it_scores_chance() -> None:
    x_ND, y_N = blobs(2_000)
    y_N = np.random.default_rng(5).permutation(y_N)
    answer_N, _, _ = learned(x_ND, y_N)
    assert abs((answer_N == y_N)[200:].mean() - 1 / 3) < 0.045  # four standard errors


@pytest.mark.parametrize("delay", [0, 1, 30, 100])
@pytest.mark.parametrize("task", [CLASSES, VALUES], ids=["classes", "values"])
def test_a_label_touches_no_answer_before_it_is_visible(delay: int, task: TaskConfig) -> None:
    x_ND, y_N = blobs(400) if task is CLASSES else quadratic(400)
    x_ND, inputs = with_ids(x_ND)
    poisoned_N, at = y_N.copy(), 200
    poisoned_N[at:] = (y_N[at:] + 1) % 3 if task is CLASSES else y_N[at:] * 3
    clean, _, _ = learned(x_ND, y_N, task, delay=delay, inputs=inputs)
    poisoned, _, _ = learned(x_ND, poisoned_N, task, delay=delay, inputs=inputs)
    first = at + delay + 1  # the first row that is predicted after the label of row `at` is visible
    assert (clean[:first] == poisoned[:first]).all()
    assert (clean[first:] != poisoned[first:]).any()


def test_shards_bring_equal_experts_whatever_rows_they_were_dealt() -> None:
    x_ND, y_N = blobs(500)
    x_ND, inputs = with_ids(x_ND)
    _, head, rounds = learned(x_ND, y_N, shards=3, inputs=inputs)
    for changes in rounds:
        for change in changes[1:]:
            assert all(np.array_equal(array, change.experts[name]) for name, array in changes[0].experts.items())
    assert head.rows == 500 and head.class_counts_K.sum() == 500


@pytest.mark.parametrize("delay", [0, 8])
def test_where_labels_stick_and_features_say_nothing_it_is_as_good_as_repeating_the_latest(delay: int) -> None:
    draw = np.random.default_rng(6)
    starts_N = draw.random(3_000) < 0.04
    y_N = draw.integers(0, 12, 3_000)[np.maximum.accumulate(np.where(starts_N, np.arange(3_000), 0))]
    answer_N = learned(draw.normal(size=(3_000, 3)).astype(np.float32), y_N, delay=delay)[0]
    latest_N = np.concatenate([np.full(1 + delay, -1), y_N[: -1 - delay]])
    assert (answer_N == y_N)[1_000:].mean() > (latest_N == y_N)[1_000:].mean() - 0.015


def test_more_shards_are_as_good_as_one() -> None:
    x_ND, y_N = blobs(1_200)
    scores = [(learned(x_ND, y_N, shards=shards)[0] == y_N).mean() for shards in (1, 2, 4)]
    assert max(scores) - min(scores) < 0.005


def test_the_same_rows_give_the_same_versions_bit_for_bit_also_from_what_was_written_down() -> None:
    x_ND, y_N = blobs(600)
    _, whole, _ = learned(x_ND, y_N, delay=20)
    _, half, _ = learned(x_ND[:320], y_N[:320], delay=20)
    _, again, _ = learned(x_ND, y_N, delay=20)
    assert_equal(whole, again)
    assert_equal(ModelState.from_state(unpack(pack(half.to_state()))), half)


@pytest.mark.parametrize("delay", [0, 20])
@pytest.mark.parametrize("task", [CLASSES, VALUES, SCORES], ids=["classes", "values", "scores"])
def test_what_a_version_serves_is_what_the_learner_would_answer(task: TaskConfig, delay: int) -> None:
    x_ND, y_N = blobs(400) if task is CLASSES else quadratic(400) if task is VALUES else feedback(400)[:2]
    x_ND, inputs = with_ids(x_ND)
    _, head, _ = learned(x_ND, y_N, task, delay=delay, inputs=inputs)
    reader = make_reader(MODEL, task, inputs, seed=3)
    reader.load(head)
    served = reader.predict(x_ND[:40])
    learner = EnsembleLearner(MODEL, task, inputs, seed=3)
    learner.load(head)
    row_N = np.arange(1_000, 1_040)
    tested = learner.round(LocalRound(row_N, x_ND[:40], row_N[:0], x_ND[:0], y_N[:0], ((0, 40),), (), 0))
    for one, other in zip(parts(served), parts(tested), strict=True):
        assert np.array_equal(one, other)
    one_by_one = [reader.predict(x_ND[at : at + 1]) for at in range(40)]
    for at, one in enumerate(one_by_one):
        for alone, together in zip(parts(one), parts(served), strict=True):
            np.testing.assert_allclose(alone[0], together[at], rtol=1e-4, atol=1e-5)


def parts(answer: Answer) -> list[np.ndarray]:
    return [part for part in (answer.code_N, answer.probability_NK, answer.value_N) if part is not None]


def test_what_two_ids_tell_only_together_is_learned() -> None:
    x_ND, y_N, inputs = pairs(4_000)
    answer_N, head, _ = learned(x_ND, y_N, inputs=inputs)
    assert (answer_N == y_N)[2_000:].mean() > 0.93  # 0.967 can be had
    again = ModelState.from_state(unpack(pack(head.to_state())))
    assert_equal(again, head)


def test_what_ids_are_worth_is_added_up() -> None:
    x_ND, y_N, inputs = sums(2_000)
    answer_N, _, _ = learned(x_ND, y_N, inputs=inputs)
    assert (answer_N == y_N)[1_000:].mean() > 0.66  # 0.736 by who knows what each is worth


@pytest.mark.parametrize("delay", [0, 256])
def test_values_are_estimated_far_better_than_by_their_mean(delay: int) -> None:
    x_ND, y_N = quadratic(3_000)
    answer_N, _, _ = learned(x_ND, y_N, VALUES, delay=delay)
    error_N = np.abs(answer_N - y_N)
    assert error_N[1_500:].mean() < 0.1 * np.abs(y_N - y_N.mean()).mean()  # 0.05 is noise


def test_scores_of_answers_teach_which_answer_is_right() -> None:
    x_ND, y_N, right_N = feedback(3_000)
    answer_N, _, _ = learned(x_ND, y_N, SCORES)
    assert (answer_N == right_N)[1_500:].mean() > 0.85


def test_a_class_that_appears_mid_stream_is_answered_soon() -> None:
    x_ND, y_N = blobs(1_200)
    late = y_N == 2
    keep = ~late | (np.arange(1_200) >= 600)
    x_ND, y_N = x_ND[keep], y_N[keep]
    answer_N, head, _ = learned(x_ND, y_N)
    assert head.class_counts_K.tolist() == np.bincount(y_N).tolist()
    assert (answer_N == y_N)[-200:].mean() > 0.9


def test_missing_values_do_no_harm() -> None:
    x_ND, y_N = blobs(800)
    x_ND[np.random.default_rng(0).random(x_ND.shape) < 0.2] = np.nan
    answer_N, head, _ = learned(x_ND, y_N)
    assert (answer_N == y_N)[-300:].mean() > 0.6
    assert all(np.isfinite(a).all() for n, a in head.experts.items() if n.startswith(("mixture.", "heads.")))


def test_a_replay_memory_that_is_empty_still_gives_nothing_to_learn() -> None:
    x_ND, y_N = blobs(64)
    row_N, all_rows = np.arange(64), ((0, 64),)
    learners = [EnsembleLearner(MODEL, CLASSES, x_ND.shape[1], seed=1) for _ in range(2)]
    for learner, replayed in zip(learners, [(None, None), (np.zeros((0, 0), np.float32), y_N[:0])], strict=True):
        learner.round(LocalRound(row_N, x_ND, row_N, x_ND, y_N, all_rows, all_rows, 0, *replayed))
    assert np.array_equal(learners[0].change().flat_P, learners[1].change().flat_P)


def test_memory_of_what_waits_and_of_rows_is_bounded() -> None:
    x_ND, y_N = blobs(7_000)
    _, head, _ = learned(x_ND, y_N, delay=1_000, round_rows=512)
    assert len(head.experts["memory.y"]) == len(head.experts["memory.x"]) == 5_000
    assert len(head.experts["memory.embedding"]) == 1_024
    assert sum(head.experts[f"pending.{name}"].nbytes for name in ("said", "mixed")) <= 4_000_000
    assert len(head.experts["pending.row"]) == 1_000


def test_contributions_to_different_versions_are_joined_and_a_round_counts_once() -> None:
    x_ND, y_N = blobs(512)
    _, base, _ = learned(x_ND[:256], y_N[:256], round_rows=64)
    changes = []
    for first in (256, 320):
        learner = EnsembleLearner(MODEL, CLASSES, 2, seed=3)
        learner.load(base)
        learner.round(work_of(x_ND, y_N, (first, first + 64), (first, first + 64), 0, 0, 1))
        changes.append(learner.change())
    one, other = changes
    joined = merged(base.experts, [(base.experts, other.experts), (base.experts, one.experts), (base.experts, one.experts)])
    assert joined["memory.row"].tolist() == list(range(384))
    assert (joined["memory.y"] == y_N[:384]).all() and (joined["memory.x"] == x_ND[:384]).all()
    assert joined["rounds"].tolist()[-2:] == [383, 319]
    step = joined["heads.0.weights"] - base.experts["heads.0.weights"]
    steps: Sequence[np.ndarray] = [change.experts["heads.0.weights"] - base.experts["heads.0.weights"] for change in changes]
    np.testing.assert_allclose(step, steps[0] + steps[1], atol=1e-5)
    gram = [change.experts["analytic.gram"][0] - base.experts["analytic.gram"][0] for change in changes]
    np.testing.assert_allclose(joined["analytic.gram"][0], base.experts["analytic.gram"][0] + gram[0] + gram[1], rtol=1e-6)


def test_contributions_of_a_change_that_all_have_seen_leave_sums_in_bounds() -> None:
    """Each takes away what it has faded of the same sums; added up, that would be more than there is."""
    x_ND, inputs = with_ids(np.zeros((512, 1), np.float32))
    x_ND[:, 1], y_N = 77.0, np.random.default_rng(0).integers(0, 2, 512)
    y_N[256:] = 0
    _, base, _ = learned(x_ND[:256], y_N[:256], round_rows=64, inputs=inputs)
    changes = []
    for first in (256, 320, 384, 448):
        learner = EnsembleLearner(MODEL, CLASSES, inputs, seed=3)
        learner.load(base)
        learner.round(work_of(x_ND, y_N, (first, first + 64), (first, first + 64), 0, 0, 1))
        changes.append((base.experts, learner.change().experts))
    state = replace(base, experts=merged(base.experts, changes))
    _, in_order, _ = learned(x_ND, y_N, round_rows=64, inputs=inputs)
    for name in ("evidence.counts", "evidence.rows", "evidence.sums", "evidence.all", "recency.sums", "recency.weights"):
        np.testing.assert_allclose(state.experts[name], in_order.experts[name], rtol=1e-3, atol=1e-3)
    assert (state.experts["recency.follows"] >= 0).all()
    assert (state.experts["mixture.weights"][:, 0] > 0).all()
    assert all((part >= 0).all() for name, part in state.experts.items() if name.endswith(".squares"))
    reader = make_reader(MODEL, CLASSES, inputs, seed=3)
    reader.load(state)
    assert all(np.isfinite(part).all() for part in parts(reader.predict(x_ND[:20])))


def mixed_answers(log_NEK: np.ndarray, code_N: np.ndarray) -> np.ndarray:
    """float32 [N, K]: row n after the labels of the earlier ones."""
    rows, experts, outputs = log_NEK.shape
    parts, row_N = mixture.fresh(experts), np.arange(rows)
    mixed_NVYK, p_NK = np.zeros((rows, 1, mixture.MIXTURES + 1, outputs), np.float32), np.zeros((rows, outputs), np.float32)
    one_N, no_age_N = np.ones(rows, np.float32), np.zeros(rows, np.float32)
    mixture.mix(
        CLASSES_AIM, log_NEK, log_NEK, log_NEK, np.ones(rows, bool), no_age_N, code_N, np.full(rows, np.nan, np.float32), one_N,
        row_N, np.ones(outputs, bool), parts["mixture.weights"], parts["mixture.squares"], parts["mixture.trust"],
        parts["mixture.lasting"], parts["mixture.second"], parts["mixture.standing"], parts["mixture.returns"],
        np.ones(outputs, np.float32), mixture.RATES_R, mixture.SHARES_Q, row_N, np.zeros_like(mixed_NVYK), mixed_NVYK, p_NK,
    )  # fmt: skip
    return p_NK


@pytest.mark.parametrize("turned", [False, True])
def test_the_one_of_many_experts_who_knows_is_found_within_a_hundred_rows(turned: bool) -> None:
    """Also where he says the contrary of what is true."""
    rng, rows, experts = np.random.default_rng(8), 1_000, 70
    code_N = rng.integers(2, size=rows)
    said_NEK = rng.dirichlet((1.0, 1.0), (rows, experts)).astype(np.float32)
    sure_N = np.where(rng.random(rows) < 0.95, 0.8, 0.2)
    for k in range(2):
        said_NEK[:, 33, k] = np.where((code_N == k) != turned, sure_N, 1 - sure_N)
    mixture.to_logs(CLASSES_AIM, said_NEK)
    hit_N = mixed_answers(said_NEK, code_N).argmax(axis=1) == code_N
    assert hit_N[(300 if turned else 100) :].mean() > 0.9


def test_a_step_for_a_late_label_is_shorter_and_a_small_one_hardly() -> None:
    for rate in (2e-4, 1e-2):
        assert mixture.late(np.float32(rate), 0.0) == np.float32(rate)
        left = [mixture.late(np.float32(rate), age) for age in (0.0, 1.0, 32.0, 256.0, 1e6)]
        assert left == sorted(left, reverse=True) and left[-1] < 1e-6
    assert mixture.late(np.float32(2e-4), 256.0) > 0.9 * 2e-4
    assert mixture.late(np.float32(3e-2), 256.0) < 0.1 * 3e-2


def test_linear_heads_are_not_asked_about_what_the_stream_shows_no_more() -> None:
    x_ND, y_N = blobs(600)
    _, head, _ = learned(x_ND, y_N)
    trusted_E, may_E = head.experts["mixture.lasting"], ask.lasting(CLASSES_AIM, 3, has_pairs=False)
    assert len(trusted_E) == len(may_E) and not trusted_E[~may_E].any() and (trusted_E[may_E] > 0).sum() > 1
    assert (~may_E).sum() == 4 * len(heads.STEPS_H4) + len(heads.VALUE_STEPS_H4)


def test_the_schedule_shows_a_label_after_the_row_that_lies_delay_rows_later() -> None:
    upto_N, age_T = schedule(np.arange(10, 20), np.arange(8, 18), 2)
    assert upto_N.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert age_T.tolist() == [2] * 10
    upto_N, age_T = schedule(np.arange(5), np.arange(5), 0)
    assert upto_N.tolist() == [0, 1, 2, 3, 4]
    assert age_T.tolist() == [0] * 5
    upto_N, age_T = schedule(np.arange(0), np.arange(3), 7)
    assert len(upto_N) == 0 and age_T.tolist() == [0, 0, 0]


def test_it_tells_how_badly_replayed_rows_were_predicted() -> None:
    x_ND, y_N = blobs(900)
    _, head, _ = learned(x_ND[:450], y_N[:450])
    learner = EnsembleLearner(MODEL, CLASSES, 2, seed=3)
    learner.load(head)
    work = work_of(x_ND, y_N, (300, 364), (300, 364), 0, 0, 1)
    wrong_N = np.arange(100) % 4 == 0
    replayed_N = np.where(wrong_N, (y_N[:100] + 1) % 3, y_N[:100])
    for weight_N in (None, np.full(100, 0.5, np.float32)):
        learner.round(replace(work, replay_x_ND=x_ND[:100], replay_y_N=replayed_N, replay_weight_N=weight_N))
        loss_R = learner.findings().loss_R
        assert len(loss_R) == 100 and loss_R[wrong_N].min() > loss_R[~wrong_N].mean()
