"""An exported version answers as the version does, without this project."""

import json
import re
from dataclasses import replace
from hashlib import blake2b
from zlib import crc32

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
import torch
from safetensors import safe_open

from actors.errors import ConfigError, UnknownVersionError
from actors.learning.answer import NetworkReader
from actors.learning.consolidation import Contribution, consolidate
from actors.learning.encoding import RowEncoder
from actors.learning.inputs import IDS
from actors.learning.labels import FEEDBACK
from actors.learning.learner import Learner
from actors.learning.model_kinds import make_learner
from actors.learning.models import mlp
from actors.learning.models.config import ModelConfig
from actors.learning.optimizers import OptimizerConfig
from actors.learning.schema import Column, ColumnKind, LabelType, Schema
from actors.learning.state import ModelState
from actors.learning.task import TaskConfig
from actors.version_store import VersionStore
from cluster.cli import main
from cluster.config import load_config
from cluster.export import _ENCODINGS, _find, export

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # what reads the file is torch's own

SCHEMA = Schema(
    (
        Column("a", ColumnKind.NUMERIC),
        Column("color", ColumnKind.CATEGORICAL),
        Column("place", ColumnKind.VECTOR, 2),
        Column("town", ColumnKind.CATEGORICAL),
    ),
    "y",
    LabelType.STRING,
)
WORDS = Schema((Column("a", ColumnKind.NUMERIC), Column("said", ColumnKind.TEXT)), "y", LabelType.STRING)
INPUTS = RowEncoder(SCHEMA).layout
TASKS = {
    "classification": TaskConfig(),
    "regression": TaskConfig(kind="regression"),
    "feedback": TaskConfig(kind="feedback", classes=["no", "yes", "maybe"], exploration=0.3),
}
MLP = ModelConfig(kind="mlp", hidden=[16, 8])
CATEGORY, TEXT = _ENCODINGS[ColumnKind.CATEGORICAL], _ENCODINGS[ColumnKind.TEXT]
VALUES = np.random.default_rng(8).integers(1, IDS, 30)


def perceptron(inputs, outputs):
    return mlp.MLP(inputs, outputs, (8,))


MODELS = {
    "linear": ModelConfig(kind="linear"),
    "mlp": MLP,
    "python": ModelConfig(kind="python", factory=f"{__name__}:perceptron"),
}


def rows(kind, n, seed=0, inputs=INPUTS, values=VALUES):
    """The last dimension decides about the class, and one number about the value."""
    draw = np.random.default_rng(seed)
    x_ND = draw.normal(3.0, 2.0, size=(n, int(inputs))).astype(np.float32)
    x_ND[:, inputs.category_C] = draw.choice(values, (n, len(inputs.category_C)))
    x_ND[draw.random(x_ND.shape) < 0.1] = np.nan
    x_ND[0, 0] = np.inf
    y_N = (np.nan_to_num(x_ND[:, -1]) % 7 > 3).astype(np.int64)
    if kind == "regression":
        return x_ND, 1e6 + 1e5 * np.nan_to_num(x_ND[:, 2]).astype(np.float64)
    return x_ND, np.array([(y, 1.0, 0.5, 1) for y in y_N], FEEDBACK) if kind == "feedback" else y_N


def a_version(kind, model=MLP, classes=("no", "yes"), inputs=INPUTS):
    """What has learned 200 rows; of a third class it has only heard."""
    learner = Learner(model, OptimizerConfig(), TASKS[kind], inputs, seed=1)
    x_ND, y_N = rows(kind, 200, inputs=inputs)
    x_ND[0, 0] = 0.0
    for start in range(0, 200, 20):
        learner.train(x_ND[start : start + 20], y_N[start : start + 20])
    targets = 1 if kind == "regression" else 0
    known = () if kind == "regression" else (*classes, "maybe") if kind == "feedback" else classes
    base = ModelState.empty(int(inputs), targets)
    state = consolidate(base, [Contribution(base, 0, learner.change(classes=known))], 1)
    return replace(state, version=7)


