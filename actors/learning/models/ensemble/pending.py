"""What is said of labelled rows: when they were predicted, and when their labels come.

What was said is kept until the label comes, for nobody is judged by what he would say afterwards.

Shapes: N rows to predict, T labelled rows, A rows that are asked about, P rows that wait, E experts, V readings, Y mixtures of
each, K outputs.
"""

import math
from dataclasses import dataclass

import numpy as np

from actors.learning.learner import LocalRound
from actors.learning.models.ensemble import mixture
from actors.learning.models.ensemble.experts import Rows
from actors.learning.models.ensemble.parts import PENDING_BYTES, Parts


def are_late(work: LocalRound, age_T: np.ndarray) -> bool:
    """Whether any label of the round comes after other rows than its own have been predicted, or in another round."""
    return bool(age_T.any()) or bool((_places(work.train_row_N, work.test_row_N) < 0).any())


@dataclass(frozen=True, slots=True)
class Asked:
    """Rows to predict, and labelled ones as their labels come: row a after the first `upto_A[a]` labels, which ascend.

    `test_N` and `train_T`: where they are.
    """

    rows: Rows
    upto_A: np.ndarray
    test_N: np.ndarray
    train_T: np.ndarray


def asked(test: Rows, train: Rows, upto_N: np.ndarray) -> Asked:
    """Labels of `train` are learned in their order."""
    upto_A = np.concatenate([upto_N, np.arange(len(train))])
    order_A = np.argsort(upto_A, kind="stable")
    place_A = np.argsort(order_A, kind="stable")
    return Asked(test.joined(train).at(order_A), upto_A[order_A], place_A[: len(test)], place_A[len(test) :])


@dataclass(frozen=True, slots=True)
class SaidOfLabelled:
    """What is said of T labelled rows: by the experts when they were predicted, and anew, as logs; by the mixtures, then.

    `at_T`: which of the rows to predict a labelled one is, -1 for none of them; then what the mixtures say is still to come.
    `is_judged_T`: of which rows it is known what was said. `age_T`: rows that were predicted before its label counted.
    """

    said_TEK: np.ndarray
    anew_TEK: np.ndarray
    mixed_TVYK: np.ndarray
    is_judged_T: np.ndarray
    at_T: np.ndarray
    age_T: np.ndarray


def nothing_said(said_NEK: np.ndarray) -> SaidOfLabelled:
    """Of no rows: for who only answers."""
    none, none_EK = np.zeros(0, np.int64), np.zeros((0, *said_NEK.shape[1:]), np.float32)
    none_VYK = np.zeros((0, mixture.READINGS, mixture.MIXTURES + 1, said_NEK.shape[2]), np.float32)
    return SaidOfLabelled(none_EK, none_EK, none_VYK, none > 0, none, none.astype(np.float32))


def said_of_labelled(
    parts: Parts, said_NEK: np.ndarray, anew_TEK: np.ndarray | None, age_T: np.ndarray, work: LocalRound
) -> SaidOfLabelled:
    """`said_NEK`: what the experts say of the round's rows to predict; `anew_TEK`: None where nobody was asked anew."""
    row_T, row_N, waiting_P, mixed_PVYK = work.train_row_N, work.test_row_N, parts["pending.row"], parts["pending.mixed"]
    mixed_TVYK = np.zeros((len(row_T), *mixed_PVYK.shape[1:]), np.float32)
    if len(row_T) == len(row_N) and (row_T == row_N).all():
        anew_TEK = said_NEK if anew_TEK is None else anew_TEK
        return SaidOfLabelled(said_NEK, anew_TEK, mixed_TVYK, np.ones(len(row_T), bool), np.arange(len(row_T)), age_T)
    said_TEK = np.zeros((len(row_T), *said_NEK.shape[1:]), np.float32)
    at_T, waits_T = _places(row_T, row_N), _places(row_T, waiting_P)
    said_TEK[waits_T >= 0] = parts["pending.said"][waits_T[waits_T >= 0]]
    mixed_TVYK[waits_T >= 0] = mixed_PVYK[waits_T[waits_T >= 0]]
    said_TEK[at_T >= 0] = said_NEK[at_T[at_T >= 0]]
    anew_TEK = said_TEK if anew_TEK is None else anew_TEK
    return SaidOfLabelled(said_TEK, anew_TEK, mixed_TVYK, (at_T >= 0) | (waits_T >= 0), at_T, age_T)


def keep(parts: Parts, said_NEK: np.ndarray, mixed_NVYK: np.ndarray, work: LocalRound) -> None:
    """What was said of rows whose labels are to come; of every n-th, where all would be too much.

    One reading stands for all where they are alike.
    """
    row_N = work.test_row_N
    if len(work.train_row_N) == len(row_N) and (work.train_row_N == row_N).all():
        return
    mixed_PVYK = parts["pending.mixed"]
    mixed_NVYK = np.broadcast_to(mixed_NVYK, (len(row_N), *mixed_PVYK.shape[1:]))
    row_bytes = 2 * (math.prod(said_NEK.shape[1:]) + math.prod(mixed_NVYK.shape[1:]))
    stride = -(-(work.label_delay_rows + len(row_N)) * row_bytes // PENDING_BYTES)
    waiting_P, last = parts["pending.row"], work.train_row_N[-1]
    still_P = waiting_P > last
    kept_N = (row_N > last) & (row_N % stride == 0)
    parts["pending.row"] = np.concatenate([waiting_P[still_P], row_N[kept_N]])
    for name, said in (("pending.said", said_NEK), ("pending.mixed", mixed_NVYK)):
        parts[name] = np.concatenate([parts[name][still_P], said[kept_N].astype(np.float16)])


def _places(row_T: np.ndarray, known_row: np.ndarray) -> np.ndarray:
    """Where each row is among the known ones, which ascend; -1 where it is not."""
    if not len(known_row):
        return np.full(len(row_T), -1)
    at_T = np.minimum(np.searchsorted(known_row, row_T), len(known_row) - 1)
    return np.where(known_row[at_T] == row_T, at_T, -1)


def schedule(test_row_N: np.ndarray, train_row_N: np.ndarray, delay: int) -> tuple[np.ndarray, np.ndarray]:
    """upto_N: labelled rows visible when row n is predicted; age_T: rows predicted between row t and the learning of it.

    A label is visible once a row that lies `delay` rows later has been predicted; at the end of the round all are.
    """
    before_N = np.concatenate([[np.iinfo(np.int64).min], test_row_N[:-1]]) if len(test_row_N) else test_row_N
    upto_N = np.searchsorted(train_row_N, before_N - delay if len(before_N) else before_N, side="right")
    upto_N[:1] = 0
    learned_at_T = np.searchsorted(upto_N, np.arange(1, len(train_row_N) + 1), side="left")  # before which test row
    last_N = np.append(before_N, test_row_N[-1:]) if len(test_row_N) else np.zeros(1, np.int64)
    age_T = np.maximum(last_N[np.minimum(learned_at_T, len(last_N) - 1)] - train_row_N, 0)
    return upto_N.astype(np.int64), age_T.astype(np.float32)
