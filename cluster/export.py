"""`perennial export`: a durable version as one file that answers without this project.

    safetensors  every tensor by name, and in the header a JSON document with which the model can be built again
    torchscript  a module for `torch.jit.load`, the document beside it as the extra file `perennial.json`
    onnx         a graph for any ONNX runtime, the document among its metadata as `perennial`

What goes in are encoded features; the document says column by column how they are made. What comes out is what `/predict`
answers. A file takes its place only after it was read again and has answered as the version does.
"""

import json
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn

from actors.catalogue import Document
from actors.durable import model_of, model_part
from actors.errors import ConfigError, LearningError, UnknownVersionError
from actors.initial_weights import initial_weights
from actors.learning.answer import known_classes, outputs_of
from actors.learning.answering_module import NETWORKS, answering_module, network_of
from actors.learning.encoding import TEXT_DIMENSIONS, RowEncoder
from actors.learning.inputs import BUCKETS, IDS, InputLayout
from actors.learning.model_kinds import make_reader
from actors.learning.models.categories import InputLayer
from actors.learning.models.config import ModelConfig
from actors.learning.part import pack
from actors.learning.running_stats import CLIP
from actors.learning.schema import ColumnKind, Schema
from actors.learning.state import ModelState
from actors.learning.task import TaskConfig, TaskKind
from actors.storage import shown
from actors.version_store import Manifest, VersionStore
from cluster.config import PerennialConfig

FORMATS = ("safetensors", "torchscript", "onnx")
NAMES = ("head", "production", "shadow", "previous")  # instead of a number
KEY = "perennial"

_LAYOUT = 1
_TOLERANCE = 1e-5
_PROBES = (64, 1, 7)  # rows, a file for one number of which would show
_ENCODINGS = {
    ColumnKind.NUMERIC: "one number; NaN where it is missing",
    ColumnKind.VECTOR: "its numbers; NaN where they are missing",
    ColumnKind.CATEGORICAL: "one id; NaN where it is missing or empty: blake2b(value, digest_size=8), a little-endian integer, "
    f"modulo {IDS - 1}, plus 1; the value is its text in UTF-8, true and false in lower case however they are written, a "
    "number as Apache Arrow casts it to a string",
    ColumnKind.TEXT: f"signed feature hashing into {TEXT_DIMENSIONS} dimensions, the sum L2-normalised, all zero where it is "
    "missing: of the words (\\w+ of the text in lower case, in Unicode), as often as they occur, by CRC-32 of their UTF-8, and "
    "of the character 3-grams of ' ' + words joined by ' ' + ' ' by mix(mix(mix(c0) ^ c1) ^ c2) of their code points, mix "
    f"being MurmurHash3's 32-bit finaliser; dimension: hash modulo {TEXT_DIMENSIONS}; sign: negative where the hash's top bit "
    "is set",
}
_EMBEDDED = (
    "the i-th id, 24 bits, is the vector 4 * (inputs.hashed.i[id & (rows - 1)] + inputs.hashed.i[(id >> 12) & (rows - 1)]); "
    "zeros where the id is 0, or inputs.seen[i, id & 16383] or inputs.seen[i, (id >> 10) & 16383] is 0. "
)
_SPREAD = (
    f"in all that is no id, in its order, then {BUCKETS} numbers for each id: 1 at the position id modulo {BUCKETS}, otherwise "
    "0; all 0 where it is missing"
)
_IDS_IN_A_MODEL = {
    "linear": _EMBEDDED + "It is added to what layers.0 makes of all that is no id",
    "mlp": _EMBEDDED + "layers.0 takes in all that is no id, in its order, then these vectors, in theirs",
    "python": "the module takes " + _SPREAD,
    "ensemble": "every part takes " + _SPREAD + ". These numbers have mean 0 and scale 1",
}


