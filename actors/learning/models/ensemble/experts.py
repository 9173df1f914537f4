"""What every expert says of rows, each from what it knew when the row came. Shapes: N rows to predict, T labelled rows, D
features, E experts, K outputs, U hidden units, M rows of memory.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from actors.learning.models.ensemble import analytic, forest, heads, mixture, neighbours, pairs, quantiles, recency
from actors.learning.models.ensemble.bodies import Bodies, Stack
from actors.learning.models.ensemble.compiled import compiled
from actors.learning.models.ensemble.evidence import Widening, places
from actors.learning.models.ensemble.parts import EMBEDDED_ROWS, MEMORY_ROWS, Parts
from actors.learning.models.ensemble.targets import ABSOLUTE, CLASSES, SCORES, SQUARED, Targets, answer
from actors.learning.running_stats import RunningStats

_VOTES_V = np.array([1, 5, neighbours.NEIGHBOURS])
_WINDOWS_W = np.array([32, 128, 1024, MEMORY_ROWS])
_EMBEDDED_VOTES_V = np.array([1, 5])
_EMBEDDED_WINDOWS_W = np.array([32, 128, EMBEDDED_ROWS])
EMBEDDED = 2  # networks whose embeddings are remembered
_CLIP = 6.0


def count(aim: int, embeddings: int, has_pairs: bool) -> int:
    global_ones = 0 if aim == SCORES else forest.EXPERTS + len(analytic.DECAYS)
    return int(_heads(embeddings, has_pairs).stop) + recency.EXPERTS + global_ones


def lasting(aim: int, embeddings: int, has_pairs: bool) -> np.ndarray:
    """bool [E]: who may tell of what the stream shows no more. What descends row by row learns it well and soon forgets it."""
    is_lasting_E = np.ones(count(aim, embeddings, has_pairs), bool)
    is_lasting_E[_heads(embeddings, has_pairs)] = False
    return is_lasting_E


def _heads(embeddings: int, has_pairs: bool) -> slice:
    """Which experts are linear heads, or factorization machines."""
    searched = len(_VOTES_V) * (2 * len(_WINDOWS_W) - 1) + EMBEDDED * len(_EMBEDDED_VOTES_V) * len(_EMBEDDED_WINDOWS_W)
    first = embeddings + searched
    linear = len(heads.STEPS_H4) * (embeddings + 1) + len(heads.VALUE_STEPS_H4)
    return slice(first, first + linear + (pairs.EXPERTS if has_pairs else 0))


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a block, in the views that experts have of them."""

    x_ND: np.ndarray
    z_ND: np.ndarray  # standardised
    raw_ND: np.ndarray  # centred, missing values at the mean
    at_NA: np.ndarray | None  # hats; None before there are edges
    hat_NA: np.ndarray | None
    id_NC: np.ndarray

    def __len__(self) -> int:
        return len(self.x_ND)

    def at(self, at_N: np.ndarray) -> "Rows":
        return self._each(lambda view, _: view[at_N], self)

    def joined(self, other: "Rows") -> "Rows":
        """These, then the others."""
        return self._each(lambda view, more: np.concatenate([view, more]), other)

    def _each(self, change: Callable[[Any, Any], Any], other: "Rows") -> "Rows":
        pairs = ((getattr(self, view.name), getattr(other, view.name)) for view in fields(self))
        return Rows(*(None if view is None else change(view, more) for view, more in pairs))  # type: ignore[arg-type]


class Views:
    """From encoded rows to views, by the statistics and edges of one version."""

    def __init__(self, features: RunningStats, parts: Parts) -> None:
        self._features = features
        self._mean_D = features.mean_D.astype(np.float32)
        self.hat_edges_DB, self.code_edges_DB = parts.get("quantiles.hats"), parts.get("quantiles.codes")

    def standardised(self, x_ND: np.ndarray) -> np.ndarray:
        return self._features.standardise(x_ND, _CLIP)

    def centred(self, x_ND: np.ndarray) -> np.ndarray:
        return np.nan_to_num(x_ND - self._mean_D, nan=0.0)

    def hats(self, x_ND: np.ndarray) -> np.ndarray:
        """float32 [N, D * H]; zeros before there are edges."""
        width = x_ND.shape[1] * quantiles.HATS
        if self.hat_edges_DB is None:
            return np.zeros((len(x_ND), width), np.float32)
        return quantiles.dense(*quantiles.hats_of(x_ND, self.hat_edges_DB), width)

    def rows(self, x_ND: np.ndarray, id_NC: np.ndarray) -> Rows:
        at_NA, hat_NA = (None, None) if self.hat_edges_DB is None else quantiles.hats_of(x_ND, self.hat_edges_DB)
        return Rows(x_ND, self.standardised(x_ND), self.centred(x_ND), at_NA, hat_NA, id_NC)


