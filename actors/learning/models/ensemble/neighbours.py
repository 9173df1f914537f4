"""Nearest-neighbour experts over the latest labelled rows: several windows, several numbers of neighbours.

What the windows are matters more than how many neighbours vote: after a change the short ones are right at once, in a calm
stream the long ones are (as SAM-kNN's two memories: Losing, Hammer, Wersing, "KNN Classifier with Self Adjusting Memory for
Heterogeneous Concept Drift", ICDM 2016). A block's distances to the memory are one matrix product; the rows of the block itself
join one after another, as their labels become visible.

Shapes: N rows to predict, T labelled rows of the block, M rows of memory, W windows, S neighbours, E experts, K outputs.
"""

import numpy as np

from actors.learning.models.ensemble.compiled import compiled

NEIGHBOURS = 15


def near(x_ND: np.ndarray, m_MD: np.ndarray) -> np.ndarray:
    """float32 [N, M]: squared distance less the square of x itself, which is all that the order of the neighbours needs."""
    left_ND = np.concatenate([-2.0 * x_ND, np.ones((len(x_ND), 1), x_ND.dtype)], axis=1)
    right_MD = np.concatenate([m_MD, np.square(m_MD).sum(axis=1, keepdims=True)], axis=1)
    return np.ascontiguousarray(left_ND @ right_MD.T)


@compiled
def search(near_NM: np.ndarray, near_NT: np.ndarray, upto_N: np.ndarray, windows_W: np.ndarray, found_NWS: np.ndarray) -> None:
    """The nearest of the last `windows_W` rows each, windows ascending: places in memory, then the block's rows; -1: none.

    Row n looks at the memory and at the first `upto_N[n]` rows of the block. Of equals, the latest comes first.
    """
    rows, remembered = near_NM.shape
    windows, neighbours = len(windows_W), found_NWS.shape[2]
    distance_S = np.empty(neighbours, np.float32)
    place_S = np.empty(neighbours, np.int64)
    for n in range(rows):
        held, at = 0, 0
        farthest = np.float32(np.inf)
        seen = upto_N[n]
        for w in range(windows):
            stop = min(windows_W[w], remembered + seen)
            while at < stop:
                if at < seen:
                    place = remembered + seen - 1 - at
                    distance = near_NT[n, seen - 1 - at]
                else:
                    place = remembered - 1 - (at - seen)
                    distance = near_NM[n, place]
                if distance < farthest:
                    if held < neighbours:
                        held += 1
                    s = held - 1
                    while s > 0 and distance_S[s - 1] > distance:
                        distance_S[s], place_S[s] = distance_S[s - 1], place_S[s - 1]
                        s -= 1
                    distance_S[s], place_S[s] = distance, place
                    if held == neighbours:
                        farthest = distance_S[held - 1]
                at += 1
            for s in range(neighbours):
                found_NWS[n, w, s] = place_S[s] if s < held else -1


@compiled
def class_votes(found_NWS: np.ndarray, code_L: np.ndarray, votes_V: np.ndarray, said_NEK: np.ndarray, first: int) -> None:
    """Writes the share of each class among the nearest `votes_V[v]` of window w as expert `first + w * V + v`."""
    rows, windows, _ = found_NWS.shape
    for n in range(rows):
        for w in range(windows):
            for v in range(len(votes_V)):
                said_K = said_NEK[n, first + w * len(votes_V) + v]
                said_K[:] = np.float32(0)
                for s in range(votes_V[v]):
                    place = found_NWS[n, w, s]
                    if place < 0:
                        break
                    said_K[code_L[place]] += np.float32(1)


@compiled
def value_means(found_NWS: np.ndarray, value_L: np.ndarray, votes_V: np.ndarray, said_NEK: np.ndarray, first: int) -> None:
    """The neighbours' mean value, 0 without any."""
    rows, windows, _ = found_NWS.shape
    for n in range(rows):
        for w in range(windows):
            total, counted = np.float32(0), 0
            v = 0
            for s in range(found_NWS.shape[2]):
                place = found_NWS[n, w, s]
                if place >= 0:
                    total += value_L[place]
                    counted += 1
                while v < len(votes_V) and votes_V[v] == s + 1:
                    said_NEK[n, first + w * len(votes_V) + v, 0] = total / max(counted, 1)
                    v += 1


@compiled
def score_means(
    found_NWS: np.ndarray,
    code_L: np.ndarray,
    value_L: np.ndarray,
    votes_V: np.ndarray,
    said_NEK: np.ndarray,
    first: int,
) -> None:
    """The mean score that each answer got among the neighbours, beside one imagined neighbour at a half."""
    rows, windows, _ = found_NWS.shape
    answers = said_NEK.shape[2]
    counted_K = np.empty(answers, np.float32)
    for n in range(rows):
        for w in range(windows):
            for v in range(len(votes_V)):
                said_K = said_NEK[n, first + w * len(votes_V) + v]
                said_K[:] = np.float32(0.5)
                counted_K[:] = np.float32(1)
                for s in range(votes_V[v]):
                    place = found_NWS[n, w, s]
                    if place < 0:
                        break
                    code, value = code_L[place], value_L[place]
                    if value != value:
                        for k in range(answers):
                            said_K[k] += np.float32(1) if k == code else np.float32(0)
                            counted_K[k] += np.float32(1)
                    else:
                        said_K[code] += value
                        counted_K[code] += np.float32(1)
                for k in range(answers):
                    said_K[k] /= counted_K[k]
