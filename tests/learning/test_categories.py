"""Inputs that are ids: what leaves them alone, what is learned of them, and tables that grow."""

import numpy as np
import pytest
import torch
from torch import nn

from actors.learning.answer import NetworkReader
from actors.learning.consolidation import Contribution, consolidate
from actors.learning.inputs import BUCKETS, IDS, InputKind, InputLayout
from actors.learning.learner import Learner, LocalRound
from actors.learning.models.categories import InputLayer
from actors.learning.models.config import ModelConfig
from actors.learning.models.factory import expanded, module_builder
from actors.learning.network import Network
from actors.learning.optimizers import OptimizerConfig
from actors.learning.part import pack, unpack
from actors.learning.running_stats import RunningStats
from actors.learning.state import ModelState, is_hashed, layout_of, relaid
from actors.learning.task import TaskConfig

LAYOUT = InputLayout.of_parts([(InputKind.NUMBER, 2), (InputKind.CATEGORY, 1), (InputKind.TEXT, 2), (InputKind.CATEGORY, 1)])
USERS = InputLayout((InputKind.CATEGORY, InputKind.NUMBER))


@pytest.fixture(autouse=True)
def one_thread():
    """As in a learner shard: two on a small step are slower than one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def ids(rng, size):
    return rng.integers(1, IDS, size).astype(np.float32)


def learner(layout=USERS, kind="mlp", shards=1, **model):
    config = ModelConfig(kind=kind, hidden=[16], **model)
    return Learner(config, OptimizerConfig(), TaskConfig(), layout, seed=1, shards=shards), config


def users(rng, values, rows, noise=0.0):
    """Rows of `values` users, whose class is the user's own."""
    user_V, class_V = ids(np.random.default_rng(5), values), np.random.default_rng(6).integers(2, size=values)
    at_N = rng.integers(values, size=rows)
    return np.stack([user_V[at_N], rng.standard_normal(rows).astype(np.float32)], axis=1), class_V[at_N]


def learn(made, x_ND, y_N, state, rows=256):
    """Round after round on one shard; the share of right answers before each row was learned, and the version."""
    right = 0
    for start in range(0, len(x_ND), rows):
        x, y, row = x_ND[start : start + rows], y_N[start : start + rows], np.arange(len(x_ND[start : start + rows]))
        steps = [(a, min(a + 32, len(x))) for a in range(0, len(x), 32)]
        made.load(state)
        right += int((made.round(LocalRound(row, x, row, x, y, steps, steps, 0)).code_N == y).sum())
        state = consolidate(state, [Contribution(state, 0, made.change())], 1)
    return right / len(x_ND), state


def rows_of_tables(state):
    return [spec.shape[0] for spec in state.layout if is_hashed(spec.name)]


# --- the layout


def test_a_layout_says_what_each_dimension_is_and_is_its_width_where_a_number_is_wanted():
    assert [str(kind) for kind in LAYOUT.kinds] == ["number", "number", "category", "text", "text", "category"]
    assert (LAYOUT.category_C.tolist(), LAYOUT.other_D.tolist()) == ([2, 5], [0, 1, 3, 4])
    assert np.zeros((3, LAYOUT)).shape == (3, 6)
    assert InputLayout.of(LAYOUT) is LAYOUT
    assert InputLayout.of(2).kinds == (InputKind.NUMBER, InputKind.NUMBER)


def test_standardisation_leaves_ids_alone():
    rng = np.random.default_rng(0)
    x_ND = np.stack([rng.normal(100, 5, 64), ids(rng, 64), rng.normal(0, 1e-3, 64)], axis=1).astype(np.float32)
    x_ND[3, 1] = x_ND[5, 0] = np.nan
    layout = InputLayout((InputKind.NUMBER, InputKind.CATEGORY, InputKind.NUMBER))
    stats = layout.statistics(x_ND)
    assert (stats.mean_D[1], stats.m2_D[1], stats.count_D[1]) == (0, 0, 63)
    z_ND = layout.standardised(x_ND, RunningStats.empty(3).merge(stats))
    assert z_ND.dtype == np.float32
    assert np.array_equal(z_ND[:, 1], np.nan_to_num(x_ND[:, 1]))
    assert abs(z_ND[:, 0].mean()) < 0.1 and z_ND[5, 0] == 0
    assert np.abs(layout.standardised(x_ND * 1e6, stats)[:, 0]).max() == 10


