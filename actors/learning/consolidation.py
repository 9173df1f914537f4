"""From the contributions of a round to one candidate version: compute, check, and only then commit.

Weighted mean of the shards' deltas from the version they started from (local SGD: Stich 2019, "Local SGD converges fast
and communicates little", algorithm 1; weights by rows as in McMahan et al. 2017, "Communication-efficient learning of
deep networks from decentralized data", algorithm 1). Statistics merge exactly, counts add up, integers are never averaged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from actors.learning.combination import Strategy, combined, krum, mean
from actors.learning.regularizers.anchor import merged_tied
from actors.learning.running_stats import RunningStats
from actors.learning.section import Section, setting
from actors.learning.state import Layout, LocalChange, ModelState, covering_layout, relaid

_OUTER = "outer_momentum"


class ConsolidationConfig(Section):
    strategy: Strategy = setting(
        "mean",
        "How contributions become one: their mean, weighted by rows. Where a shard may be out of order: weight by weight the "
        "mean without the extremes (`trimmed_mean`) or the `median`, or the one that lies nearest to the others (`krum`).",
    )
    faulty: int = setting(
        1,
        "Shards that may be out of order: so many extremes are trimmed, and so many krum is proof against.",
        unit="shards",
        ge=1,
    )
    outer: Literal["none", "nesterov"] = setting(
        "none",
        "`nesterov`: a round's mean step is not taken as it is, but is the gradient of an outer optimizer with momentum.",
    )
    outer_learning_rate: float = setting(0.7, "Step size of the outer optimizer.", gt=0, le=10)
    outer_momentum: float = setting(0.9, "What is kept of its step from one round to the next.", ge=0, lt=1)
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
    mixture = {name: part for name, part in change.experts.items() if name.startswith("mixture.")}
    parts: dict[str, np.ndarray] = {"weights": change.flat_P, **change.optimizer, **change.buffers, **change.tied}
    parts |= mixture
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


def consolidate(
    head: ModelState, contributions: Sequence[Contribution], shards: int, config: ConsolidationConfig | None = None
) -> ModelState:
    """The candidate: head + mean over contributions of their deltas, weighted by rows.

    Fresh contributions (staleness 0) started from the head, so head + mean of deltas is the mean of where they ended. A
    weight that the head does not have yet starts where every shard starts it: zero for a class, the seeded draw for a
    first module. A stale contribution moves the head by its delta times its share of the shards, divided by 1 + staleness
    (Xie et al. 2019, "Asynchronous federated optimization", polynomial staleness function with a = 1).

    For the strategies that are proof against a shard out of order, a stale contribution is one among the others: it is taken to
    end where its discounted delta leads from the head. Counts and statistics are those of all contributions.
    """
    config = config or ConsolidationConfig()
    if not contributions:
        return head
    layout = covering_layout([head.layout, *(c.base.layout for c in contributions), *(c.change.layout for c in contributions)])
    head_P = _vector(head.flat_P, head.layout, layout)
    fresh = [c for c in contributions if c.staleness == 0]
    trained = [c for c in fresh if c.change.rows] or [c for c in contributions if c.change.rows]
    if config.strategy == "mean":
        flat_P = mean([_vector(c.change.flat_P, c.change.layout, layout) for c in fresh], [c.change.rows for c in fresh])
        if flat_P is None:
            flat_P = head_P
        for c in contributions:
            if c.staleness > 0:
                flat_P = flat_P + _delta(c, layout) / (shards * (1 + c.staleness))
    else:
        trained = [c for c in contributions if c.change.rows]
        ends = [
            head_P + _delta(c, layout) / (1 + c.staleness) if c.staleness else _vector(c.change.flat_P, c.change.layout, layout)
            for c in trained
        ]
        if config.strategy == "krum" and len(trained) >= 3:
            chosen = krum(config.faulty, ends)
            trained, ends = [trained[chosen]], [ends[chosen]]
        found_P = combined(config.strategy, config.faulty, ends, [c.change.rows for c in trained])
        flat_P = head_P if found_P is None else found_P
    tied = dict(merged_tied(head, [(c.change.tied, c.change.layout, c.change.rows) for c in trained], layout))
    if config.outer == "nesterov" and head.layout:
        flat_P, tied[_OUTER] = _outer_step(head, head_P, flat_P, layout, config)
    features, target = _merged([c.change.features for c in contributions]), _merged([c.change.target for c in contributions])
    return ModelState(
        layout=layout,
        flat_P=flat_P.astype(np.float32),
        optimizer=_combined_moments(trained, layout, config) or head.optimizer,
        buffers=_combined_buffers(head, trained, config) or head.buffers,
        features=head.features.merge(features),
        target=head.target.merge(target),
        class_counts_K=_added([head.class_counts_K, *(c.change.class_counts_K for c in contributions)]),
        classes=max((head.classes, *(c.change.classes for c in contributions)), key=len),
        rows=head.rows + sum(c.change.rows for c in contributions),
        experts=_merged_experts(head, contributions),
        tied=tied,
    )


def _delta(c: Contribution, layout: Layout) -> np.ndarray:
    delta_P: np.ndarray = _vector(c.change.flat_P, c.change.layout, layout) - _vector(c.base.flat_P, c.base.layout, layout)
    return delta_P


def _outer_step(
    head: ModelState, head_P: np.ndarray, merged_P: np.ndarray, layout: Layout, config: ConsolidationConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Weights and momentum after a step along what the shards agreed on, as if it were a gradient.

    Douillard et al. (2023), "DiLoCo: distributed low-communication training of language models", algorithm 1, with Nesterov
    momentum as in Sutskever et al. (2013).
    """
    gradient_P = head_P - merged_P
    momentum_P = gradient_P
    if _OUTER in head.tied:
        momentum_P = gradient_P + config.outer_momentum * _vector(head.tied[_OUTER], head.layout, layout)
    step_P = gradient_P + config.outer_momentum * momentum_P
    return head_P - config.outer_learning_rate * step_P, momentum_P.astype(np.float32)


