"""What keeps learning from undoing what was learned: each holds on to what it says, and is version state."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from actors.learning.consolidation import Contribution, consolidate
from actors.learning.dealing import deal
from actors.learning.labels import FEEDBACK
from actors.learning.learner import Learner, LocalRound
from actors.learning.models.config import ModelConfig
from actors.learning.optimizers import OptimizerConfig, OptimizerGroup
from actors.learning.part import pack, unpack
from actors.learning.regularizers.config import DerConfig, EwcConfig, LwfConfig, RegularizationConfig
from actors.learning.regularizers.elastic import fisher_diagonal
from actors.learning.state import ModelState
from actors.learning.task import TaskConfig

INPUTS = 6
SGD = OptimizerConfig(name="sgd", learning_rate=0.05)


def rule(seed, rows=256, classes=3, of=3):
    """Labels below `classes`; another seed is another rule."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, INPUTS)).astype(np.float32)
    y = (x @ rng.normal(size=(INPUTS, of)))[:, :classes].argmax(axis=1).astype(np.int64)
    return x, y


def learner(regularizer="none", strengths=None, *, optimizer=SGD, task=None, epochs=1, shards=1, kind="mlp", **model):
    config = ModelConfig(kind=kind, **({"hidden": [8]} if kind == "mlp" else {}), **model)
    return Learner(
        config, optimizer, task or TaskConfig(), INPUTS, seed=3, epochs=epochs, shards=shards, regularizer=regularizer,
        regularization=strengths,
    )  # fmt: skip


def a_round(x, y, slices=None, **replay):
    row = np.arange(len(x))
    hand = slices or deal(len(x), 1, 16)[0]
    return LocalRound(row, x, row, x, y, hand, hand, 0, **replay)


def learned(each, head, x, y, rounds=1, **replay):
    for _ in range(rounds):
        each.load(head)
        each.round(a_round(x, y, **replay))
        head = consolidate(head, [Contribution(head, 0, each.change())], 1)
    return head


def strengths(**sections):
    return RegularizationConfig(**sections)


def ewc(strength, anchor_rows=256):
    return strengths(ewc=EwcConfig(strength=strength, anchor_rows=anchor_rows, fisher_rows=64))


def lwf(strength, anchor_rows=256):
    return strengths(lwf=LwfConfig(strength=strength, anchor_rows=anchor_rows))


EMPTY = ModelState.empty(INPUTS, 0)


def accuracy(each, head, x, y):
    each.load(head)
    return (each.predict(x).code_N == y).mean()


def after_another_rule(kind, given):
    """The version that is held on to, and what became of it while another rule was learned."""
    (x, y), (x_other, y_other) = rule(0), rule(1)
    each = learner(kind, given)
    held = learned(each, EMPTY, x, y, rounds=4)
    changed = learned(each, held, x_other, y_other, rounds=3)
    if kind != "none":
        assert int(changed.tied["anchor_rows"]) == held.rows
        np.testing.assert_array_equal(changed.tied["anchor"], held.flat_P)
    return held, changed


def test_weights_that_mattered_stay_nearer_to_where_they_were():
    fisher_P = after_another_rule("ewc", ewc(0.0, 1024))[1].tied["fisher"]
    distances = []
    for strength in (0.0, 5.0):
        held, changed = after_another_rule("ewc", ewc(strength, 1024))
        distances.append((fisher_P * np.square(changed.flat_P - held.flat_P)).sum())
    assert distances[1] < 0.5 * distances[0]


def test_a_pull_stronger_than_a_step_can_bear_holds_the_weights_and_breaks_nothing():
    held, changed = after_another_rule("ewc", ewc(1e9, 1024))
    important_P = changed.tied["fisher"] > 1e-6
    np.testing.assert_allclose(changed.flat_P[important_P], held.flat_P[important_P], atol=0.2)