def stored(folder, state, kind, model=MLP, aliases=None, schema=SCHEMA):
    about = {
        "rows": state.rows, "scores": None, "lineage": {}, "config_digest": "d",
        "aliases": aliases or {"production": 7, "shadow": 7, "previous": None}, "schema": schema.to_json(),
        "task": TASKS[kind].model_dump(mode="json"), "model": model.model_dump(mode="json"),
    }  # fmt: skip
    VersionStore(str(folder)).commit(state.version, None, 1.0, about, {"model": state.to_state()})
    return load_config(None, [f"storage={folder}", "seed=1"])


def expected(state, kind, x_ND, model=MLP, inputs=INPUTS):
    reader = NetworkReader(model, TASKS[kind], inputs, seed=1)
    reader.load(state)
    answer = reader.predict(x_ND)
    return answer.probability_NK if answer.value_N is None else answer.value_N


def run_torchscript(path):
    extra = {"perennial.json": ""}
    module = torch.jit.load(str(path), _extra_files=extra)
    return json.loads(extra["perennial.json"]), lambda x_ND: module(torch.from_numpy(x_ND)).numpy()


def run_onnx(path):
    session = onnxruntime.InferenceSession(str(path))
    document = json.loads(session.get_modelmeta().custom_metadata_map["perennial"])
    return document, lambda x_ND: session.run(None, {"features": x_ND})[0]


def vectors_of(tensors, i, id_N):
    """The words of document["ids"]; a test holds it to them."""
    table, seen = tensors[f"network.inputs.hashed.{i}"], tensors["network.inputs.seen"][i]
    rows = len(table)
    is_known_N = (id_N != 0) & (seen[id_N & 16383] != 0) & (seen[(id_N >> 10) & 16383] != 0)
    return 4 * (table[id_N & (rows - 1)] + table[(id_N >> 12) & (rows - 1)]) * is_known_N[:, None]