class Experts:
    """The experts of one version. `said` learns the labelled rows on the way, in place in `parts`."""

    def __init__(
        self,
        parts: Parts,
        bodies: Bodies,
        stacks: tuple[Stack, ...],
        widening: Widening,
        features: RunningStats,
        memory: Targets,
    ) -> None:
        self.parts, self.views = parts, Views(widening.statistics(features), parts)
        self._bodies, self._stacks, self._widening, self._aim, self.memory = bodies, stacks, widening, widening.aim, memory
        x_MD = parts["memory.x"]
        self._z_MD, self._raw_MD = self.views.standardised(x_MD), self.views.centred(x_MD)
        self._projection = analytic.projection(x_MD.shape[1])

    def said(
        self, rows: Rows, train: Rows, targets: Targets, upto_N: np.ndarray, known_K: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """said_NEK float32, as `mixture.to_logs` has it, and the labelled rows' embeddings [T, 2, U].

        Row n is asked after the first `upto_N[n]` labels. `train` may be `rows` itself.
        """
        embedding_BNU, out_BNK = self._slow(rows)
        embedding_BTU = embedding_BNU if train is rows else self._slow(train)[0]
        outputs = len(known_K)
        said_NEK = np.zeros((len(rows), count(self._aim, len(embedding_BNU), self._widening.has_pairs), outputs), np.float32)
        bodies = len(out_BNK)
        _answers(self._aim, out_BNK, known_K, said_NEK)
        first = self._ask_neighbours(rows, train, targets, upto_N, embedding_BNU, embedding_BTU, said_NEK, bodies)
        first = self._ask_heads(rows, train, targets, upto_N, known_K, embedding_BNU, embedding_BTU, said_NEK, first)
        p = self.parts
        recency.recent_labels(
            self._aim, targets.code_T, targets.value_T, upto_N, recency.KEPT_J, p["recency.sums"], p["recency.weights"],
            p["recency.last"], p["recency.follows"], said_NEK, first,
        )  # fmt: skip
        first += recency.EXPERTS
        if self._aim != SCORES:
            forest.said(
                p, self._aim, self.views.code_edges_DB, rows.x_ND, train.x_ND, self.memory, targets, upto_N, said_NEK, first
            )
            first += forest.EXPERTS
            analytic.predict(p, self._aim, self.analytic_features(rows), said_NEK, first)
        mixture.to_logs(self._aim, said_NEK)
        return said_NEK, np.ascontiguousarray(embedding_BTU[:EMBEDDED].transpose(1, 0, 2))

    def analytic_features(self, rows: Rows) -> np.ndarray:
        return analytic.features(rows.z_ND, self._projection)

    def _slow(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings [B, N, U] and outputs [B, N, K] of all networks."""
        found = []
        for stack in self._stacks:
            if stack.name != "hats":
                x_NW = rows.z_ND
            elif rows.at_NA is None or rows.hat_NA is None:
                x_NW = np.zeros((len(rows), stack.inputs), np.float32)
            else:
                x_NW = quantiles.dense(rows.at_NA, rows.hat_NA, stack.inputs)
            found.append(self._bodies.forward(stack.name, x_NW))
        return np.concatenate([e for e, _ in found]), np.concatenate([o for _, o in found])

    def _ask_neighbours(
        self,
        test: Rows,
        train: Rows,
        targets: Targets,
        upto_N: np.ndarray,
        embedding_BNU: np.ndarray,
        embedding_BTU: np.ndarray,
        said_NEK: np.ndarray,
        first: int,
    ) -> int:
        embedded_MBU = self.parts["memory.embedding"]
        searches = [
            (test.z_ND, self._z_MD, train.z_ND, _WINDOWS_W, _VOTES_V),
            (test.raw_ND, self._raw_MD, train.raw_ND, _WINDOWS_W[:-1], _VOTES_V),
        ]
        for b in range(EMBEDDED):
            searches.append((embedding_BNU[b], embedded_MBU[:, b], embedding_BTU[b], _EMBEDDED_WINDOWS_W, _EMBEDDED_VOTES_V))
        for x_NV, m_MV, x_TV, windows_W, votes_V in searches:
            m_MV = m_MV[-windows_W[-1] :]
            found_NWS = np.empty((len(test), len(windows_W), votes_V[-1]), np.int32)
            neighbours.search(neighbours.near(x_NV, m_MV), neighbours.near(x_NV, x_TV), upto_N, windows_W, found_NWS)
            self._vote(found_NWS, targets, len(m_MV), votes_V, said_NEK, first)
            first += len(windows_W) * len(votes_V)
        return first

    def _vote(
        self, found_NWS: np.ndarray, targets: Targets, remembered: int, votes_V: np.ndarray, said_NEK: np.ndarray, first: int
    ) -> None:
        from_M = len(self.memory) - remembered
        if self._aim in (SQUARED, ABSOLUTE):
            value_L = np.concatenate([self.memory.value_T[from_M:], targets.value_T])
            neighbours.value_means(found_NWS, value_L, votes_V, said_NEK, first)
            return
        code_L = np.concatenate([self.memory.code_T[from_M:], targets.code_T])
        if self._aim == CLASSES:
            neighbours.class_votes(found_NWS, code_L, votes_V, said_NEK, first)
            return
        value_L = np.concatenate([self.memory.value_T[from_M:], targets.value_T])
        neighbours.score_means(found_NWS, code_L, value_L, votes_V, said_NEK, first)

    def _ask_heads(
        self,
        test: Rows,
        train: Rows,
        targets: Targets,
        upto_N: np.ndarray,
        known_K: np.ndarray,
        embedding_BNU: np.ndarray,
        embedding_BTU: np.ndarray,
        said_NEK: np.ndarray,
        first: int,
    ) -> int:
        p, labels = self.parts, (targets.code_T, targets.value_T, targets.weight_T)
        for b in range(len(embedding_BNU)):
            x_NF = _with_one(embedding_BNU[b])
            x_TF = x_NF if train is test else _with_one(embedding_BTU[b])
            learned = p[f"heads.{b}.weights"], p[f"heads.{b}.squares"], heads.STEPS_H4
            heads.dense_heads(self._aim, x_NF, x_TF, *labels, upto_N, known_K, *learned, said_NEK, first)
            first += len(heads.STEPS_H4)
        learned = p["heads.values.weights"], p["heads.values.squares"], heads.VALUE_STEPS_H4
        seen = _both(self._values, test, train)
        heads.sparse_heads(self._aim, *seen, *labels, upto_N, known_K, *learned, said_NEK, first)
        first += len(heads.VALUE_STEPS_H4)
        if self.views.hat_edges_DB is not None:
            learned = p["heads.hats.weights"], p["heads.hats.squares"], heads.STEPS_H4
            seen = _both(self._hats, test, train)
            heads.sparse_heads(self._aim, *seen, *labels, upto_N, known_K, *learned, said_NEK, first)
        first += len(heads.STEPS_H4)
        if self._widening.has_pairs:
            paired = _both(self._paired, test, train)
            vectors, squares = p["pairs.vectors"], p["pairs.squares"]
            pairs.pairs(self._aim, *paired, *labels[:2], upto_N, pairs.RATES_P, vectors, squares, said_NEK, first)
            first += pairs.EXPERTS
        return first

    def _values(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """What rows were given as: where a linear head has the weights of each number and id, and what it is."""
        x_NF = _with_one(rows.z_ND[:, : self._widening.given])
        return self._and_ids(np.tile(np.arange(x_NF.shape[1], dtype=np.int32), (len(x_NF), 1)), x_NF, x_NF.shape[1], rows)

    def _hats(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """The same of the quantile hats of all that is known about them."""
        assert rows.at_NA is not None and rows.hat_NA is not None
        return self._and_ids(rows.at_NA, rows.hat_NA, rows.x_ND.shape[1] * quantiles.HATS, rows)

    def _and_ids(self, at_NA: np.ndarray, x_NA: np.ndarray, first: int, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """And an input of 1 for every id, whose weights are those from `first` on."""
        if not rows.id_NC.shape[1]:
            return at_NA, x_NA
        place_NC = first + places(rows.id_NC, self._widening.id_rows)
        return (
            np.concatenate([at_NA, place_NC], axis=1, dtype=np.int32),
            np.concatenate([x_NA, np.ones(rows.id_NC.shape, np.float32)], axis=1),
        )

    def _paired(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """What a factorization machine sees of rows: the places of the ids, and the numbers."""
        numbers = self._widening.pair_numbers
        return places(rows.id_NC, self._widening.pair_rows - numbers), np.ascontiguousarray(rows.z_ND[:, :numbers])


@compiled
def _answers(aim: int, out_BNK: np.ndarray, known_K: np.ndarray, said_NEK: np.ndarray) -> None:
    for b in range(out_BNK.shape[0]):
        for n in range(out_BNK.shape[1]):
            answer(aim, out_BNK[b, n], known_K, said_NEK[n, b])


def _both(
    view: Callable[[Rows], tuple[np.ndarray, np.ndarray]], test: Rows, train: Rows
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of rows to predict, then of labelled ones, which may be the same."""
    seen = view(test)
    return *seen, *(seen if train is test else view(train))


def _with_one(x_NV: np.ndarray) -> np.ndarray:
    return np.concatenate([x_NV, np.ones((len(x_NV), 1), np.float32)], axis=1)