def test_numbers_alone_are_standardised_as_ever():
    x_ND = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    layout, stats = InputLayout.of(3), RunningStats.of(x_ND)
    assert np.array_equal(layout.standardised(x_ND, layout.statistics(x_ND)), stats.standardise(x_ND))


def test_ids_are_spread_over_buckets_for_models_that_take_numbers_alone():
    x_ND = torch.tensor([[1.5, 7, 0.1, 0.2, 0, 33], [2.5, 0, 0, 0, 0, 1]])
    layout = InputLayout(
        (InputKind.NUMBER, InputKind.CATEGORY, InputKind.TEXT, InputKind.TEXT, InputKind.NUMBER, InputKind.CATEGORY)
    )
    wide_NE = expanded(x_ND, layout)
    assert wide_NE.shape == (2, layout.expanded_width()) == (2, 4 + 2 * BUCKETS)
    assert torch.equal(wide_NE[:, :4], x_ND[:, [0, 2, 3, 4]])
    assert wide_NE[0, 4:].nonzero().flatten().tolist() == [7, BUCKETS + 1]
    assert wide_NE[1, 4:].nonzero().flatten().tolist() == [BUCKETS + 1]  # the missing one is in none
    assert expanded(x_ND[:0], layout).shape == (0, layout.expanded_width())
    assert torch.equal(expanded(x_ND, InputLayout.of(6)), x_ND)


def takes_numbers(inputs, outputs):
    return nn.Linear(inputs, outputs)


def test_a_module_of_the_users_is_given_numbers():
    config = ModelConfig(kind="python", factory=f"{__name__}:takes_numbers")
    module = module_builder(config, LAYOUT)(3)
    assert isinstance(module, nn.Linear) and module.in_features == LAYOUT.expanded_width()
    z_ND = torch.tensor([[0.5, -1, 77, 0.25, 0.5, 0]])
    wide_NE = expanded(z_ND, LAYOUT)
    assert torch.equal(module(z_ND), nn.functional.linear(wide_NE, module.weight, module.bias))


# --- what is learned


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_many_values_are_told_apart(kind):
    rng = np.random.default_rng(1)
    x_ND, y_N = users(rng, 150, 5000)
    made, _ = learner(kind=kind)
    _, state = learn(made, x_ND, y_N, ModelState.empty(2, 0))
    later, _ = learn(made, *users(rng, 150, 1000), state)
    assert later > 0.97
    assert rows_of_tables(state) == [512]  # at least two for each value
    spread_ND = expanded(torch.from_numpy(x_ND), USERS).numpy()
    spread, _ = learn(learner(USERS.expanded_width(), kind)[0], spread_ND, y_N, ModelState.empty(33, 0))
    assert spread < 0.75  # over 32 buckets they are not


def test_what_was_never_learned_is_told_as_if_it_were_missing():
    rng = np.random.default_rng(2)
    made, config = learner()
    _, state = learn(made, *users(rng, 40, 4000), ModelState.empty(2, 0))
    reader = NetworkReader(config, TaskConfig(), USERS, seed=1)
    reader.load(state)
    new_ND = np.stack([ids(rng, 50), np.full(50, 0.3)], axis=1).astype(np.float32)
    told = reader.predict(new_ND).probability_NK
    missing = reader.predict(np.array([[np.nan, 0.3]], np.float32)).probability_NK
    assert (np.abs(told - missing) < 1e-6).all(axis=1).mean() > 0.97
    assert np.abs(reader.predict(users(rng, 40, 50)[0]).probability_NK - missing).max() > 0.2


def test_what_is_told_while_learning_is_what_would_be_told_before():
    rng = np.random.default_rng(3)
    made, _ = learner()
    _, state = learn(made, *users(rng, 40, 1024), ModelState.empty(2, 0))
    x_ND, y_N = users(rng, 80, 32)  # half of them are new
    x_ND[0, 0] = np.nan
    made.load(state)
    before = made.predict(x_ND).probability_NK
    row = np.arange(32)
    during = made.round(LocalRound(row, x_ND, row, x_ND, y_N, [(0, 32)], [(0, 32)], 0)).probability_NK
    assert np.allclose(before, during, atol=1e-6)
    assert not np.allclose(before, made.predict(x_ND).probability_NK, atol=1e-3)


