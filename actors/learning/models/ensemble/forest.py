"""Rolling forests: trees grown on the latest rows in memory, one after another, the newest in the place of the oldest.

A tree is grown in one piece on a window of remembered rows, which learns more from a row than growing it by the row does, and
costs next to nothing on coded features; what drift has made wrong goes with its trees. Trees are grown on Poisson(1) weights
(Oza and Russell 2001, online bagging), which is what makes them differ; each split looks at every feature, for most of them may
be noise. Those of the shorter windows split only where chance is no likely reason.

The first forest's window is the present: all rows since the last change. Where it has begun to be wrong more often than chance
explains, it drops its trees and begins anew at the row that divides best, with a tree after every few rows. The test is the
generalized likelihood ratio of a Bernoulli variable, with the threshold ln(3 n^1.5 / delta) (Besson, Kaufmann, Maillard and
Seznec, "Efficient Change-Point Detection for Tackling Piecewise-Stationary Bandits", JMLR 2022, section 2.2).

Shapes: N rows to predict, T labelled rows, L those in memory and these, D features, F forests, G trees, B nodes of a tree, K
outputs.
"""

from typing import Any

import numpy as np

from actors.learning.models.ensemble import quantiles
from actors.learning.models.ensemble.compiled import compiled
from actors.learning.models.ensemble.targets import CLASSES, Targets

PRESENT, MOST_ROWS = 0, 5000
WINDOWS_F = np.array([PRESENT, 1600, MOST_ROWS])
_IS_PRUNED_F = np.array([True, True, False])
TREES, NODES, DEPTH = 16, 255, 10
NEWEST_Q = np.array([2, TREES])  # how many of a forest's trees an expert asks: the fewer, the sooner it is over a change
EXPERTS = len(WINDOWS_F) * len(NEWEST_Q)
_LEAST_ROWS = 2
_MOST_CELLS = 1_000_000  # of leaf probabilities in one forest: with many classes the trees are fewer
_GROWN_EVERY = 128  # rows: one tree in the present's forest, and one in one of the others
_LOOKED_EVERY, _FRESH = 16, 32  # rows; a tree each time that a young present has grown by such a part
_MISSES, _FEWEST, _DELTA = 1024, 8, 0.05  # rows that the test looks at, the fewest after a change, its share of false alarms
_FAR = 0.8  # a value is missed where it is farther off than this share of them
_DRAWS = np.random.default_rng(5)
_WEIGHTS = _DRAWS.poisson(1.0, 1 << 16).astype(np.float32)
_STRIDE = 31_153  # in these weights, from one tree's to the next one's
_ROWS, _BEGAN, _GROWN = range(3)  # on the clock: rows learned; at which of them the present began, and its last tree was grown


