"""Rolling forests: trees grown on the latest rows in memory, one after another, the newest in the place of the oldest.

A tree is grown in one piece on a window of remembered rows, which learns more from a row than growing it by the row does, and
costs next to nothing on coded features; what drift has made wrong goes with its trees. Trees are grown on Poisson(1) weights
(Oza and Russell 2001, online bagging), which is what makes them differ; each split looks at every feature, for most of them may
be noise. Those of the shorter windows split only where chance is no likely reason.

Shapes: N rows, D features, G trees, B nodes of a tree, K outputs.
"""

from collections.abc import Mapping

import numpy as np

from actors.learning.models.ensemble.compiled import compiled
from actors.learning.models.ensemble.quantiles import CODES
from actors.learning.models.ensemble.targets import CLASSES

WINDOWS = (320, 1600, 5000)
_TURNS = (0, 1, 0, 2)  # whose tree comes next: the shortest window's age soonest
_PRUNED = WINDOWS[:2]
TREES, NODES, DEPTH = 16, 255, 10
NEWEST = (2, TREES)  # how many of a forest's trees an expert asks: the fewer, the sooner it is over a change
EXPERTS = len(WINDOWS) * len(NEWEST)
_ARRAYS = ("feature", "threshold", "child", "leaf")
_LEAST_ROWS = 2
_MOST_CELLS = 1_000_000  # of leaf probabilities in one forest: with many classes the trees are fewer
_GROWN_EVERY_ROWS = 64  # one tree in one of the forests


@compiled
def _grow(
    code_ND: np.ndarray,
    label_N: np.ndarray,
    value_N: np.ndarray,
    weight_N: np.ndarray,
    is_class: bool,
    codes: int,
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
    nodes, outputs = leaf_BK.shape
    sums = outputs if is_class else 2  # class weights, or weight and weighted value
    order_N, spare_N = np.arange(rows), np.empty(rows, np.int64)
    start_B, stop_B, depth_B = np.empty(nodes, np.int64), np.empty(nodes, np.int64), np.empty(nodes, np.int64)
    start_B[0], stop_B[0], depth_B[0] = 0, rows, 0
    cell_CS = np.empty((codes, sums), np.float32)
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
                cell_CS[:] = np.float32(0)
                lowest, highest = codes, 0
                for at in range(start, stop):
                    n = order_N[at]
                    c = code_ND[n, d]
                    if is_class:
                        cell_CS[c, label_N[n]] += weight_N[n]
                    else:
                        cell_CS[c, 0] += weight_N[n]
                        cell_CS[c, 1] += weight_N[n] * value_N[n]
                    lowest, highest = min(lowest, c), max(highest, c)
                left_S[:] = np.float32(0)
                left_weight = np.float32(0)
                for c in range(lowest, highest):
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
                    if left_weight < least or weight - left_weight < least:
                        continue
                    gain = left_square / left_weight + right_square / (weight - left_weight) - pure
                    if gain > best_gain:
                        best_gain, best_feature, best_code = gain, d, c
        if best_gain < doubt * (1 - pure / max(weight, np.float32(1e-9))):
            best_feature = -1
        feature_B[node] = best_feature
        if best_feature >= 0:
            threshold_B[node], child_B[node] = best_code, made
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
def _mean_leaf(
    code_ND: np.ndarray,
    feature_GB: np.ndarray,
    threshold_GB: np.ndarray,
    child_GB: np.ndarray,
    leaf_GBK: np.ndarray,
    grown: int,
    newest: int,
    said_NEK: np.ndarray,
    expert: int,
) -> None:
    """The mean over the `newest` trees of those `grown` so far, as expert `expert`."""
    trees = len(leaf_GBK)
    newest = min(newest, grown, trees)
    for n in range(len(code_ND)):
        said_K = said_NEK[n, expert]
        said_K[:] = np.float32(0)
        for back in range(newest):
            g = (grown - 1 - back) % trees
            node = 0
            while feature_GB[g, node] >= 0:
                goes_right = code_ND[n, feature_GB[g, node]] > threshold_GB[g, node]
                node = child_GB[g, node] + (1 if goes_right else 0)
            for k in range(leaf_GBK.shape[2]):
                said_K[k] += leaf_GBK[g, node, k]
        for k in range(leaf_GBK.shape[2]):
            said_K[k] /= max(newest, 1)


def empty(outputs: int) -> dict[str, np.ndarray]:
    """The arrays of all forests, without a tree; `forest.grown` counts the trees of each that there ever were."""
    parts: dict[str, np.ndarray] = {"forest.grown": np.zeros(len(WINDOWS), np.int64)}
    trees = _most_trees(outputs)
    for window in WINDOWS:
        parts |= {
            f"forest.{window}.feature": np.full((trees, NODES), -1, np.int16),
            f"forest.{window}.threshold": np.zeros((trees, NODES), np.uint8),
            f"forest.{window}.child": np.zeros((trees, NODES), np.int16),
            f"forest.{window}.leaf": np.zeros((trees, NODES, outputs), np.float32),
        }
    return parts


def trimmed(parts: dict[str, np.ndarray], outputs: int) -> dict[str, np.ndarray]:
    """With as many trees as there may be for so many outputs."""
    return {name: a[: _most_trees(outputs)] if name.startswith("forest.") and a.ndim > 1 else a for name, a in parts.items()}


def _most_trees(outputs: int) -> int:
    return max(1, min(TREES, _MOST_CELLS // (NODES * max(outputs, 1))))


def predict(parts: Mapping[str, np.ndarray], code_ND: np.ndarray, said_NEK: np.ndarray, first: int) -> None:
    """The mean over the newest trees of each forest, and over all: zeros while there is none."""
    for number, window in enumerate(WINDOWS):
        feature, threshold, child, leaf = (parts[f"forest.{window}.{name}"] for name in _ARRAYS)
        grown = int(parts["forest.grown"][number])
        for at, newest in enumerate(NEWEST):
            expert = first + number * len(NEWEST) + at
            _mean_leaf(code_ND, feature, threshold, child, leaf, grown, newest, said_NEK, expert)


def learn(
    parts: Mapping[str, np.ndarray],
    aim: int,
    code_MD: np.ndarray,
    label_M: np.ndarray,
    value_M: np.ndarray,
    rows_before: int,
    rows_after: int,
    seed: int,
) -> None:
    """Grows the trees that are due between two numbers of learned rows, on the rows in memory, latest last. In place."""
    features = code_MD.shape[1]
    # The largest of m chance gains, in chi-square, is about 2 ln m; ten thresholds of a feature are as good as independent.
    chance = 2.0 * float(np.log(10.0 * features))
    for number in range(rows_before // _GROWN_EVERY_ROWS, rows_after // _GROWN_EVERY_ROWS):
        at = _TURNS[number % len(_TURNS)]
        window, grown = WINDOWS[at], parts["forest.grown"]
        doubt = chance if window in _PRUNED else 0.0
        names = [f"forest.{window}.{name}" for name in _ARRAYS]
        tree = int(grown[at]) % len(parts[names[0]])
        rng = np.random.default_rng([seed, number])
        weight_M = rng.poisson(1.0, min(window, len(code_MD))).astype(np.float32)
        chosen = np.flatnonzero(weight_M)
        from_M = len(code_MD) - len(weight_M) + chosen
        _grow(
            code_MD[from_M], label_M[from_M], value_M[from_M], weight_M[chosen], aim == CLASSES, CODES, DEPTH,
            _LEAST_ROWS, doubt, *(parts[name][tree] for name in names),
        )  # fmt: skip
        grown[at] += 1
