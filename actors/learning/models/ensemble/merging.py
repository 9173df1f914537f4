"""What the experts of several contributions become. Shapes as in `parts`.

Every shard takes all rows of a round through its experts, so contributions to one version bring equal copies, and one of them
is taken. Only where learners do not wait for each other may two have begun from versions with different rounds behind them:
then weights move by both steps, sums add up, and memories are joined by row. A round that is known already adds nothing.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from actors.learning.models.ensemble import analytic, evidence, mixture, recency
from actors.learning.models.ensemble.parts import EMBEDDED_ROWS, KNOWN_ROUNDS, Parts, memory_rows, widened

_STEPPED = ("heads.", "pairs.", "recency.follows", "mixture.")


def merged(
    head: Mapping[str, np.ndarray], changes: Sequence[tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]]
) -> Parts:
    """The head's experts after `changes`, each with the version it started from."""
    parts = dict(head)
    for base, change in changes:
        if not change or (parts and change["rounds"][-1] in parts["rounds"]):
            continue
        starts_here = not parts or (base and np.array_equal(base["rounds"], parts["rounds"]))
        parts = dict(change) if starts_here else _joined(parts, base, change)
    return parts


def _joined(parts: Parts, base: Mapping[str, np.ndarray], change: Mapping[str, np.ndarray]) -> Parts:
    outputs = max(p["recency.sums"].shape[1] for p in (parts, change))
    parts, change = widened(parts, outputs), widened(change, outputs)
    base = widened(base, outputs) if base else {}
    joined = {**change, **parts, **_memories(parts, base, change), **evidence.joined(parts, base, change)}
    rows = int(np.isin(change["memory.row"], base["memory.row"] if base else [], invert=True).sum())
    for name, array in parts.items():
        if name.startswith(_STEPPED) and base and base[name].shape == array.shape:
            joined[name] = array + (change[name] - base[name])
    for name in ("recency.sums", "recency.weights") if base else ():
        joined[name] = (parts[name] - base[name]) * recency.KEPT_J[:, None] ** rows + change[name]
    for name in (name for name in parts if name.endswith(".squares") or name == "recency.follows"):
        joined[name] = np.maximum(joined[name], np.minimum(parts[name], change[name]))
    trust = np.maximum(joined["mixture.trust"], 0.0)
    joined["mixture.trust"] = trust / trust.sum(axis=-1, keepdims=True)
    if base and "mixture.squares" in base:
        mixture.bound(joined)
    for name in ("analytic.gram", "analytic.moment") if base and "analytic.gram" in parts else ():
        kept = np.array(analytic.DECAYS)[:, None, None] ** rows
        joined[name] = parts[name] * kept + (change[name] - base[name] * kept)
    if change["rounds"][-1] > parts["rounds"][-1]:
        joined["recency.last"] = change["recency.last"]
    joined["rounds"] = np.append(parts["rounds"], change["rounds"][-1])[-KNOWN_ROUNDS:]
    return joined


def _memories(parts: Parts, base: Mapping[str, np.ndarray], change: Mapping[str, np.ndarray]) -> Parts:
    """Joined by row number, the latest last."""
    found: Parts = {}
    row_M, new_M = parts["memory.row"], change["memory.row"]
    is_new = ~np.isin(new_M, np.concatenate([row_M, base["memory.row"] if base else new_M[:0]]))
    order = np.argsort(np.concatenate([row_M, new_M[is_new]]), kind="stable")[-memory_rows(parts["memory.x"].shape[1]) :]
    for name in ("memory.x", "memory.y", "memory.row"):
        found[name] = np.concatenate([parts[name], change[name][is_new]])[order]
    old_E, late_E = parts["memory.embedding"], change["memory.embedding"]
    old_row_E, late_row_E = row_M[len(row_M) - len(old_E) :], new_M[len(new_M) - len(late_E) :]
    is_late = np.isin(late_row_E, new_M[is_new])
    rows_E = np.concatenate([old_row_E, late_row_E[is_late]])
    order = np.argsort(rows_E, kind="stable")[-EMBEDDED_ROWS:]
    is_tail = np.isin(rows_E[order], found["memory.row"][-len(order) :])
    found["memory.embedding"] = np.concatenate([old_E, late_E[is_late]])[order][is_tail]
    row_P, late_P = parts["pending.row"], change["pending.row"]
    is_more = ~np.isin(late_P, row_P)
    order = np.argsort(np.concatenate([row_P, late_P[is_more]]), kind="stable")
    found["pending.row"] = np.concatenate([row_P, late_P[is_more]])[order]
    for name in ("pending.said", "pending.mixed"):
        found[name] = np.concatenate([parts[name], change[name][is_more]])[order]
    return found