def _merged_experts(head: ModelState, contributions: Sequence[Contribution]) -> Mapping[str, np.ndarray]:
    if not any(c.change.experts for c in contributions):
        return head.experts
    from actors.learning.models.ensemble.merging import merged  # it takes a second, which reading a configuration need not

    return merged(head.experts, [(c.base.experts, c.change.experts) for c in contributions])


def _vector(flat_P: np.ndarray, old: Layout, new: Layout) -> np.ndarray:
    return (relaid(flat_P, old, new) if old else np.zeros(new[-1].stop if new else 0)).astype(np.float64)


def _merged(parts: list[RunningStats]) -> RunningStats:
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    return merged


def _combined_moments(
    contributions: list[Contribution], layout: Layout, config: ConsolidationConfig
) -> Mapping[str, np.ndarray]:
    """Moments as the weights are combined; a scalar, such as Adam's step, is a count of steps taken: the largest."""
    if not contributions:
        return {}
    rows = [c.change.rows for c in contributions]
    moments: dict[str, np.ndarray] = {}
    for name, first in contributions[0].change.optimizer.items():
        if first.ndim == 0:
            moments[name] = np.asarray(np.max([c.change.optimizer[name] for c in contributions], axis=0), first.dtype)
            continue
        vectors = [_vector(c.change.optimizer[name], c.change.layout, layout) for c in contributions]
        moments[name] = np.asarray(combined(config.strategy, config.faulty, vectors, rows), np.float32)
    return moments


def _combined_buffers(
    head: ModelState, contributions: list[Contribution], config: ConsolidationConfig
) -> Mapping[str, np.ndarray]:
    if not contributions:
        return {}
    buffers: dict[str, np.ndarray] = {}
    for name, first in contributions[0].change.buffers.items():
        values = [c.change.buffers[name] for c in contributions]
        if first.dtype.kind == "f":
            rows = [c.change.rows for c in contributions]
            found = combined(config.strategy, config.faulty, [value.astype(np.float64) for value in values], rows)
            buffers[name] = np.asarray(found, first.dtype)
        else:
            buffers[name] = np.asarray(np.max([*values, *([head.buffers[name]] if name in head.buffers else [])], axis=0))
    return buffers


def _added(counts: list[np.ndarray]) -> np.ndarray:
    total_K = np.zeros(max(map(len, counts)), np.int64)
    for counts_K in counts:
        total_K[: len(counts_K)] += counts_K
    return total_K