@dataclass(frozen=True, slots=True)
class Exported:
    version: int
    path: Path
    inputs: int
    outputs: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class _Version:
    """A durable version with all that it takes to answer with it."""

    state: ModelState
    manifest: Manifest
    schema: Schema
    task: TaskConfig
    model: ModelConfig
    seed: int

    @property
    def initial(self) -> Mapping[str, np.ndarray] | None:
        """What is frozen is not in the version; all else is."""
        return initial_weights(self.model) if self.model.freeze else None

    @property
    def inputs(self) -> InputLayout:
        return RowEncoder(self.schema).layout

    def network(self) -> nn.Module:
        return network_of(self.state, self.model, self.task, self.inputs, seed=self.seed, initial=self.initial)

    def module(self) -> nn.Module:
        return answering_module(self.network(), self.state, self.task, self.inputs)

    def rows(self, count: int) -> np.ndarray:
        """Encoded rows as the version has met them: one value in ten missing, one number beyond what is clipped, new ids."""
        draw = np.random.default_rng(self.state.version)
        features, inputs = self.state.features, self.inputs
        x_ND = (features.mean_D + features.scale_D * draw.normal(size=(count, int(inputs)))).astype(np.float32)
        x_ND[:, inputs.category_C] = self._ids(count, draw)
        x_ND[draw.random(x_ND.shape) < 0.1] = np.nan
        for d in inputs.other_D[:1]:
            x_ND[0, d] = features.mean_D[d] + 2 * CLIP * features.scale_D[d]
        return x_ND

    def _ids(self, count: int, draw: np.random.Generator) -> np.ndarray:
        """[N, C]: one in four is any; the others have been learned, where the network knows which have."""
        any_NC = draw.integers(1, IDS, (count, len(self.inputs.category_C)))
        layer = getattr(self.network(), "inputs", None)
        if not isinstance(layer, InputLayer):
            return any_NC
        learned_NC = layer.some_values(count, draw)
        return np.where((learned_NC == 0) | (draw.random(any_NC.shape) < 0.25), any_NC, learned_NC)

    def answers(self, x_ND: np.ndarray) -> np.ndarray:
        """What a replica answers: probabilities [N, K], or values [N]."""
        reader = make_reader(self.model, self.task, self.inputs, seed=self.seed, initial=self.initial)
        reader.load(self.state)
        answer = reader.predict(x_ND)
        found = answer.probability_NK if answer.value_N is None else answer.value_N
        assert found is not None
        return found


def export(config: PerennialConfig, version: int | str, form: str, path: Path) -> Exported:
    """`version` is a number or one of NAMES. Raises PerennialError where it is not durable or has no such form."""
    found = _find(config, version)
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--out is {str(path)!r}, and its folder does not exist: make it, or name another file")
    write = {"safetensors": _write_safetensors, "torchscript": _write_torchscript, "onnx": _write_onnx}[form]
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        answers = write(found, json.dumps(document_of(config.name, found)), unfinished)
        if answers is not None:
            _check(found, answers, form)
        nbytes = unfinished.stat().st_size
        os.replace(unfinished, path)
    except OSError as error:
        raise LearningError(f"{path} cannot be written: {error}; make room there, or name another file (--out)") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return Exported(found.state.version, path, int(found.inputs), outputs_of(found.state, found.task), nbytes)


def document_of(system: str, version: _Version) -> Document:
    """All that is not a tensor: how a row is encoded, what the outputs stand for, where the version comes from."""
    state, task = version.state, version.task
    places = RowEncoder(version.schema).places
    kinds = {column.kind for column in version.schema.columns}
    is_regression = task.kind is TaskKind.REGRESSION
    known = None if is_regression else known_classes(state.class_counts_K, task).tolist()
    return {
        "layout": _LAYOUT,
        "system": system,
        "version": state.version,
        "digest": state.digest(),
        "rows": state.rows,
        "created_at": version.manifest.created_at,
        "config_digest": version.manifest.about.get("config_digest"),
        "scores": version.manifest.about.get("scores"),
        "inputs": int(version.inputs),
        "columns": [
            {"name": column.name, "kind": str(column.kind), "start": place.start, "stop": place.stop}
            for column, place in places
        ],
        "encoding": {str(kind): _ENCODINGS[kind] for kind in sorted(kinds)},
        "standardisation": f"z = (x - features.mean) / features.scale in float64, 0 where that is NaN, clipped at +-{CLIP:g}; "
        "an id is not clipped",
        "ids": _IDS_IN_A_MODEL[version.model.kind] if len(version.inputs.category_C) else None,
        "label": {"name": version.schema.label, "type": str(version.schema.label_type)},
        "task": task.model_dump(mode="json"),
        "model": version.model.model_dump(mode="json"),
        "output": "values, on the scale of the label" if is_regression else "probabilities",
        "outputs": outputs_of(state, task),
        "classes": None if is_regression else list(state.classes),
        "known_classes": known,
    }


# --- formats


_Answers = Callable[[np.ndarray], np.ndarray]


