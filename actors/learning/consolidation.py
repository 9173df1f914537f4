"""From the contributions of a round to one candidate version: compute, check, and only then commit.

Weighted mean of the shards' deltas from the version they started from (local SGD: Stich 2019, "Local SGD converges fast
and communicates little", algorithm 1; weights by rows as in McMahan et al. 2017, "Communication-efficient learning of
deep networks from decentralized data", algorithm 1). Statistics merge exactly, counts add up, integers are never averaged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from actors.learning.running_stats import RunningStats
from actors.learning.section import Section, setting
from actors.learning.state import Layout, LocalChange, ModelState, covering_layout, relaid


class ConsolidationConfig(Section):
    strategy: Literal["mean"] = setting("mean", "How contributions become one: the mean of the deltas, weighted by rows.")
    mode: Literal["sync", "async"] = setting(
        "sync", "`sync`: one version per round of all shards. `async`: one per contribution, no shard waits for another."
    )
    quorum: float = setting(
        1.0, "Sync: the share of shards that must have answered when the round's deadline passes.", gt=0, le=1
    )
    max_staleness: int = setting(
        8, "A contribution that started from a version older than so many is refused.", unit="versions", ge=0, le=64
    )
    max_delta_ratio: float = setting(
        100.0,
        "Guard: a contribution is refused if its step is so many times as long as the last ones' median, and as the weights.",
        gt=1,
    )


@dataclass(frozen=True, slots=True)
class Contribution:
    """A shard's change and the version it started from."""

    base: ModelState
    staleness: int  # versions between `base` and the head
    change: LocalChange


def refusal(
    base: ModelState, change: LocalChange, norm: float, typical_norm: float | None, max_delta_ratio: float
) -> str | None:
    """Why `change`, a step of length `norm` from `base`, must not be consolidated, or None.

    `typical_norm` is the median length of recent accepted steps, None while there are too few. It may be next to nothing
    while there is nothing to learn, and the next mistake teaches a lot: so a step is too long only beside the weights, too.
    """
    parts: dict[str, np.ndarray] = {"weights": change.flat_P, **change.optimizer, **change.buffers}
    for name, values in parts.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            return f"{name}: {int((~np.isfinite(values)).sum())} of {values.size} values are not finite"
    if change.layout and change.layout[-1].stop != len(change.flat_P):
        return f"{len(change.flat_P)} weights for a layout of {change.layout[-1].stop}"
    try:
        covering_layout([base.layout, change.layout])
    except ValueError as error:
        return str(error)
    if typical_norm:
        usual = max(typical_norm, _root_mean_square(base.flat_P))
        if norm > max_delta_ratio * usual:
            return f"its step is {norm:.3g} long, {norm / usual:.0f} times the usual {usual:.3g} (limit {max_delta_ratio:g})"
    return None


def _root_mean_square(values_P: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values_P, dtype=np.float64)))) if len(values_P) else 0.0


def delta_norm(base: ModelState, change: LocalChange) -> float:
    """Euclidean length of the step from `base`, root mean square over weights so that growing models compare."""
    if not len(change.flat_P):
        return 0.0
    start_P = relaid(base.flat_P, base.layout, covering_layout([base.layout, change.layout])) if base.layout else 0.0
    return _root_mean_square(change.flat_P - start_P)


def consolidate(head: ModelState, contributions: Sequence[Contribution], shards: int) -> ModelState:
    """The candidate: head + mean over contributions of their deltas, weighted by rows.

    Fresh contributions (staleness 0) started from the head, so head + mean of deltas is the mean of where they ended. A
    weight that the head does not have yet starts where every shard starts it: zero for a class, the seeded draw for a
    first module. A stale contribution moves the head by its delta times its share of the shards, divided by 1 + staleness
    (Xie et al. 2019, "Asynchronous federated optimization", polynomial staleness function with a = 1).
    """
    if not contributions:
        return head
    layout = covering_layout([head.layout, *(c.base.layout for c in contributions), *(c.change.layout for c in contributions)])
    fresh = [c for c in contributions if c.staleness == 0]
    flat_P = _mean([_vector(c.change.flat_P, c.change.layout, layout) for c in fresh], [c.change.rows for c in fresh])
    if flat_P is None:
        flat_P = _vector(head.flat_P, head.layout, layout)
    for c in contributions:
        if c.staleness > 0:
            delta_P = _vector(c.change.flat_P, c.change.layout, layout) - _vector(c.base.flat_P, c.base.layout, layout)
            flat_P = flat_P + delta_P / (shards * (1 + c.staleness))
    features, target = _merged([c.change.features for c in contributions]), _merged([c.change.target for c in contributions])
    trained = [c for c in fresh if c.change.rows] or [c for c in contributions if c.change.rows]
    return ModelState(
        layout=layout,
        flat_P=flat_P.astype(np.float32),
        optimizer=_mean_moments(trained, layout) or head.optimizer,
        buffers=_mean_buffers(head, trained) or head.buffers,
        features=head.features.merge(features),
        target=head.target.merge(target),
        class_counts_K=_added([head.class_counts_K, *(c.change.class_counts_K for c in contributions)]),
        classes=max((head.classes, *(c.change.classes for c in contributions)), key=len),
        rows=head.rows + sum(c.change.rows for c in contributions),
    )


def _vector(flat_P: np.ndarray, old: Layout, new: Layout) -> np.ndarray:
    return (relaid(flat_P, old, new) if old else np.zeros(new[-1].stop if new else 0)).astype(np.float64)


def _mean(vectors: list[np.ndarray], rows: list[int]) -> np.ndarray | None:
    """Weighted by rows, in float64, around the first vector: equal vectors give that vector bit for bit. None for none."""
    total = sum(rows)
    if not total:
        return None
    first_P = vectors[0]
    mean_P = first_P.copy()
    for vector_P, n in zip(vectors[1:], rows[1:], strict=True):
        mean_P += n / total * (vector_P - first_P)
    return mean_P


def _merged(parts: list[RunningStats]) -> RunningStats:
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    return merged


def _mean_moments(contributions: list[Contribution], layout: Layout) -> Mapping[str, np.ndarray]:
    """Moments by weighted mean; a scalar, such as Adam's step, is a count of steps taken: the largest."""
    if not contributions:
        return {}
    rows = [c.change.rows for c in contributions]
    moments: dict[str, np.ndarray] = {}
    for name, first in contributions[0].change.optimizer.items():
        if first.ndim == 0:
            moments[name] = np.asarray(np.max([c.change.optimizer[name] for c in contributions], axis=0), first.dtype)
            continue
        vectors = [_vector(c.change.optimizer[name], c.change.layout, layout) for c in contributions]
        moments[name] = np.asarray(_mean(vectors, rows), np.float32)
    return moments


def _mean_buffers(head: ModelState, contributions: list[Contribution]) -> Mapping[str, np.ndarray]:
    if not contributions:
        return {}
    buffers: dict[str, np.ndarray] = {}
    for name, first in contributions[0].change.buffers.items():
        values = [c.change.buffers[name] for c in contributions]
        if first.dtype.kind == "f":
            mean = _mean([value.astype(np.float64) for value in values], [c.change.rows for c in contributions])
            buffers[name] = np.asarray(mean, first.dtype)
        else:
            buffers[name] = np.asarray(np.max([*values, *([head.buffers[name]] if name in head.buffers else [])], axis=0))
    return buffers


def _added(counts: list[np.ndarray]) -> np.ndarray:
    total_K = np.zeros(max(map(len, counts)), np.int64)
    for counts_K in counts:
        total_K[: len(counts_K)] += counts_K
    return total_K
