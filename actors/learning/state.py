"""What a version knows: the state of a model as named, mergeable parts.

Shapes: P learned weights in one flat vector, D encoded features, K classes seen so far. Everything is numpy, so that
whoever merges, stores or compares versions needs no torch.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from actors.learning.part import Tree
from actors.learning.running_stats import RunningStats


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Where a named tensor lies in the flat vector."""

    name: str
    shape: tuple[int, ...]
    start: int

    @property
    def stop(self) -> int:
        return self.start + int(np.prod(self.shape, dtype=np.int64))


Layout = tuple[TensorSpec, ...]


def layout_of(shapes: Mapping[str, tuple[int, ...]]) -> Layout:
    """The tensors one after another in the order given."""
    layout: list[TensorSpec] = []
    for name, shape in shapes.items():
        layout.append(TensorSpec(name, tuple(shape), layout[-1].stop if layout else 0))
    return tuple(layout)


def covering_layout(layouts: list[Layout]) -> Layout:
    """The smallest layout that holds every tensor of `layouts` (models that have met different classes)."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layout in layouts:
        for spec in layout:
            known = shapes.get(spec.name, spec.shape)
            if len(known) != len(spec.shape):
                raise ValueError(f"tensor {spec.name!r} has shapes {known} and {spec.shape}: these are different models")
            shapes[spec.name] = tuple(map(max, known, spec.shape))
    return layout_of(shapes)


def is_hashed(name: str) -> bool:
    """Whether row i of the tensor is what is hashed to i: it grows by repeating itself, to a multiple of its rows."""
    return "hashed" in name.split(".")


def relaid(flat_P: np.ndarray, old: Layout, new: Layout) -> np.ndarray:
    """`flat_P` of layout `old` in layout `new`: each tensor in the leading corner of the larger one, zeros around it.

    Zero is where a model starts for a class that it has not met, so growing changes no prediction of the other classes.
    A hashed tensor is repeated, which changes no prediction either.
    """
    if old == new:
        return flat_P
    grown_P = np.zeros(new[-1].stop if new else 0, dtype=flat_P.dtype)
    target = {spec.name: spec for spec in new}
    for spec in old:
        to, block = target[spec.name], flat_P[spec.start : spec.stop].reshape(spec.shape)
        if is_hashed(spec.name):
            block = np.tile(block, (to.shape[0] // spec.shape[0], 1))
        corner = tuple(slice(0, size) for size in block.shape)
        grown_P[to.start : to.stop].reshape(to.shape)[corner] = block
    return grown_P


@dataclass(frozen=True, slots=True)
class ModelState:
    """One version's knowledge. An empty layout means that no label has come yet: there is nothing to predict."""

    layout: Layout
    flat_P: np.ndarray  # float32, the learned weights
    optimizer: Mapping[str, np.ndarray]  # float32 [P], or a scalar such as Adam's step
    buffers: Mapping[str, np.ndarray]  # statistics of a user's module; integers among them are never averaged
    features: RunningStats
    target: RunningStats  # of the label, regression; width 0 for classification
    class_counts_K: np.ndarray  # int64
    classes: tuple[Any, ...] = ()
    rows: int = 0  # learned since the beginning
    version: int = 0
    experts: Mapping[str, np.ndarray] = field(default_factory=dict)  # of an ensemble: all but its networks
    # More float32 vectors [P] laid out like the weights, such as an anchor, and counts that go with them, scalars.
    tied: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def empty(cls, features: int, targets: int) -> "ModelState":
        none_P, none_K = np.zeros(0, np.float32), np.zeros(0, np.int64)
        return cls((), none_P, {}, {}, RunningStats.empty(features), RunningStats.empty(targets), none_K)

    def tensors(self) -> dict[str, np.ndarray]:
        return {spec.name: self.flat_P[spec.start : spec.stop].reshape(spec.shape) for spec in self.layout}

    def digest(self) -> str:
        """SHA-256 over every part but the number: equal digests mean equal models, bit for bit."""
        digest = hashlib.sha256()
        _feed(digest, [getattr(self, part.name) for part in fields(self) if part.name != "version"])
        return digest.hexdigest()

    def to_state(self) -> Tree:
        return {
            "layout": [[spec.name, list(spec.shape)] for spec in self.layout],
            "weights": self.flat_P,
            "optimizer": dict(self.optimizer),
            "buffers": dict(self.buffers),
            "features": self.features.to_state(),
            "target": self.target.to_state(),
            "class_counts": self.class_counts_K,
            "classes": list(self.classes),
            "rows": self.rows,
            "version": self.version,
            "experts": dict(self.experts),
            "tied": dict(self.tied),
        }

    @classmethod
    def from_state(cls, state: Tree) -> "ModelState":
        return cls(
            layout_of({name: tuple(shape) for name, shape in state["layout"]}),
            state["weights"],
            state["optimizer"],
            state["buffers"],
            RunningStats.from_state(state["features"]),
            RunningStats.from_state(state["target"]),
            state["class_counts"],
            tuple(state["classes"]),
            state["rows"],
            state["version"],
            state.get("experts", {}),  # versions of earlier releases have none
            state.get("tied", {}),  # versions of earlier releases have none
        )

    @property
    def nbytes(self) -> int:
        parts = (self.optimizer, self.buffers, self.experts, self.tied)
        arrays = [self.flat_P, *(array for part in parts for array in part.values())]
        return sum(array.nbytes for array in arrays)


@dataclass(frozen=True, slots=True)
class LocalChange:
    """What one shard made of a version in one local round: weights where it ended, statistics as increments."""

    layout: Layout
    flat_P: np.ndarray
    optimizer: Mapping[str, np.ndarray]
    buffers: Mapping[str, np.ndarray]
    features: RunningStats
    target: RunningStats
    class_counts_K: np.ndarray
    classes: tuple[Any, ...]
    rows: int
    mean_loss: float = field(default=float("nan"))
    experts: Mapping[str, np.ndarray] = field(default_factory=dict)
    tied: Mapping[str, np.ndarray] = field(default_factory=dict)


def _feed(digest: "hashlib._Hash", part: Any) -> None:
    if isinstance(part, np.ndarray):
        digest.update(f"{part.dtype}{part.shape}".encode())
        digest.update(np.ascontiguousarray(part).tobytes())
    elif isinstance(part, Mapping):
        for key in sorted(part):
            digest.update(key.encode())
            _feed(digest, part[key])
    elif isinstance(part, RunningStats):
        _feed(digest, [part.count_D, part.mean_D, part.m2_D])
    elif isinstance(part, (list, tuple)) and not isinstance(part, str):
        for each in part:
            _feed(digest, each)
    else:
        digest.update(repr(part).encode())