@compiled
def _grow(
    code_ND: np.ndarray,
    label_N: np.ndarray,
    value_N: np.ndarray,
    weight_N: np.ndarray,
    is_class: bool,
    edges_DB: np.ndarray,
    depth: int,
    least: int,
    doubt: float,
    feature_B: np.ndarray,
    threshold_B: np.ndarray,
    child_B: np.ndarray,
    leaf_BK: np.ndarray,
) -> None:
    """One tree: Gini impurity for classes, variance for values. `child_B` is the left one, the right one follows it."""
    rows, features = code_ND.shape
    codes = edges_DB.shape[1] + 2
    nodes, outputs = leaf_BK.shape
    sums = outputs if is_class else 2  # class weights, or weight and weighted value
    order_N, spare_N = np.arange(rows), np.empty(rows, np.int64)
    start_B, stop_B, depth_B = np.empty(nodes, np.int64), np.empty(nodes, np.int64), np.empty(nodes, np.int64)
    start_B[0], stop_B[0], depth_B[0] = 0, rows, 0
    cell_CS, is_taken_C = np.zeros((codes, sums), np.float32), np.zeros(codes, np.bool_)
    total_S, left_S = np.empty(sums, np.float32), np.empty(sums, np.float32)
    made, node = 1, 0
    while node < made:
        start, stop = start_B[node], stop_B[node]
        total_S[:] = np.float32(0)
        for at in range(start, stop):
            n = order_N[at]
            if is_class:
                total_S[label_N[n]] += weight_N[n]
            else:
                total_S[0] += weight_N[n]
                total_S[1] += weight_N[n] * value_N[n]
        weight, square = np.float32(0), np.float32(0)
        if is_class:
            for s in range(sums):
                weight += total_S[s]
                square += total_S[s] * total_S[s]
        else:
            weight, square = total_S[0], total_S[1] * total_S[1]
        pure = square / max(weight, np.float32(1e-9))
        best_gain, best_feature, best_code = np.float32(1e-4), -1, 0
        is_open = depth_B[node] < depth and stop - start >= 2 * least and made + 2 <= nodes
        if is_open and not (is_class and pure > weight - np.float32(1e-3)):
            for d in range(features):
                lowest, highest = codes, 0
                for at in range(start, stop):
                    n = order_N[at]
                    c = code_ND[n, d]
                    if is_class:
                        cell_CS[c, label_N[n]] += weight_N[n]
                    else:
                        cell_CS[c, 0] += weight_N[n]
                        cell_CS[c, 1] += weight_N[n] * value_N[n]
                    is_taken_C[c] = True
                    lowest, highest = min(lowest, c), max(highest, c)
                left_S[:] = np.float32(0)
                left_weight = np.float32(0)
                for c in range(lowest, highest + 1):  # leaves the cells empty
                    if not is_taken_C[c]:
                        continue
                    left_square, right_square = np.float32(0), np.float32(0)
                    if is_class:
                        for s in range(sums):
                            left_S[s] += cell_CS[c, s]
                            left_weight += cell_CS[c, s]
                            left_square += left_S[s] * left_S[s]
                            right_square += (total_S[s] - left_S[s]) * (total_S[s] - left_S[s])
                    else:
                        left_S[0] += cell_CS[c, 0]
                        left_S[1] += cell_CS[c, 1]
                        left_weight = left_S[0]
                        left_square = left_S[1] * left_S[1]
                        right_square = (total_S[1] - left_S[1]) * (total_S[1] - left_S[1])
                    cell_CS[c, :], is_taken_C[c] = np.float32(0), False
                    if left_weight < least or weight - left_weight < least:
                        continue
                    gain = left_square / left_weight + right_square / (weight - left_weight) - pure
                    if gain > best_gain:
                        best_gain, best_feature, best_code = gain, d, c
        if best_gain < doubt * (1 - pure / max(weight, np.float32(1e-9))):
            best_feature = -1
        feature_B[node] = best_feature
        if best_feature >= 0:
            # What goes right is larger than the edge, or missing.
            threshold_B[node] = edges_DB[best_feature, best_code] if best_code < codes - 2 else np.float32(np.inf)
            child_B[node] = made
            middle, spared = start, 0
            for at in range(start, stop):
                n = order_N[at]
                if code_ND[n, best_feature] <= best_code:
                    order_N[middle] = n
                    middle += 1
                else:
                    spare_N[spared] = n
                    spared += 1
            for at in range(spared):
                order_N[middle + at] = spare_N[at]
            start_B[made], stop_B[made], depth_B[made] = start, middle, depth_B[node] + 1
            start_B[made + 1], stop_B[made + 1], depth_B[made + 1] = middle, stop, depth_B[node] + 1
            made += 2
        if is_class:  # beside one row that is shared by all classes
            for k in range(outputs):
                leaf_BK[node, k] = (total_S[k] + np.float32(1) / outputs) / (weight + np.float32(1))
        else:
            leaf_BK[node, 0] = total_S[1] / (weight + np.float32(1))
        node += 1


@compiled
def _ask(
    x_D: np.ndarray,
    feature_GB: np.ndarray,
    threshold_GB: np.ndarray,
    child_GB: np.ndarray,
    leaf_GBK: np.ndarray,
    grown: int,
    newest_Q: np.ndarray,
    said_QK: np.ndarray,
) -> None:
    """The means over the `newest_Q` trees, ascending, of those `grown` so far; zeros while there is none."""
    trees, outputs = len(leaf_GBK), leaf_GBK.shape[2]
    said_QK[:] = np.float32(0)
    asked = 0
    for q in range(len(newest_Q)):
        if q:
            said_QK[q] = said_QK[q - 1]
        while asked < min(newest_Q[q], grown, trees):
            asked += 1
            g, node = (grown - asked) % trees, 0
            while feature_GB[g, node] >= 0:
                goes_left = x_D[feature_GB[g, node]] <= threshold_GB[g, node]
                node = child_GB[g, node] + (0 if goes_left else 1)
            for k in range(outputs):
                said_QK[q, k] += leaf_GBK[g, node, k]
    for q in range(len(newest_Q)):
        for k in range(outputs):
            said_QK[q, k] /= max(min(newest_Q[q], grown, trees), 1)