def _write_safetensors(version: _Version, document: str, path: Path) -> _Answers | None:
    """`network.*` is the module's state_dict. A model that is more than a network: its weights by name, and `state.*`."""
    state = version.state
    tensors = {
        "features.mean": state.features.mean_D,
        "features.scale": state.features.scale_D,
        "features.count": state.features.count_D,
        "features.m2": state.features.m2_D,
        "target.mean": state.target.mean_D,
        "target.scale": state.target.scale_D,
        "classes.count": state.class_counts_K,
    }
    metadata = {"format": "pt", KEY: document}
    if version.model.kind in NETWORKS:
        tensors |= {f"network.{name}": tensor.numpy() for name, tensor in version.network().state_dict().items()}
    else:
        tensors |= {f"network.{name}": tensor for name, tensor in state.tensors().items()}
        rest = pack({key: value for key, value in state.to_state().items() if key not in _WRITTEN})
        tensors |= {f"state.{name}": array for name, array in rest.arrays.items()}
        metadata["state"] = json.dumps(rest.plain)
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, path, metadata)
    return None


_WRITTEN = {"layout", "weights", "optimizer", "features", "target", "class_counts"}  # otherwise, or of no use to who answers


def _write_torchscript(version: _Version, document: str, path: Path) -> _Answers:
    module, example = version.module(), torch.from_numpy(version.rows(_PROBES[0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript gets no new features, says torch; what there is does
        scripted = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(scripted, str(path), _extra_files={f"{KEY}.json": document})
        loaded = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    return lambda x_ND: np.asarray(loaded(torch.from_numpy(x_ND)))


def _write_onnx(version: _Version, document: str, path: Path) -> _Answers | None:
    try:
        import onnx
        import onnxscript  # noqa: F401  # torch's exporter needs it
    except ImportError as error:
        raise ConfigError(
            f"--format onnx needs packages that are not installed ({error}): pip install 'perennial[export]', or pip install "
            "onnx onnxscript"
        ) from error
    output = "values" if version.task.kind is TaskKind.REGRESSION else "probabilities"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            version.module(), (torch.from_numpy(version.rows(_PROBES[0])),), dynamo=True, verbose=False,
            input_names=["features"], output_names=[output], dynamic_shapes=({0: torch.export.Dim("rows")},),
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, {KEY: document})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    try:
        import onnxruntime
    except ImportError:  # whoever runs it will see; torch's exporter and the checker have said yes
        return None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda x_ND: np.asarray(session.run(None, {"features": x_ND})[0])


def _check(version: _Version, answers: _Answers, form: str) -> None:
    """Raises LearningError where the file answers otherwise than the version: its module branches on what it is given."""
    for rows in _PROBES:
        x_ND = version.rows(rows)
        expected, given = version.answers(x_ND), np.asarray(answers(x_ND))
        if given.shape != expected.shape or not np.allclose(given, expected, rtol=_TOLERANCE, atol=_TOLERANCE):
            is_of_shape = given.shape == expected.shape
            apart = f"differ by up to {np.abs(given - expected).max():.3g}" if is_of_shape else f"have the shape {given.shape}"
            raise LearningError(
                f"version {version.state.version} as {form} gives answers that {apart} on {rows} rows: a module whose steps "
                "depend on what it is given cannot be exported so; take --format safetensors"
            )


# --- where the version is


def _find(config: PerennialConfig, version: int | str) -> _Version:
    store = VersionStore(config.storage)
    newest, _ = store.newest_whole()
    if newest is None:
        raise UnknownVersionError(f"there is no durable version in {shown(config.storage)}: nothing has been learned yet")
    number = _number(newest, version)
    manifest, part = newest, model_part(number)
    if part not in newest.parts:
        if number not in store.versions():
            raise UnknownVersionError(
                f"version {number} is not durable in {shown(config.storage)}; `perennial log` lists those that are"
            )
        manifest, part = store.manifest(number), ""
    state = model_of(store, manifest, part) if part else model_of(store, manifest)
    about = manifest.about
    return _Version(
        state, manifest, Schema.from_json(dict(about["schema"])), TaskConfig.model_validate(about["task"]),
        ModelConfig.model_validate(about["model"]), config.seed,
    )  # fmt: skip


def _number(newest: Manifest, version: int | str) -> int:
    if isinstance(version, int):
        return version
    if version == "head":
        return newest.version
    found: int | None = newest.about["aliases"].get(version)
    if found is None:
        raise UnknownVersionError(f"no version is {version!r}, as the newest durable version, {newest.version}, knows it")
    return found