def run_safetensors(path):
    """The model built again from what stands in the file, in numpy."""
    with safe_open(path, "np") as file:
        document = json.loads(file.metadata()["perennial"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dict

    def answers(x_ND):
        z_ND = np.nan_to_num((x_ND - tensors["features.mean"]) / tensors["features.scale"], nan=0.0)
        columns = {d: c["kind"] for c in document["columns"] for d in range(c["start"], c["stop"])}
        h = np.stack([np.clip(z_ND[:, d], -10, 10) for d in columns if columns[d] != "categorical"], 1).astype(np.float32)
        id_NC = z_ND[:, [d for d in columns if columns[d] == "categorical"]].astype(np.int64)
        if document["model"]["kind"] == "python":
            spread = [((id_N % 32)[:, None] == np.arange(32)) & (id_N > 0)[:, None] for id_N in id_NC.T]
            h, vectors = np.concatenate([h, *spread], axis=1), []
        else:
            vectors = [vectors_of(tensors, i, id_N) for i, id_N in enumerate(id_NC.T)]
        if document["model"]["kind"] == "mlp":
            h = np.concatenate([h, *vectors], axis=1)
        layers = len([name for name in tensors if name.startswith("network.layers") and name.endswith("weight")])
        for i in range(layers):
            h = h @ tensors[f"network.layers.{i}.weight"].T + tensors[f"network.layers.{i}.bias"]
            h = np.maximum(h, 0) if i < layers - 1 else h
        h = h + sum(vectors) if document["model"]["kind"] == "linear" else h
        if document["output"].startswith("values"):
            return h[:, 0] * tensors["target.scale"][0] + tensors["target.mean"][0]
        if document["task"]["kind"] == "feedback":
            even = document["task"]["exploration"] / h.shape[1]
            return even + (1 - document["task"]["exploration"]) * np.eye(h.shape[1])[h.argmax(axis=1)]
        h[:, ~np.array(document["known_classes"])] = -np.inf
        e = np.exp(h - h.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    return document, answers


RUN = {"torchscript": run_torchscript, "onnx": run_onnx, "safetensors": run_safetensors}


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("form", RUN)
def test_an_exported_version_answers_as_the_version_does(tmp_path, kind, form):
    state = a_version(kind)
    path = tmp_path / "model"
    made = export(stored(tmp_path / "storage", state, kind), 7, form, path)
    assert (made.version, made.inputs, made.nbytes) == (7, 5, path.stat().st_size)
    document, answers = RUN[form](path)
    for n in (1, 50):
        x_ND, _ = rows(kind, n, seed=n)
        np.testing.assert_allclose(answers(x_ND), expected(state, kind, x_ND), rtol=1e-5, atol=1e-5)
    assert document["version"] == 7 and document["digest"] == state.digest() and document["label"]["name"] == "y"
    assert [(c["name"], c["kind"], c["start"], c["stop"]) for c in document["columns"]] == [
        ("a", "numeric", 0, 1), ("color", "categorical", 1, 2), ("place", "vector", 2, 4), ("town", "categorical", 4, 5),
    ]  # fmt: skip
    assert set(document["encoding"]) == {"numeric", "vector", "categorical"}
    classes = {"classification": ["no", "yes"], "regression": None, "feedback": ["no", "yes", "maybe"]}
    assert document["classes"] == classes[kind]


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("form", RUN)
def test_values_of_categories_are_told_apart_as_the_version_does_it(tmp_path, kind, form):
    model = MODELS[kind]
    state = a_version("classification", model)
    export(stored(tmp_path / "storage", state, "classification", model), 7, form, tmp_path / "model")
    document, answers = RUN[form](tmp_path / "model")
    draw = np.random.default_rng(4)
    x_ND, _ = rows("classification", 60, seed=4, values=np.append(VALUES, draw.integers(1, IDS, 30)))  # half of them are new
    x_ND[:4] = x_ND[4]
    x_ND[:4, 4] = [*VALUES[:2], np.nan, IDS - 1]
    given = answers(x_ND)
    np.testing.assert_allclose(given, expected(state, "classification", x_ND, model), rtol=1e-5, atol=1e-5)
    assert np.abs(given[0] - given[1]).max() > 1e-3
    assert document["inputs"] == 5
    if kind != "python":
        np.testing.assert_allclose(given[2], given[3], atol=1e-6)
        assert "4 * (inputs.hashed.i[id & (rows - 1)] + inputs.hashed.i[(id >> 12) & (rows - 1)])" in document["ids"]
        assert "inputs.seen[i, id & 16383] or inputs.seen[i, (id >> 10) & 16383] is 0" in document["ids"]
    else:
        assert "then 32 numbers for each id: 1 at the position id modulo 32" in document["ids"]


@pytest.mark.parametrize("form", RUN)
def test_a_stream_without_categories_has_no_ids(tmp_path, form):
    inputs = RowEncoder(WORDS).layout
    state = a_version("classification", inputs=inputs)
    export(stored(tmp_path / "storage", state, "classification", schema=WORDS), 7, form, tmp_path / "model")
    document, answers = RUN[form](tmp_path / "model")
    x_ND, _ = rows("classification", 20, seed=4, inputs=inputs)
    np.testing.assert_allclose(answers(x_ND), expected(state, "classification", x_ND, inputs=inputs), rtol=1e-5, atol=1e-5)
    assert document["ids"] is None and document["inputs"] == 513


def test_a_file_is_read_again_with_ids_that_the_version_has_learned_and_others(tmp_path):
    state = a_version("classification")
    x_ND = _find(stored(tmp_path, state, "classification"), 7).rows(64)
    id_NC = x_ND[:, INPUTS.category_C]
    present_NC = np.nan_to_num(id_NC).astype(np.int64)
    assert np.array_equal(present_NC, np.nan_to_num(id_NC)) and present_NC.min() >= 0 and present_NC.max() < IDS
    seen = state.buffers["inputs.seen"]
    for c in range(2):
        share = (seen[c, present_NC[:, c] & 16383] & seen[c, present_NC[:, c] >> 10 & 16383]).mean()
        assert 0.4 < share < 0.9
    assert 0 < np.isnan(id_NC).mean() < 0.3


def test_every_way_to_encode_a_column_is_described():
    assert set(_ENCODINGS) == set(ColumnKind)


def test_a_category_is_encoded_as_it_is_described():
    said = re.search(r"digest_size=(\d+)\), a little-endian integer, modulo (\d+), plus 1;", CATEGORY)
    size, modulo = map(int, said.groups())

    def described(text):
        text = text.lower() if text.lower() in ("true", "false") else text
        return int.from_bytes(blake2b(text.encode("utf-8"), digest_size=size).digest(), "little") % modulo + 1

    encoder = RowEncoder(Schema((Column("c", ColumnKind.CATEGORICAL),), "y", LabelType.STRING))
    cells = ["blue", "Grüße", "TRUE", "False", "True north", " ", "0", "3"] + [f"user {i}" for i in range(200)]
    assert encoder.encode(pa.table({"c": cells}))[:, 0].tolist() == [described(cell) for cell in cells]
    assert encoder.encode(pa.table({"c": [3]}))[0, 0] == described(pa.scalar(3).cast(pa.string()).as_py())
    assert "NaN where it is missing or empty" in CATEGORY and np.isnan(encoder.encode(pa.table({"c": ["", None]}))).all()


def test_a_text_is_encoded_as_it_is_described():
    dimensions, modulo = map(int, re.search(r"into (\d+) dimensions,.* dimension: hash modulo (\d+);", TEXT).groups())

    def mix(h):
        h = (h ^ h >> 16) * 0x85EBCA6B % 2**32
        h = (h ^ h >> 13) * 0xC2B2AE35 % 2**32
        return h ^ h >> 16

    def described(text):
        words = re.findall(r"\w+", text.lower())
        joined = " " + " ".join(words) + " "
        hashes = [crc32(word.encode("utf-8")) for word in words]
        grams = [joined[i : i + 3] for i in range(len(joined) - 2)]
        hashes += [mix(mix(mix(ord(a)) ^ ord(b)) ^ ord(c)) for a, b, c in grams]
        sums = np.zeros(dimensions)
        for h in hashes:
            sums[h % modulo] += -1 if h >> 31 else 1
        return sums / np.linalg.norm(sums)

    encoder = RowEncoder(Schema((Column("t", ColumnKind.TEXT),), "y", LabelType.STRING))
    cells = ["Where is my order, my order?", "a", "Grüße aus Köln -- 42!", "snake_case ΑΒΓ \U0001f600 日本語"]
    np.testing.assert_allclose(encoder.encode(pa.table({"t": cells})), [described(cell) for cell in cells], atol=1e-6)
    missing = pa.table({"t": pa.array([None, "", "--"], pa.string())})
    assert "all zero where it is missing" in TEXT and not encoder.encode(missing).any()


def test_classes_without_a_label_have_probability_zero(tmp_path):
    state = a_version("classification")
    state = replace(state, class_counts_K=np.array([100, 0]))
    x_ND, _ = rows("classification", 20, seed=3)
    export(stored(tmp_path / "storage", state, "classification"), 7, "torchscript", tmp_path / "model")
    _, answers = run_torchscript(tmp_path / "model")
    np.testing.assert_array_equal(answers(x_ND), np.tile([1.0, 0.0], (20, 1)))


class Gated(torch.nn.Module):
    """Does something else with many rows than with one: no graph of steps can say that."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = torch.nn.Linear(inputs, outputs)

    def forward(self, x_ND):
        return self.layer(x_ND) if len(x_ND) > 10 else 0.0 * self.layer(x_ND)


def gated(inputs, outputs):
    return Gated(inputs, outputs)


def test_a_module_that_cannot_be_traced_is_refused_and_leaves_no_file(tmp_path):
    model = ModelConfig(kind="python", factory=f"{__name__}:gated")
    config = stored(tmp_path / "storage", a_version("classification", model), "classification", model)
    with pytest.raises(Exception, match=r"version 7 as torchscript gives answers that differ by up to .* on 1 rows"):
        export(config, 7, "torchscript", tmp_path / "model")
    assert list(tmp_path.iterdir()) == [tmp_path / "storage"]
    export(config, 7, "safetensors", tmp_path / "model")


def test_frozen_weights_are_in_the_file(tmp_path):
    model = MLP.model_copy(update={"freeze": ["layers.0.*"]})
    state = a_version("classification", model)
    config = stored(tmp_path / "storage", state, "classification", model)
    x_ND, _ = rows("classification", 20, seed=3)
    for form, run in RUN.items():
        export(config, "production", form, tmp_path / form)
        _, answers = run(tmp_path / form)
        np.testing.assert_allclose(answers(x_ND), expected(state, "classification", x_ND, model), rtol=1e-5, atol=1e-5)


def test_an_ensemble_is_exported_as_tensors_with_what_it_remembers_and_as_nothing_else(tmp_path):
    model = ModelConfig(kind="ensemble")
    learner = make_learner(model, OptimizerConfig(), TASKS["classification"], INPUTS, seed=1)
    x_ND, y_N = rows("classification", 300)
    learner.load(ModelState.empty(int(INPUTS), 0))
    x_ND[0, 0] = 0.0
    for start in range(0, 300, 50):
        learner.train(x_ND[start : start + 50], y_N[start : start + 50])
    base = ModelState.empty(int(INPUTS), 0)
    state = replace(consolidate(base, [Contribution(base, 0, learner.change(classes=("no", "yes")))], 1), version=7)
    config = stored(tmp_path / "storage", state, "classification", model)
    for form in ("torchscript", "onnx"):
        with pytest.raises(ConfigError, match=r"version 7 is of model.kind ensemble, .* as safetensors"):
            export(config, 7, form, tmp_path / form)
    export(config, 7, "safetensors", tmp_path / "all")
    with safe_open(tmp_path / "all", "np") as file:
        document = json.loads(file.metadata()["perennial"])
        assert document["inputs"] == 5 and document["ids"].startswith("every part takes in all that is no id")
        assert json.loads(file.metadata()["state"])["rows"] == state.rows
        for name, tensor in state.tensors().items():
            np.testing.assert_array_equal(file.get_tensor(f"network.{name}"), tensor)
        assert state.experts
        for name, array in state.experts.items():
            np.testing.assert_array_equal(file.get_tensor(f"state.experts.{name}"), array)


def test_what_cannot_be_exported_is_refused_with_what_to_do(tmp_path, monkeypatch, capsys):
    config = stored(tmp_path / "storage", a_version("classification"), "classification")
    with pytest.raises(UnknownVersionError, match="version 6 is not durable"):
        export(config, 6, "onnx", tmp_path / "x")
    with pytest.raises(UnknownVersionError, match="no version is 'previous'"):
        export(config, "previous", "onnx", tmp_path / "x")
    with pytest.raises(ConfigError, match="its folder does not exist"):
        export(config, 7, "onnx", tmp_path / "no" / "x")
    empty = replace(ModelState.empty(int(INPUTS), 0), version=7)
    with pytest.raises(ConfigError, match="version 7 has learned no label yet"):
        export(stored(tmp_path / "new", empty, "classification"), 7, "onnx", tmp_path / "x")
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    words = ("export", "7", "--format", "onnx", "--out", str(tmp_path / "x"), "--set", f"storage={tmp_path / 'storage'}")
    assert main(words) == 2
    assert "perennial[export]" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
    assert main(("export", "7", "--format", "pickle", "--out", "x")) == 2