@compiled
def _surprise(misses: float, rows: float) -> Any:
    """The log of the likelihood of so many misses among so many rows, at its largest."""
    rate = misses / rows
    if rate <= 0 or rate >= 1:
        return 0.0
    return misses * np.log(rate) + (rows - misses) * np.log(1 - rate)


@compiled
def change(is_missed_N: np.ndarray) -> int:
    """The row from which on there are more misses than before, by more than chance explains; -1 if there is none."""
    rows, misses = len(is_missed_N), 0.0
    for n in range(rows):
        misses += is_missed_N[n]
    alike = _surprise(misses, rows)
    best, best_row = np.log(3.0 * rows**1.5 / _DELTA), -1
    before = 0.0
    for n in range(1, rows - _FEWEST + 1):
        before += is_missed_N[n - 1]
        if (misses - before) * n > before * (rows - n):
            ratio = _surprise(before, n) + _surprise(misses - before, rows - n) - alike
            if ratio > best:
                best, best_row = ratio, n
    return best_row


@compiled
def _has_changed(is_value: bool, miss_L: np.ndarray, clock_3: np.ndarray) -> bool:
    """Whether the present has begun anew within the rows of `miss_L`, of which the last is the last learned; sets the clock."""
    rows = min(len(miss_L), clock_3[_ROWS] - clock_3[_BEGAN])
    if rows < 2 * _FEWEST:
        return False
    miss_N = miss_L[len(miss_L) - rows :].copy()
    if is_value:
        far = np.sort(miss_N)[int(_FAR * (rows - 1))]
        for n in range(rows):
            miss_N[n] = np.float32(1) if miss_N[n] > far else np.float32(0)
    first = change(miss_N)
    if first >= 0:
        clock_3[_BEGAN] = clock_3[_ROWS] - rows + first
    return first >= 0