def test_what_the_older_version_said_is_still_said():
    x, _ = rule(2)
    divergences = []
    for kind, given in (("none", None), ("lwf", lwf(5.0, 1024))):
        held, changed = after_another_rule(kind, given)
        each = learner()
        each.load(held)
        before_NK = each.predict(x).probability_NK
        each.load(changed)
        after_NK = each.predict(x).probability_NK
        divergences.append((before_NK * np.log(before_NK / after_NK)).sum(axis=1).mean())
    assert divergences[1] < 0.5 * divergences[0]


@pytest.mark.parametrize(("kind", "given"), [("ewc", ewc(0.0)), ("lwf", lwf(0.0))])
def test_without_strength_it_is_the_plain_loop(kind, given):
    x, y = rule(0)
    plain = learned(learner(), EMPTY, x, y, rounds=3)
    held = learned(learner(kind, given), EMPTY, x, y, rounds=3)
    np.testing.assert_allclose(held.flat_P, plain.flat_P, rtol=1e-5, atol=1e-7)
    assert held.tied and not plain.tied


@pytest.mark.parametrize(("kind", "given"), [("ewc", ewc(100.0, 300)), ("lwf", lwf(1.0, 300))])
def test_its_state_is_version_state_and_a_version_from_storage_goes_on_exactly(kind, given):
    x, y = rule(0)
    each = learner(kind, given)
    head = learned(each, EMPTY, x, y, rounds=3)
    assert int(head.tied["anchor_rows"]) == 512 and len(head.tied["anchor"]) == len(head.flat_P)
    again = ModelState.from_state(unpack(pack(head.to_state())))
    assert again.digest() == head.digest()
    assert replace(again, tied={**again.tied, "anchor": again.tied["anchor"] + 1}).digest() != head.digest()
    other = learner(kind, given)
    assert learned(other, again, x, y).digest() == learned(each, head, x, y).digest()


