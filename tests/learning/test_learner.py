"""Test-then-train: equal to the plain loop, and honest about what it may know."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from actors.learning.consolidation import Contribution, consolidate
from actors.learning.dealing import deal
from actors.learning.learner import Learner, LocalRound
from actors.learning.model_kinds import make_learner, make_reader
from actors.learning.models.config import ModelConfig
from actors.learning.models.mlp import MLP
from actors.learning.optimizers import OptimizerConfig
from actors.learning.running_stats import RunningStats
from actors.learning.state import ModelState
from actors.learning.task import TaskConfig

INPUTS = 5
MLP_16 = ModelConfig(kind="mlp", hidden=[16])
ADAM = OptimizerConfig(name="adam", learning_rate=1e-2)


def stream(rows, seed=0, classes=3):
    rng = np.random.default_rng(seed)
    x = rng.normal(2.0, 3.0, (rows, INPUTS)).astype(np.float32)
    y = (x @ rng.normal(size=(INPUTS, classes))).argmax(axis=1).astype(np.int64)
    return x, y


def learner(*, model=MLP_16, optimizer=ADAM, task=None, shards=1, seed=7, **options):
    return Learner(model, optimizer, task or TaskConfig(classes=[0, 1, 2]), INPUTS, seed=seed, shards=shards, **options)


def whole_round(x, y, micro_batch=8, delay=0, first_row=0, **replay):
    row = np.arange(first_row, first_row + len(x))
    (hand,) = deal(len(x), 1, micro_batch)
    return LocalRound(row, x, row, x, y, hand, hand, delay, **replay)


def learn_rounds(x, y, *, shards=1, round_rows=64, micro_batch=8, identical=False, **options):
    """The loop of a whole system in one process: deal, learn, consolidate. Returns the versions and the answers."""
    learners = [learner(shards=shards, **options) for _ in range(shards)]
    head, versions, codes = ModelState.empty(INPUTS, 0), [], np.full(len(x), -9)
    for start in range(0, len(x), round_rows):
        part = slice(start, start + round_rows)
        row = np.arange(len(x))[part]
        hands = deal(len(row), 1 if identical else shards, micro_batch) * (shards if identical else 1)
        contributions = []
        for each, hand in zip(learners, hands, strict=True):
            if not hand:
                continue
            each.load(head)
            answer = each.round(LocalRound(row, x[part], row, x[part], y[part], hand, hand, 0))
            codes[row[np.concatenate([np.arange(a, b) for a, b in hand])]] = answer.code_N
            contributions.append(Contribution(head, 0, each.change()))
        head = consolidate(head, contributions, shards)
        versions.append(head)
    return versions, codes


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop"])
@pytest.mark.parametrize("micro_batch", [1, 8])
def test_one_shard_is_the_plain_torch_loop_weight_for_weight(name, micro_batch):
    x, y = stream(192)
    optimizer = OptimizerConfig(name=name, learning_rate=1e-2)
    versions, codes = learn_rounds(x, y, micro_batch=micro_batch, optimizer=optimizer)

    torch.manual_seed(7)
    plain = MLP(INPUTS, 3, (16,))
    with torch.no_grad():
        plain.layers[-1].weight.zero_()
        plain.layers[-1].bias.zero_()
    step = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}[name](plain.parameters(), lr=1e-2)
    seen, expected = RunningStats.empty(INPUTS), []
    for start in range(0, len(x), micro_batch):
        x_batch, y_batch = x[start : start + micro_batch], torch.from_numpy(y[start : start + micro_batch])
        before = torch.from_numpy(seen.standardise(x_batch))
        with torch.no_grad():
            out = plain(before)
            classes_seen = torch.isin(torch.arange(3), torch.from_numpy(y[:start]))
            expected += out.masked_fill(~classes_seen, -torch.inf).argmax(dim=1).tolist() if start else [0] * len(x_batch)
        z = before if start else torch.from_numpy(RunningStats.of(x_batch).standardise(x_batch))
        seen = seen.merge(RunningStats.of(x_batch))
        step.zero_grad()
        functional.cross_entropy(plain(z), y_batch).backward()
        step.step()
    for name_, tensor in plain.named_parameters():
        np.testing.assert_allclose(versions[-1].tensors()[name_], tensor.detach().numpy(), rtol=1e-4, atol=1e-6)
    assert codes.tolist() == expected


def test_two_shards_on_identical_data_give_the_model_of_one_bit_for_bit():
    x, y = stream(256)
    (one, _), (two, _) = learn_rounds(x, y), learn_rounds(x, y, shards=2, identical=True)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.flat_P, b.flat_P)
        np.testing.assert_array_equal(a.features.mean_D, b.features.mean_D)
        np.testing.assert_array_equal(a.features.scale_D, b.features.scale_D)


def test_the_same_seed_gives_the_same_versions_and_another_seed_others():
    x, y = stream(256)
    digests = [[v.digest() for v in learn_rounds(x, y, shards=3, seed=seed)[0]] for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_statistics_merged_over_shards_are_those_of_all_rows():
    x, y = stream(300)
    versions, _ = learn_rounds(x, y, shards=3)
    exact = RunningStats.of(x)
    np.testing.assert_allclose(versions[-1].features.mean_D, exact.mean_D, rtol=1e-10)
    np.testing.assert_allclose(versions[-1].features.m2_D, exact.m2_D, rtol=1e-10)
    np.testing.assert_array_equal(versions[-1].class_counts_K, np.bincount(y))
    assert versions[-1].rows == 300


@pytest.mark.parametrize("delay", [0, 1, 20, 64, 100])
def test_changing_labels_never_changes_a_prediction_that_was_made_before_they_were_visible(delay):
    """Labels, and with them weights, statistics and replay, are poisoned from one row on: what differs must come later."""
    x, y = stream(320)
    poisoned_from = 96
    y_poisoned = y.copy()
    y_poisoned[poisoned_from:] = (y[poisoned_from:] + 1) % 3
    probabilities = []
    for labels in (y, y_poisoned):
        each, head, answers = learner(), ModelState.empty(INPUTS, 0), []
        memory_x, memory_y = np.zeros((0, INPUTS), np.float32), np.zeros(0, np.int64)
        tested = trained = 0
        while tested < len(x):
            test, train = slice(tested, tested + 64), slice(trained, max(trained, tested + 64 - delay))
            row = np.arange(len(x))
            each.load(head)
            (tests,), (trains,) = deal(64, 1, 8), deal(train.stop - train.start, 1, 8)
            work = LocalRound(
                row[test], x[test], row[train], x[train], labels[train], tests, trains, delay, memory_x[-32:], memory_y[-32:]
            )
            answers.append(each.round(work).probability_NK)
            head = consolidate(head, [Contribution(head, 0, each.change())], 1)
            memory_x, memory_y = np.concatenate([memory_x, x[train]]), np.concatenate([memory_y, labels[train]])
            tested, trained = tested + 64, train.stop
        width = max(a.shape[1] for a in answers)
        probabilities.append(np.concatenate([np.pad(a, ((0, 0), (0, width - a.shape[1]))) for a in answers]))
    differs = np.flatnonzero((probabilities[0] != probabilities[1]).any(axis=1))
    assert len(differs), "the poison must have an effect, or this test could not fail"
    assert differs[0] > poisoned_from + delay


def test_features_of_rows_still_to_come_change_nothing():
    x, y = stream(128)
    x_other = x.copy()
    x_other[64:] *= 100
    answers = [learn_rounds(features, y)[1][:64] for features in (x, x_other)]
    assert (answers[0] == answers[1]).all()


def test_random_labels_score_chance():
    x, y = stream(6000, classes=2)
    y = np.random.default_rng(5).permutation(np.arange(6000) % 2)
    _, codes = learn_rounds(x, y, shards=2, round_rows=256, micro_batch=32, task=TaskConfig())
    assert abs((codes[100:] == y[100:]).mean() - 0.5) < 0.03  # about four standard errors


def test_a_class_that_appears_mid_stream_is_learned_and_leaves_the_others_in_place():
    x, y = stream(3000)
    order = np.argsort(y == 2, kind="stable")  # class 2 only at the end
    x, y = x[order], y[order]
    versions, codes = learn_rounds(x, y, shards=2, round_rows=128, task=TaskConfig())
    first = int(np.argmax(y == 2))
    assert not (codes[: first + 1] == 2).any()
    assert versions[-1].class_counts_K.tolist() == np.bincount(y).tolist()
    assert (codes[-200:] == 2).mean() > 0.9


def test_growing_changes_no_probability_of_the_classes_known_before():
    x, y = stream(128, classes=2)
    each = learner(task=TaskConfig())
    each.round(whole_round(x, y))
    before = each.predict(x).probability_NK
    each._resize(5)
    np.testing.assert_allclose(each.predict(x).probability_NK[:, :2], before, rtol=1e-6)


def test_nothing_is_predicted_before_the_first_label():
    answer = learner(task=TaskConfig()).predict(stream(4)[0])
    assert answer.code_N.tolist() == [-1] * 4


@pytest.mark.parametrize("kind", ["mlp", "ensemble"])
def test_classes_named_beforehand_are_all_as_likely_before_the_first_label(kind):
    task, model = TaskConfig(classes=["a", "b", "c"]), ModelConfig(kind=kind)
    x, y = stream(40)
    nobody = LocalRound(np.arange(40), x, np.arange(0), x[:0], y[:0], ((0, 40),), (), 100)
    reader = make_reader(model, task, INPUTS, seed=0)
    reader.load(ModelState.empty(INPUTS, 0))
    for answer in (reader.predict(x), make_learner(model, ADAM, task, INPUTS, seed=0, shards=1).round(nobody)):
        assert answer.code_N.tolist() == [0] * 40
        np.testing.assert_allclose(answer.probability_NK, np.full((40, 3), 1 / 3), rtol=1e-6)


@pytest.mark.parametrize("loss", ["squared", "absolute"])
def test_regression_finds_a_linear_rule_in_the_labels_own_units(loss):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, INPUTS)).astype(np.float32)
    y = 1000.0 + 250.0 * x[:, 0] - 40.0 * x[:, 1]
    each = learner(model=ModelConfig(kind="linear"), task=TaskConfig(kind="regression", loss=loss))
    answer = each.round(whole_round(x, y))
    assert np.abs(answer.value_N[-500:] - y[-500:]).mean() < 10.0
    assert np.abs(answer.value_N[:8] - y[:8]).mean() > 100.0


def test_frozen_parameters_stay_as_they_were_given():
    x, y = stream(256)
    given = {"layers.0.weight": np.random.default_rng(1).normal(size=(16, INPUTS)).astype(np.float32)}
    each = learner(model=ModelConfig(kind="mlp", hidden=[16], freeze=["layers.0.*"]), initial=given)
    each.round(whole_round(x, y))
    assert set(each.change().layout[i].name for i in range(2)) == {"layers.1.weight", "layers.1.bias"}
    weights = dict(each._network.module.named_parameters())
    np.testing.assert_array_equal(weights["layers.0.weight"].detach().numpy(), given["layers.0.weight"])
    assert weights["layers.1.weight"].abs().sum() > 0


def test_given_weights_are_where_learning_starts():
    given = {"layers.0.weight": np.full((16, INPUTS), 0.25, np.float32)}
    each = learner(initial=given)
    _x, y = stream(8)
    each._meet_labels(y)
    each._resize(3)
    np.testing.assert_array_equal(
        dict(each._network.module.named_parameters())["layers.0.weight"].detach().numpy(), given["layers.0.weight"]
    )


def make_dropout_net(inputs, outputs, width):
    return nn.Sequential(nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, outputs))


def test_a_users_module_with_batch_statistics_learns_and_keeps_them_in_the_version():
    x, y = stream(2000)
    model = ModelConfig(kind="python", factory=f"{__name__}:make_dropout_net", options={"width": 32})
    versions, codes = learn_rounds(x, y, shards=2, model=model, task=TaskConfig(), round_rows=128)
    assert (codes[-500:] == y[-500:]).mean() > 0.8
    buffers = versions[-1].buffers
    assert np.abs(buffers["1.running_mean"]).sum() > 0 and buffers["1.num_batches_tracked"].dtype == np.int64


def test_loading_a_version_drops_what_was_learned_since():
    x, y = stream(256)
    versions, _ = learn_rounds(x[:128], y[:128])
    each = learner()
    each.load(versions[-1])
    first = each.round(whole_round(x[128:], y[128:])).probability_NK
    each.load(versions[-1])
    np.testing.assert_array_equal(each.round(whole_round(x[128:], y[128:])).probability_NK, first)


@pytest.mark.parametrize("classes", ["auto", [0, 1, 2]])
def test_loading_the_empty_version_forgets_everything(classes):
    x, y = stream(256)
    used, fresh = (learner(task=TaskConfig(classes=classes)) for _ in range(2))
    used.round(whole_round(x, y))
    used.load(ModelState.empty(INPUTS, 0))
    np.testing.assert_array_equal(used.round(whole_round(x, y)).probability_NK, fresh.round(whole_round(x, y)).probability_NK)
    np.testing.assert_array_equal(used.change().flat_P, fresh.change().flat_P)


def test_loading_copies_so_that_learning_never_writes_into_a_shared_version():
    x, y = stream(256)
    versions, _ = learn_rounds(x, y)
    version = versions[-1]
    version.flat_P.flags.writeable = False
    for moment in version.optimizer.values():
        if moment.ndim:
            moment.setflags(write=False)
    before = version.digest()
    each = learner()
    each.load(version)
    each.round(whole_round(x, y))
    assert version.digest() == before


def test_replayed_rows_are_learned_beside_the_new_ones():
    x, y = stream(256)
    one, other = learner(), learner()
    one.round(whole_round(x, y))
    other.round(whole_round(x, y, replay_x_ND=x[:64], replay_y_N=y[:64]))
    assert one.change().rows == other.change().rows == 256
    assert not np.array_equal(one.change().flat_P, other.change().flat_P)


def test_every_row_is_in_exactly_one_step_of_its_round():
    x, y = stream(100)
    each = learner()
    each.round(whole_round(x, y, delay=30))
    assert each.change().rows == 100
    assert all(a[1] == b[0] for a, b in pairwise(deal(100, 1, 8)[0]))


@pytest.mark.parametrize("classes", [[0, 1, 2], "auto"])
def test_a_learning_rate_factor_is_as_good_as_another_learning_rate_and_lasts_for_its_round(classes):
    x, y = stream(64)
    task = TaskConfig(classes=classes)
    faster = learner(task=task, optimizer=OptimizerConfig(name="adam", learning_rate=3e-2))
    boosted = learner(task=task)
    faster.round(whole_round(x, y))
    boosted.round(whole_round(x, y, learning_rate_factor=3.0))
    assert np.allclose(boosted.change().flat_P, faster.change().flat_P, atol=1e-6)
    plain = learner(task=task)
    for each in (plain, boosted):
        each.load(ModelState.empty(INPUTS, 0))
        each.round(whole_round(x, y))
    assert np.array_equal(plain.change().flat_P, boosted.change().flat_P)
