"""An exported version answers as the version does, without this project."""

import json
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors import safe_open

from actors.errors import ConfigError, UnknownVersionError
from actors.learning.answer import NetworkReader
from actors.learning.consolidation import Contribution, consolidate
from actors.learning.labels import FEEDBACK
from actors.learning.learner import Learner
from actors.learning.model_kinds import make_learner
from actors.learning.models.config import ModelConfig
from actors.learning.optimizers import OptimizerConfig
from actors.learning.schema import Column, ColumnKind, LabelType, Schema
from actors.learning.state import ModelState
from actors.learning.task import TaskConfig
from actors.version_store import VersionStore
from cluster.cli import main
from cluster.config import load_config
from cluster.export import _ENCODINGS, export

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # what reads the file is torch's own

SCHEMA = Schema(
    (Column("a", ColumnKind.NUMERIC), Column("place", ColumnKind.VECTOR, 2), Column("color", ColumnKind.CATEGORICAL)),
    "y",
    LabelType.STRING,
)
INPUTS = 1 + 2 + 32
TASKS = {
    "classification": TaskConfig(),
    "regression": TaskConfig(kind="regression"),
    "feedback": TaskConfig(kind="feedback", classes=["no", "yes", "maybe"], exploration=0.3),
}
MLP = ModelConfig(kind="mlp", hidden=[16, 8])


def rows(kind, n, seed=0):
    draw = np.random.default_rng(seed)
    x_ND = draw.normal(3.0, 2.0, size=(n, INPUTS)).astype(np.float32)
    x_ND[draw.random(x_ND.shape) < 0.1] = np.nan
    x_ND[0, 0] = np.inf
    y_N = (np.nan_to_num(x_ND[:, 1]) > 3).astype(np.int64)
    if kind == "regression":
        return x_ND, 1e6 + 1e5 * np.nan_to_num(x_ND[:, 1]).astype(np.float64)
    return x_ND, np.array([(y, 1.0, 0.5, 1) for y in y_N], FEEDBACK) if kind == "feedback" else y_N


def a_version(kind, model=MLP, classes=("no", "yes")):
    """What has learned 200 rows; of a third class it has only heard."""
    learner = Learner(model, OptimizerConfig(), TASKS[kind], INPUTS, seed=1)
    x_ND, y_N = rows(kind, 200)
    x_ND[0, 0] = 0.0
    for start in range(0, 200, 20):
        learner.train(x_ND[start : start + 20], y_N[start : start + 20])
    targets = 1 if kind == "regression" else 0
    known = () if kind == "regression" else (*classes, "maybe") if kind == "feedback" else classes
    base = ModelState.empty(INPUTS, targets)
    state = consolidate(base, [Contribution(base, 0, learner.change(classes=known))], 1)
    return replace(state, version=7)


def stored(folder, state, kind, model=MLP, aliases=None):
    about = {
        "rows": state.rows, "scores": None, "lineage": {}, "config_digest": "d",
        "aliases": aliases or {"production": 7, "shadow": 7, "previous": None}, "schema": SCHEMA.to_json(),
        "task": TASKS[kind].model_dump(mode="json"), "model": model.model_dump(mode="json"),
    }  # fmt: skip
    VersionStore(str(folder)).commit(state.version, None, 1.0, about, {"model": state.to_state()})
    return load_config(None, [f"storage={folder}", "seed=1"])


def expected(state, kind, x_ND, model=MLP):
    reader = NetworkReader(model, TASKS[kind], INPUTS, seed=1)
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


def run_safetensors(path):
    """The model built again from the file, in numpy."""
    with safe_open(path, "np") as file:
        document = json.loads(file.metadata()["perennial"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dict

    def answers(x_ND):
        z_ND = np.nan_to_num((x_ND - tensors["features.mean"]) / tensors["features.scale"], nan=0.0)
        h = np.clip(z_ND, -10, 10).astype(np.float32)
        layers = len([name for name in tensors if name.startswith("network.layers") and name.endswith("weight")])
        for i in range(layers):
            h = h @ tensors[f"network.layers.{i}.weight"].T + tensors[f"network.layers.{i}.bias"]
            h = np.maximum(h, 0) if i < layers - 1 else h
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
    assert (made.version, made.inputs, made.nbytes) == (7, INPUTS, path.stat().st_size)
    document, answers = RUN[form](path)
    for n in (1, 50):
        x_ND, _ = rows(kind, n, seed=n)
        np.testing.assert_allclose(answers(x_ND), expected(state, kind, x_ND), rtol=1e-5, atol=1e-5)
    assert document["version"] == 7 and document["digest"] == state.digest() and document["label"]["name"] == "y"
    assert [(c["name"], c["kind"], c["start"], c["stop"]) for c in document["columns"]] == [
        ("a", "numeric", 0, 1), ("place", "vector", 1, 3), ("color", "categorical", 3, INPUTS),
    ]  # fmt: skip
    assert set(document["encoding"]) == {"numeric", "vector", "categorical"}
    classes = {"classification": ["no", "yes"], "regression": None, "feedback": ["no", "yes", "maybe"]}
    assert document["classes"] == classes[kind]


def test_every_way_to_encode_a_column_is_described():
    assert set(_ENCODINGS) == set(ColumnKind)


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
    learner.load(ModelState.empty(INPUTS, 0))
    x_ND[0, 0] = 0.0
    for start in range(0, 300, 50):
        learner.train(x_ND[start : start + 50], y_N[start : start + 50])
    base = ModelState.empty(INPUTS, 0)
    state = replace(consolidate(base, [Contribution(base, 0, learner.change(classes=("no", "yes")))], 1), version=7)
    config = stored(tmp_path / "storage", state, "classification", model)
    for form in ("torchscript", "onnx"):
        with pytest.raises(ConfigError, match=r"version 7 is of model.kind ensemble, .* as safetensors"):
            export(config, 7, form, tmp_path / form)
    export(config, 7, "safetensors", tmp_path / "all")
    with safe_open(tmp_path / "all", "np") as file:
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
    empty = replace(ModelState.empty(INPUTS, 0), version=7)
    with pytest.raises(ConfigError, match="version 7 has learned no label yet"):
        export(stored(tmp_path / "new", empty, "classification"), 7, "onnx", tmp_path / "x")
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    words = ("export", "7", "--format", "onnx", "--out", str(tmp_path / "x"), "--set", f"storage={tmp_path / 'storage'}")
    assert main(words) == 2
    assert "perennial[export]" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
    assert main(("export", "7", "--format", "pickle", "--out", "x")) == 2
