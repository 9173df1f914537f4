"""Ids as numbers: what the labels of a category's earlier rows say, beside what all labels say.

Weight of evidence (Good, "Probability and the Weighing of Evidence", 1950): the log odds of the label where this value came,
less the log odds of all. It is taken from the labels that were there when the row came, never its own (ordered target
statistics: Prokhorenkova et al., "CatBoost", NeurIPS 2018, section 3.2), shrunk to 0 where a value has come seldom
(Micci-Barreca, "A Preprocessing Scheme for High-Cardinality Categorical Attributes", SIGKDD Explorations 2001), and fades with
the value's own rows. Of classes it is told of the four lowest bits of their codes, so that it takes four numbers whatever
classes appear; of values it is the shrunk mean, less that of all. Beside it stand signs, bits of the id itself, by which values
of equal evidence are told apart: what two categories mean together shows in neither alone.

Shapes: N rows to predict, T labelled rows, D encoded dimensions, C ids of a row, B buckets, R numbers of evidence of an id, V =
C * R, S signs, W wide dimensions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from actors.learning.inputs import InputLayout
from actors.learning.models.ensemble.compiled import compiled
from actors.learning.models.ensemble.pairs import MOST_IDS, MOST_NUMBERS
from actors.learning.models.ensemble.targets import CLASSES, SCORES, Targets
from actors.learning.running_stats import RunningStats

BITS = 4
_SIGNS, _ALL_SIGNS = (4, 12), 96  # of an id, at least and at most; of a row
_BUCKETS, _ALL_BUCKETS = 1 << 12, 1 << 17  # of an id, at most; of a row
_HEAD_ROWS, _PAIR_ROWS = 1 << 11, 1 << 13  # for all ids of a row
_KEPT, _ALL_KEPT, _PRIOR_ROWS = np.float32(0.98), np.float32(0.999), np.float32(3)
_LEAST, _MOST = np.float32(1e-3), 3.0


@compiled
def _bit(aim: int, code: int, value: float, r: int) -> Any:
    """The label's part of number r: a bit of its code, turned round as far as its score is low; or the value."""
    if aim != CLASSES and aim != SCORES:
        return min(max(np.float32(value), np.float32(-3)), np.float32(3))
    bit = np.float32((code >> r) & 1)
    if aim == SCORES and value == value:
        return bit * np.float32(value) + (1 - bit) * (1 - np.float32(value))
    return bit


@compiled
def _weight(kept: Any, rows: int) -> Any:
    """Of so many rows, each of which left the earlier ones `kept` of what they weighed."""
    return np.float32((1 - kept**rows) / (1 - kept))


@compiled
def _weigh(
    aim: int, id_C: np.ndarray, sums_CBR: np.ndarray, counts_CB: np.ndarray, all_R: np.ndarray, rows: int, told_V: np.ndarray
) -> None:
    columns, buckets, numbers = sums_CBR.shape
    for c in range(columns):
        b = id_C[c] % buckets
        weight = _weight(_KEPT, counts_CB[c, b]) + _PRIOR_ROWS
        for r in range(numbers):
            usual = all_R[r] / max(_weight(_ALL_KEPT, rows), np.float32(1))
            here = (sums_CBR[c, b, r] + _PRIOR_ROWS * usual) / weight
            told = np.float32(0)
            if aim != CLASSES and aim != SCORES:
                told = here - usual
            elif _LEAST < usual < 1 - _LEAST:  # a bit that no class has tells nothing
                told = np.log(here / (1 - here)) - np.log(usual / (1 - usual))
            told_V[c * numbers + r] = told


@compiled
def weigh(
    aim: int,
    id_NC: np.ndarray,
    id_TC: np.ndarray,
    code_T: np.ndarray,
    value_T: np.ndarray,
    upto_N: np.ndarray,
    sums_CBR: np.ndarray,
    counts_CB: np.ndarray,
    all_R: np.ndarray,
    rows_1: np.ndarray,
    told_NV: np.ndarray,
    told_TV: np.ndarray,
) -> None:
    """Fills told_NV after the first `upto_N[n]` labels, and told_TV before each row's own. Changes the sums in place."""
    rows, (columns, buckets, numbers) = len(id_NC), sums_CBR.shape
    t = 0
    for n in range(rows + 1):
        while t < (upto_N[n] if n < rows else len(code_T)):
            _weigh(aim, id_TC[t], sums_CBR, counts_CB, all_R, rows_1[0], told_TV[t])
            for r in range(numbers):
                bit = _bit(aim, code_T[t], value_T[t], r)
                all_R[r] = _ALL_KEPT * all_R[r] + bit
                for c in range(columns):
                    b = id_TC[t, c] % buckets
                    sums_CBR[c, b, r] = _KEPT * sums_CBR[c, b, r] + bit
            rows_1[0] += 1
            for c in range(columns):
                counts_CB[c, id_TC[t, c] % buckets] += 1
            t += 1
        if n < rows:
            _weigh(aim, id_NC[n], sums_CBR, counts_CB, all_R, rows_1[0], told_NV[n])


