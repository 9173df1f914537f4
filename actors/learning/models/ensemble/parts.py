"""What the experts and the mixture know, as named arrays: part of a version. Shapes: D features, K outputs, M rows of memory.

rounds              the last labelled row of each of the latest rounds that were learned
memory.*            the latest labelled rows: x, y, row; and embedding, of fewer
quantiles.*         edges, once there have been enough rows
evidence.*, heads.*, pairs.*, recency.*, forest.*, analytic.*, lasting.*     see the files of those names
mixture.*           how far each expert is trusted
pending.*           what was said of rows whose labels have not come: row; said, by the experts; mixed, by the mixtures
"""

from collections.abc import Mapping

import numpy as np

from actors.learning.models.ensemble import analytic, forest, heads, mixture, pairs, recency, value_mixture
from actors.learning.models.ensemble.bodies import HIDDEN
from actors.learning.models.ensemble.evidence import Widening
from actors.learning.models.ensemble.quantiles import HATS
from actors.learning.models.ensemble.targets import CLASSES, SCORES

Parts = dict[str, np.ndarray]

MEMORY_ROWS, EMBEDDED_ROWS = 5000, 1024
MEMORY_BYTES = 8_000_000
PENDING_BYTES = 4_000_000
KNOWN_ROUNDS = 64
_FOLLOWED_CLASSES = 256
_CLASS_AXES = {
    "heads.values.weights": (2,), "heads.values.squares": (2,), "heads.hats.weights": (2,), "heads.hats.squares": (2,),
    "recency.sums": (1,), "recency.weights": (1,), "recency.follows": (0, 1), "lasting.seen": (0,), "analytic.moment": (2,),
    "analytic.solution": (2,), "forest.leaf": (3,),
}  # fmt: skip


def memory_rows(inputs: int, wanted: int = MEMORY_ROWS) -> int:
    """As many as are wanted, or as there is room for."""
    return min(wanted, max(64, min(MEMORY_ROWS, MEMORY_BYTES // (4 * inputs))))


def fresh(widening: Widening, outputs: int, embeddings: int, experts: int, label: np.dtype) -> Parts:
    """Before the first row. `embeddings`: networks whose last hidden layer the heads see."""
    aim, inputs = widening.aim, widening.width
    count, rates = len(heads.STEPS_H4), len(recency.KEPT_J)
    answers = mixture.MIXTURES + 1 if aim in (CLASSES, SCORES) else 0
    parts: Parts = {
        "rounds": np.zeros(0, np.int64),
        "memory.x": np.zeros((0, inputs), np.float32),
        "memory.y": np.zeros(0, label),
        "memory.row": np.zeros(0, np.int64),
        "memory.embedding": np.zeros((0, 2, HIDDEN), np.float32),
        "recency.sums": np.zeros((rates, outputs), np.float32),
        "recency.weights": np.zeros((rates, outputs), np.float32),
        "recency.last": np.full(1, -1.0 if aim == CLASSES else 0.0, np.float32),
        "recency.follows": np.zeros((min(outputs, _FOLLOWED_CLASSES),) * 2 if aim == CLASSES else (0, 0), np.float32),
        "pending.row": np.zeros(0, np.int64),
        "pending.said": np.zeros((0, experts, outputs), np.float16),
        "pending.mixed": np.zeros((0, mixture.READINGS, answers, outputs), np.float16),
    }
    linear = {f"heads.{at}": (count, outputs, HIDDEN + 1) for at in range(embeddings)}
    linear["heads.values"] = (len(heads.VALUE_STEPS_H4), widening.given + 1 + widening.id_rows, outputs)
    linear["heads.hats"] = (count, inputs * HATS + widening.id_rows, outputs)
    for name, shape in linear.items():
        parts |= {f"{name}.weights": np.zeros(shape, np.float32), f"{name}.squares": np.zeros(shape, np.float32)}
    if aim != SCORES:
        parts |= forest.empty(outputs) | analytic.empty(inputs, outputs)
    if widening.columns:
        parts |= widening.empty()
    if widening.has_pairs:
        parts |= pairs.empty(widening.pair_rows, outputs if aim == CLASSES else 1)
    if aim == CLASSES:
        parts |= {
            "lasting.x": np.zeros((0, inputs + widening.columns), np.float32),
            "lasting.code": np.zeros(0, np.int64),
            "lasting.seen": np.zeros(outputs, np.int64),
        }
    if aim in (CLASSES, SCORES):
        return parts | mixture.fresh(experts)
    rates, hedges = len(value_mixture.FORGETS_J), len(value_mixture.SHARES_Q)
    return parts | {
        "mixture.weights": np.zeros((rates, experts), np.float32),
        "mixture.covariance": np.tile(0.1 * np.eye(experts, dtype=np.float32), (rates, 1, 1)),
        "mixture.trust": np.full((hedges, experts), 1.0 / experts, np.float32),
        "mixture.second": np.full(value_mixture.MIXTURES, 1.0 / value_mixture.MIXTURES, np.float32),
    }


def widened(parts: Mapping[str, np.ndarray], outputs: int) -> Parts:
    """For more classes: zeros, from which every expert starts."""
    wide = {name: _widened(name, array, outputs) for name, array in parts.items()} | pairs.widened(parts, outputs)
    return forest.trimmed(wide, outputs)


def _widened(name: str, array: np.ndarray, outputs: int) -> np.ndarray:
    if name in ("pending.said", "pending.mixed"):
        axes: tuple[int, ...] = (array.ndim - 1,)
    elif name.startswith("heads.") and name not in _CLASS_AXES:
        axes = (1,)
    else:
        axes = _CLASS_AXES.get(name, ())
    wanted = min(outputs, _FOLLOWED_CLASSES) if name == "recency.follows" else outputs
    more = [(0, wanted - size if axis in axes else 0) for axis, size in enumerate(array.shape)]
    if not any(after for _, after in more):
        return array
    # An expert that had not met a class gave it the least that any class got.
    fill = array.min(initial=0) if name == "pending.said" else 0
    return np.pad(array, more, constant_values=fill)