@compiled
def _run(
    aim: int,
    edges_DB: np.ndarray,
    x_ND: np.ndarray,
    upto_N: np.ndarray,
    x_TD: np.ndarray,
    code_LD: np.ndarray,
    label_L: np.ndarray,
    value_L: np.ndarray,
    windows_F: np.ndarray,
    is_pruned_F: np.ndarray,
    newest_Q: np.ndarray,
    weights: np.ndarray,
    feature_FGB: np.ndarray,
    threshold_FGB: np.ndarray,
    child_FGB: np.ndarray,
    leaf_FGBK: np.ndarray,
    grown_F: np.ndarray,
    clock_3: np.ndarray,
    miss_L: np.ndarray,
    said_NEK: np.ndarray,
    first: int,
) -> None:
    """Answers row n after the first `upto_N[n]` labels, as expert `first` and those that follow, and learns all of them."""
    rows, trees, outputs = len(x_TD), feature_FGB.shape[1], leaf_FGBK.shape[3]
    remembered, missed = len(code_LD) - rows, len(miss_L) - rows
    # The largest of m chance gains, in chi-square, is about 2 ln m; ten thresholds of a feature are as good as independent.
    chance = 2.0 * np.log(10.0 * code_LD.shape[1])
    said_1K = np.empty((1, outputs), np.float32)
    n = 0
    for t in range(rows + 1):
        while n < len(x_ND) and (t == rows or upto_N[n] <= t):
            for f in range(len(windows_F)):
                expert = first + f * len(newest_Q)
                _ask(
                    x_ND[n], feature_FGB[f], threshold_FGB[f], child_FGB[f], leaf_FGBK[f], grown_F[f], newest_Q,
                    said_NEK[n, expert : expert + len(newest_Q)],
                )  # fmt: skip
            n += 1
        if t == rows:
            break
        _ask(x_TD[t], feature_FGB[0], threshold_FGB[0], child_FGB[0], leaf_FGBK[0], grown_F[0], newest_Q[-1:], said_1K)
        if aim == CLASSES:
            is_right = grown_F[0] > 0 and np.argmax(said_1K[0]) == label_L[remembered + t]
            miss_L[missed + t] = np.float32(0) if is_right else np.float32(1)
        else:
            miss_L[missed + t] = abs(said_1K[0, 0] - value_L[remembered + t])
        clock_3[_ROWS] += 1
        now = clock_3[_ROWS]
        if now % _LOOKED_EVERY or not len(edges_DB):
            continue
        if _has_changed(aim != CLASSES, miss_L[: missed + t + 1], clock_3):
            grown_F[0], clock_3[_GROWN] = 0, clock_3[_BEGAN]
        age = now - clock_3[_BEGAN]
        known = remembered + t + 1
        for f in range(len(windows_F)):
            if f == 0:
                is_due = now - clock_3[_GROWN] >= min(_GROWN_EVERY, age // _FRESH)
            else:
                is_due = now % _GROWN_EVERY == 0 and 1 + now // _GROWN_EVERY % (len(windows_F) - 1) == f
            if not is_due:
                continue
            window = min(known, windows_F[f] if f else age)
            offset = _STRIDE * (now // _LOOKED_EVERY * len(windows_F) + f)
            weight_N, count = np.empty(window, np.float32), 0
            at_N = np.empty(window, np.int64)
            for back in range(window):
                weight = weights[(offset + back) % len(weights)]
                if weight > 0:
                    weight_N[count], at_N[count] = weight, known - 1 - back
                    count += 1
            at_N, g = at_N[:count], grown_F[f] % trees
            _grow(
                code_LD[at_N], label_L[at_N], value_L[at_N], weight_N[:count], aim == CLASSES, edges_DB, DEPTH, _LEAST_ROWS,
                chance if is_pruned_F[f] else 0.0, feature_FGB[f, g], threshold_FGB[f, g], child_FGB[f, g], leaf_FGBK[f, g],
            )  # fmt: skip
            grown_F[f] += 1
            if f == 0:
                clock_3[_GROWN] = now


def empty(outputs: int) -> dict[str, np.ndarray]:
    """The arrays of all forests, without a tree; `forest.grown` counts the trees of each that there ever were."""
    shape = (len(WINDOWS_F), _most_trees(outputs), NODES)
    return {
        "forest.grown": np.zeros(len(WINDOWS_F), np.int64),
        "forest.clock": np.zeros(3, np.int64),
        "forest.miss": np.zeros(0, np.float32),
        "forest.feature": np.full(shape, -1, np.int16),
        "forest.threshold": np.zeros(shape, np.float32),
        "forest.child": np.zeros(shape, np.int16),
        "forest.leaf": np.zeros((*shape, outputs), np.float32),
    }


def trimmed(parts: dict[str, np.ndarray], outputs: int) -> dict[str, np.ndarray]:
    """With as many trees as there may be for so many outputs."""
    trees = _most_trees(outputs)
    return {name: a[:, :trees] if name.startswith("forest.") and a.ndim > 1 else a for name, a in parts.items()}


def _most_trees(outputs: int) -> int:
    return max(1, min(TREES, _MOST_CELLS // (NODES * max(outputs, 1))))


def said(
    parts: dict[str, np.ndarray],
    aim: int,
    edges_DB: np.ndarray | None,
    x_ND: np.ndarray,
    x_TD: np.ndarray,
    memory: Targets,
    targets: Targets,
    upto_N: np.ndarray,
    said_NEK: np.ndarray,
    first: int,
) -> None:
    """What the forests say of row n after the first `upto_N[n]` labels, as expert `first` and those that follow.

    Learns all of them, in place in `parts`, as soon as there are `edges_DB`.
    """
    labels = memory.joined(targets) if len(targets) else targets  # whoever only answers needs no memory
    if edges_DB is None or not len(targets):
        code_LD = np.zeros((len(labels), x_TD.shape[1]), np.uint8)
    else:
        code_LD = quantiles.codes_of_rows(np.concatenate([parts["memory.x"], x_TD]), edges_DB)
    edges_DB = np.zeros((0, quantiles.CODE_EDGES), np.float32) if edges_DB is None else edges_DB
    miss_L = np.concatenate([parts["forest.miss"], np.zeros(len(targets), np.float32)])
    _run(
        aim, edges_DB, np.ascontiguousarray(x_ND), upto_N, np.ascontiguousarray(x_TD), code_LD, labels.code_T, labels.value_T,
        WINDOWS_F, _IS_PRUNED_F, NEWEST_Q, _WEIGHTS, parts["forest.feature"], parts["forest.threshold"], parts["forest.child"],
        parts["forest.leaf"], parts["forest.grown"], parts["forest.clock"], miss_L, said_NEK, first,
    )  # fmt: skip
    parts["forest.miss"] = miss_L[-_MISSES:]