def joined(
    parts: Mapping[str, np.ndarray], base: Mapping[str, np.ndarray], change: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """What `change` has learned since `base`, after what `parts` holds."""
    if "evidence.sums" not in parts or not base:
        return {}
    counts, rows = (change[name] - base[name] for name in ("evidence.counts", "evidence.rows"))
    found = {"evidence.counts": parts["evidence.counts"] + counts, "evidence.rows": parts["evidence.rows"] + rows}
    for name, kept in (("evidence.sums", _KEPT ** counts[:, :, None]), ("evidence.all", _ALL_KEPT**rows)):
        found[name] = ((parts[name] - base[name]) * kept + change[name]).astype(np.float32)
    return found


@dataclass(frozen=True)
class Widening:
    """From encoded rows to wide ones: what is no id as it is, then the evidence of each id, then its signs."""

    layout: InputLayout
    aim: int

    @cached_property
    def columns(self) -> int:
        return len(self.layout.category_C)

    @cached_property
    def numbers(self) -> int:
        """Of evidence for each id."""
        return BITS if self.aim in (CLASSES, SCORES) else 1

    @cached_property
    def signs(self) -> int:
        """Of each id: the more, the fewer ids look alike."""
        least, most = _SIGNS
        return max(least, min(most, _ALL_SIGNS // max(self.columns, 1)))

    @cached_property
    def width(self) -> int:
        return self.given + self.columns * (self.numbers + self.signs)

    @cached_property
    def given(self) -> int:
        """How many numbers a row was given with: the first ones of a wide row."""
        return len(self.layout.other_D)

    @cached_property
    def id_rows(self) -> int:
        """What a linear head has for ids: for each a power of two."""
        return self.columns * self._shared(_HEAD_ROWS)

    @cached_property
    def pair_rows(self) -> int:
        """Of a factorization machine's table: those of the ids, then one for each number; 0 where it is not asked."""
        return self.columns * self._shared(_PAIR_ROWS) + self.pair_numbers if self.has_pairs else 0

    @cached_property
    def pair_numbers(self) -> int:
        """How many of the first inputs it looks at."""
        return self.given if self.given <= MOST_NUMBERS else 0

    @cached_property
    def has_pairs(self) -> bool:
        return 0 < self.columns <= MOST_IDS and self.aim != SCORES

    def _shared(self, rows: int) -> int:
        """What each id has of so many: a power of two."""
        return 1 << int(np.log2(max(rows // max(self.columns, 1), 1)))

    def empty(self) -> dict[str, np.ndarray]:
        """What is known before the first label."""
        buckets = min(_BUCKETS, self._shared(_ALL_BUCKETS))
        return {
            "evidence.sums": np.zeros((self.columns, buckets, self.numbers), np.float32),
            "evidence.counts": np.zeros((self.columns, buckets), np.int64),
            "evidence.all": np.zeros(self.numbers, np.float32),
            "evidence.rows": np.zeros(1, np.int64),
        }

    def edges(self, edges_WB: np.ndarray) -> np.ndarray:
        """Quantiles of the first rows; but even ones of evidence, which grows as labels come. In place."""
        edges_WB[self.given :] = np.linspace(-_MOST, _MOST, edges_WB.shape[1], dtype=np.float32)
        return edges_WB

    def statistics(self, stats: RunningStats) -> RunningStats:
        """Those of wide rows: evidence and signs stay as they are where they are standardised."""
        kept, more = self.layout.other_D, self.width - self.given
        one, zero = np.ones(more), np.zeros(more)
        return RunningStats(
            np.append(stats.count_D[kept], one), np.append(stats.mean_D[kept], zero), np.append(stats.m2_D[kept], one)
        )

    def widened(
        self, parts: Mapping[str, np.ndarray], test_ND: np.ndarray, train_ND: np.ndarray, targets: Targets, upto_N: np.ndarray
    ) -> tuple["Wide", "Wide"]:
        """Row n to predict after the first `upto_N[n]` labels, a labelled one before its own. In place in `parts`."""
        id_NC, id_TC = self._ids(test_ND), self._ids(train_ND)
        told_NV, told_TV = (np.zeros((len(id_NC), self.columns * self.numbers), np.float32) for id_NC in (id_NC, id_TC))
        if self.columns:
            weigh(
                self.aim, id_NC, id_TC, targets.code_T, targets.value_T, upto_N, parts["evidence.sums"],
                parts["evidence.counts"], parts["evidence.all"], parts["evidence.rows"], told_NV, told_TV,
            )  # fmt: skip
        test = self._joined(test_ND, id_NC, told_NV)
        return test, test if train_ND is test_ND else self._joined(train_ND, id_TC, told_TV)

    def _ids(self, x_ND: np.ndarray) -> np.ndarray:
        """int64 [N, C], 0 where an id is missing."""
        id_NC: np.ndarray = np.nan_to_num(x_ND[:, self.layout.category_C], nan=0.0).astype(np.int64)
        return id_NC

    def _joined(self, x_ND: np.ndarray, id_NC: np.ndarray, told_NV: np.ndarray) -> "Wide":
        other_ND = x_ND[:, self.layout.other_D].astype(np.float32, copy=False)
        if not self.columns:
            return Wide(other_ND, id_NC)
        return Wide(np.concatenate([other_ND, told_NV, _signs(id_NC, self.signs)], axis=1), id_NC)


class Wide(NamedTuple):
    """x_NW float32, and the ids, int64 [N, C]."""

    x_NW: np.ndarray
    id_NC: np.ndarray


def places(id_NC: np.ndarray, rows: int) -> np.ndarray:
    """int64 [N, C]: the row of each id in a table of `rows` that the columns share evenly."""
    each = rows // max(id_NC.shape[1], 1)
    place_NC: np.ndarray = np.arange(id_NC.shape[1]) * each + id_NC % max(each, 1)
    return place_NC


def _signs(id_NC: np.ndarray, signs: int) -> np.ndarray:
    """float32 [N, C * signs], 1/2 or -1/2 by bits of the id; 0 where it is missing."""
    sign_NCS = np.where(id_NC[:, :, None] > 0, ((id_NC[:, :, None] >> np.arange(signs)) & 1) - 0.5, 0.0)
    return sign_NCS.reshape(len(id_NC), id_NC.shape[1] * signs).astype(np.float32)