@pytest.mark.parametrize(("kind", "given"), [("ewc", ewc(100.0, 100)), ("lwf", lwf(1.0, 100))])
def test_two_shards_on_identical_data_hold_on_to_what_one_does_bit_for_bit(kind, given):
    x, y = rule(0)
    one = learned(learner(kind, given), EMPTY, x, y, rounds=3)
    two, pair = EMPTY, [learner(kind, given, shards=2) for _ in range(2)]
    for _ in range(3):
        changes = []
        for each in pair:
            each.load(two)
            each.round(a_round(x, y))
            changes.append(replace(each.change(), rows=len(x) // 2))
        two = consolidate(two, [Contribution(two, 0, change) for change in changes], 2)
    assert one.tied.keys() == two.tied.keys()
    for name in one.tied:
        np.testing.assert_array_equal(one.tied[name], two.tied[name])


def test_importances_are_a_mean_over_shards_by_rows_and_the_newest_anchor_counts():
    x, y = rule(0)
    head = learned(learner("ewc", ewc(1.0, 256)), EMPTY, x, y, rounds=2)
    each = learner("ewc", ewc(1.0, 10**6))
    each.load(head)
    each.round(a_round(x, y))
    change = each.change()
    level = [
        replace(change, rows=rows, tied={**change.tied, "recent_fisher": np.full(len(change.flat_P), value, np.float32)})
        for rows, value in ((30, 1.0), (10, 5.0))
    ]
    merged = consolidate(head, [Contribution(head, 0, part) for part in level], 2)
    np.testing.assert_allclose(merged.tied["recent_fisher"], 2.0)
    np.testing.assert_array_equal(merged.tied["anchor"], change.tied["anchor"])
    stale = replace(change, tied={**change.tied, "anchor": change.flat_P * 0, "anchor_rows": np.array(1)})
    merged = consolidate(head, [Contribution(head, 0, change), Contribution(EMPTY, 1, stale)], 2)
    np.testing.assert_array_equal(merged.tied["anchor"], change.tied["anchor"])
    merged = consolidate(head, [Contribution(EMPTY, 1, stale)], 2)
    np.testing.assert_array_equal(merged.tied["anchor"], head.tied["anchor"])


@pytest.mark.parametrize("kind", ["ewc", "lwf"])
def test_a_class_that_comes_later_leaves_what_is_held_on_to_in_its_place(kind):
    x, y = rule(0, classes=2)
    x_more, y_more = rule(2, classes=3)
    each = learner(kind, strengths(ewc=EwcConfig(anchor_rows=256), lwf=LwfConfig(anchor_rows=256)))
    head = learned(each, EMPTY, x, y, rounds=2)
    grown = learned(each, head, x_more, y_more)
    assert len(grown.tied["anchor"]) == len(grown.flat_P) > len(head.flat_P)
    assert int(grown.tied["anchor_outputs"]) == 2 and int(grown.tied["anchor_rows"]) == 512
    assert np.count_nonzero(grown.tied["anchor"]) == np.count_nonzero(head.flat_P)


def test_the_fisher_information_is_the_mean_square_of_each_rows_gradient():
    x, y = rule(0)
    each = learner(kind="linear")
    each.load(learned(each, EMPTY, x, y))
    each._network.module.eval()
    z = each._standardised(x[:40])
    found = fisher_diagonal(each._network, z, TaskConfig(), np.random.default_rng(5))
    p = torch.softmax(each._network(z), dim=1).detach().numpy()
    rng = np.random.default_rng(5)
    logits = each._network(z).detach().numpy().astype(np.float64)
    code = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    error_NK = p - np.eye(3)[code]
    weight = (error_NK[:, :, None] ** 2 * z.numpy()[:, None, :] ** 2).mean(axis=0)
    np.testing.assert_allclose(found[:18].reshape(3, INPUTS), weight, rtol=1e-4)
    np.testing.assert_allclose(found[18:], (error_NK**2).mean(axis=0), rtol=1e-4)


@pytest.mark.parametrize("regularizer", ["ewc", "lwf", "der"])
@pytest.mark.parametrize("kind", ["classification", "regression", "feedback"])
def test_every_regularizer_goes_with_every_task(regularizer, kind):
    x, y = rule(0)
    task = TaskConfig(kind=kind)
    labels = {
        "classification": y,
        "regression": 100 + 10.0 * x[:, 0].astype(np.float64),
        "feedback": np.array([(code, float(code == 1), 0.5, 0) for code in y], FEEDBACK),
    }[kind]
    given = strengths(ewc=EwcConfig(anchor_rows=100), lwf=LwfConfig(anchor_rows=100))
    each, head = learner(regularizer, given, task=task), ModelState.empty(INPUTS, 1 if kind == "regression" else 0)
    logits = None
    for _ in range(4):
        replay = {} if logits is None else dict(replay_x_ND=x, replay_y_N=labels, replay_logits_NK=logits)
        head = learned(each, head, x, labels, **(replay if regularizer == "der" else {}))
        if regularizer == "der":
            found = each.findings()
            np.testing.assert_array_equal(found.row_N, np.arange(len(x)))
            logits = found.logits_NK
    assert np.isfinite(head.flat_P).all()
    if kind == "regression":
        answer = each.predict(x).value_N
        assert np.abs(answer - labels).mean() < 5.0
        if logits is not None:
            assert abs(logits.mean() - 100) < 10, "remembered on the scale of the label"


def test_remembered_outputs_pull_the_model_to_where_it_was():
    x, y = rule(0)
    x_other, y_other = rule(1)
    each = learner("der")
    head = learned(each, EMPTY, x, y, rounds=3)
    each.load(head)
    before = each._network(each._standardised(x)).detach().numpy()
    distance = []
    for weight in (0.0, 5.0):
        other = learner("der", strengths(der=DerConfig(logits=weight, labels=0.0)))
        changed = learned(other, head, x_other, y_other, replay_x_ND=x, replay_y_N=y, replay_logits_NK=before)
        other.load(changed)
        distance.append(np.square(other._network(other._standardised(x)).detach().numpy() - before).mean())
    assert distance[1] < 0.6 * distance[0]


def test_outputs_that_are_not_known_pull_nowhere():
    x, y = rule(0)
    unknown = np.full((len(x), 3), np.nan, np.float32)
    one, other = learner("der", strengths(der=DerConfig(logits=9.0))), learner("der", strengths(der=DerConfig(logits=0.0)))
    a = learned(one, EMPTY, x, y, replay_x_ND=x, replay_y_N=y, replay_logits_NK=unknown)
    b = learned(other, EMPTY, x, y, replay_x_ND=x, replay_y_N=y, replay_logits_NK=unknown)
    np.testing.assert_array_equal(a.flat_P, b.flat_P)


def test_replayed_rows_count_what_they_weigh_and_their_losses_are_told_in_order():
    x, y = rule(0)
    wrong = (y + 1) % 3
    light = dict(replay_x_ND=x, replay_y_N=wrong, replay_weight_N=np.zeros(len(x), np.float32))
    one, other = learner(), learner(optimizer=OptimizerConfig(name="sgd", learning_rate=0.025))
    head = learned(learner(), EMPTY, x, y, rounds=3)
    weightless = learned(one, head, x, y, **light)
    halved = learned(other, head, x, y)  # the mean is over twice as many rows, half of which count nothing
    np.testing.assert_allclose(weightless.flat_P, halved.flat_P, atol=1e-6)
    told = one.findings()
    assert len(told.loss_R) == len(x) and told.loss_R.mean() > 1.0
    first = learned(one, head, x, y, replay_x_ND=x, replay_y_N=y, replay_weight_N=np.ones(len(x), np.float32))
    assert one.findings().loss_R.mean() < 1.0 and first.rows == head.rows + len(x)


def test_rows_are_predicted_once_and_before_they_are_learned_however_often_that_is():
    x, y = rule(0)
    once, often = learner(), learner(epochs=5)
    head = learned(once, EMPTY, x, y)
    answers, heads = [], []
    for each in (once, often):
        each.load(head)
        answers.append(each.round(a_round(x, y)).probability_NK)
        heads.append(consolidate(head, [Contribution(head, 0, each.change())], 1))
    np.testing.assert_array_equal(answers[0], answers[1])
    assert heads[0].rows == heads[1].rows and heads[0].class_counts_K.tolist() == heads[1].class_counts_K.tolist()
    np.testing.assert_array_equal(heads[0].features.count_D, heads[1].features.count_D)
    five = learned(often, head, x, y)
    assert accuracy(often, five, x, y) > accuracy(once, heads[0], x, y)


def test_parameters_have_step_sizes_of_their_own():
    x, y = rule(0)
    head = learned(learner(), EMPTY, x, y)
    groups = [
        OptimizerGroup(pattern="layers.0.weight", learning_rate=0.0),
        OptimizerGroup(pattern="layers.0.*", learning_rate=0.1),
    ]
    plain = learned(learner(optimizer=OptimizerConfig(name="rmsprop", learning_rate=0.01)), head, x[:8], y[:8])
    grouped = learned(learner(optimizer=OptimizerConfig(name="rmsprop", learning_rate=0.01, groups=groups)), head, x[:8], y[:8])
    start, one, other = head.tensors(), plain.tensors(), grouped.tensors()
    np.testing.assert_array_equal(other["layers.0.weight"], start["layers.0.weight"])
    np.testing.assert_allclose(
        other["layers.0.bias"] - start["layers.0.bias"],
        10 * (one["layers.0.bias"] - start["layers.0.bias"]),
        rtol=1e-3,
        atol=1e-6,
    )
    np.testing.assert_array_equal(other["layers.1.weight"], one["layers.1.weight"])


def test_a_pattern_that_fits_nothing_is_refused_with_the_names_there_are():
    x, y = rule(0)
    each = learner(optimizer=OptimizerConfig(groups=[OptimizerGroup(pattern="layer.0.*", learning_rate=0.1)]))
    with pytest.raises(ValueError, match=r"groups\[0\]\.pattern 'layer\.0\.\*' fits no learned parameter .*layers\.0\.weight"):
        each.round(a_round(x, y))