def test_a_stream_of_nothing_but_categories_can_be_learned_by_a_linear_model():
    rng = np.random.default_rng(4)
    x_ND, y_N = users(rng, 20, 3000)
    made, _ = learner(InputLayout((InputKind.CATEGORY,)), "linear")
    assert learn(made, x_ND[:, :1], y_N, ModelState.empty(1, 0))[0] > 0.9


# --- tables that grow


def test_growing_by_repeating_changes_no_answer_and_keeps_what_was_seen():
    torch.manual_seed(0)
    network = Network(module_builder(ModelConfig(hidden=[8]), USERS), seed=1)
    network.resize(2)
    rng = np.random.default_rng(1)
    z_ND = torch.from_numpy(np.stack([ids(rng, 200), rng.standard_normal(200)], axis=1).astype(np.float32))
    network.module.train()
    network(z_ND)
    with torch.no_grad():
        network.flat += 0.1 * torch.randn(network.flat.shape)
    network.module.eval()
    before, old = network(z_ND).detach(), network.layout
    assert network.wants_to_grow
    network.resize(2)
    assert not network.wants_to_grow
    assert [(spec.shape[0], new.shape[0]) for spec, new in zip(old, network.layout, strict=True) if is_hashed(new.name)] == [
        (64, 512)
    ]
    network.module.eval()
    assert torch.equal(network(z_ND), before)
    network.resize(3)
    network.module.eval()
    assert torch.equal(network(z_ND)[:, :2], before)


def test_a_hashed_tensor_is_relaid_by_repeating_it_and_a_class_by_zeros():
    old, new = layout_of({"inputs.hashed.0": (2, 2), "b": (1,)}), layout_of({"inputs.hashed.0": (4, 3), "b": (2,)})
    assert relaid(np.array([1, 2, 3, 4, 9]), old, new).tolist() == [1, 2, 0, 3, 4, 0, 1, 2, 0, 3, 4, 0, 9, 0]


def test_tables_are_bounded_and_values_estimated():
    layer = InputLayer(USERS, 4, 256)
    rng = np.random.default_rng(0)
    layer.train()
    layer(torch.from_numpy(np.stack([ids(rng, 3000), np.zeros(3000)], axis=1).astype(np.float32)))
    assert layer.values()[0] == pytest.approx(3000, rel=0.05)
    assert layer.rows_wanted() == [256]


def test_shards_whose_tables_differ_are_consolidated_and_the_version_answers_as_they_do():
    rng = np.random.default_rng(5)
    made, config = learner(shards=2)
    few, many = users(rng, 20, 512), users(rng, 400, 1024)
    changes = []
    for x_ND, y_N in (few, many):
        _, state = learn(made, x_ND, y_N, ModelState.empty(2, 0))
        made.load(state)
        made.train(x_ND[:32], y_N[:32])
        changes.append(made.change())
    sizes = [rows_of_tables(change)[0] for change in changes]
    assert sizes[0] < sizes[1]
    head = ModelState.empty(2, 0)
    merged = consolidate(head, [Contribution(head, 0, change) for change in changes], 2)
    assert rows_of_tables(merged) == [sizes[1]]
    seen = [change.buffers["inputs.seen"] for change in changes]
    assert np.array_equal(merged.buffers["inputs.seen"], np.maximum(*seen))
    again = ModelState.from_state(unpack(pack(merged.to_state())))  # as it is stored
    assert again.digest() == merged.digest()
    reader = NetworkReader(config, TaskConfig(), USERS, seed=1)
    reader.load(again)
    made.load(again)
    assert np.array_equal(reader.predict(many[0]).probability_NK, made.predict(many[0]).probability_NK)
    assert again.nbytes < 200_000


def test_what_a_late_shard_has_not_seen_stays_seen():
    rng = np.random.default_rng(6)
    made, _ = learner()
    _, head = learn(made, *users(rng, 60, 512), ModelState.empty(2, 0))
    _, late = learn(made, *users(rng, 5, 64), ModelState.empty(2, 0))
    made.load(late)
    made.train(*users(rng, 5, 32))
    merged = consolidate(head, [Contribution(late, 3, made.change())], 2)
    assert (merged.buffers["inputs.seen"] >= head.buffers["inputs.seen"]).all()
