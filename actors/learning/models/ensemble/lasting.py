"""A small memory of all classes that there ever were, as evenly as they came: what the mixture rehearses on.

Class-balancing reservoir sampling (Chrysakis and Moens, "Online Continual Learning from Imbalanced Data", ICML 2020, algorithm
1): a row of a class that does not fill the memory takes the place of one of the class that holds most; within that class, every
row that came has the same chance to be held. It is part of the version, alike on every shard.

Shapes: N rows, L rows held, D features, K classes.
"""

from collections.abc import Mapping

import numpy as np

from actors.learning.models.ensemble.compiled import compiled

ROWS = 256


@compiled
def _places(
    code_N: np.ndarray,
    held_L: np.ndarray,
    seen_K: np.ndarray,
    held: int,
    draw_N2: np.ndarray,
    place_N: np.ndarray,
) -> int:
    """Where each row goes, -1: nowhere; by two draws from [0, 1). Changes held_L (codes), seen_K; returns how many are held."""
    held_K = np.zeros(len(seen_K), np.int64)
    for at in range(held):
        held_K[held_L[at]] += 1
    for n in range(len(code_N)):
        code = code_N[n]
        seen_K[code] += 1
        place_N[n] = -1
        if held < len(held_L):
            place_N[n] = held
            held += 1
        else:
            most = np.argmax(held_K)
            giving = code if held_K[code] == held_K[most] else most
            if giving == code and draw_N2[n, 0] >= held_K[code] / seen_K[code]:
                continue
            nth = int(draw_N2[n, 1] * held_K[giving])
            for at in range(held):
                if held_L[at] == giving:
                    if nth == 0:
                        place_N[n] = at
                        break
                    nth -= 1
            held_K[giving] -= 1
        held_L[place_N[n]] = code
        held_K[code] += 1
    return held


def add(parts: dict[str, np.ndarray], x_ND: np.ndarray, code_N: np.ndarray, rows: int, rng: np.random.Generator) -> None:
    """Offers the rows to a memory of at most `rows`; in place in `parts`."""
    held, outputs = len(parts["lasting.code"]), len(parts["lasting.seen"])
    code_L, place_N = np.full(rows, -1, np.int64), np.empty(len(code_N), np.int64)
    code_L[:held] = parts["lasting.code"]
    seen_K = parts["lasting.seen"].copy()
    assert outputs > int(code_N.max(initial=-1))
    now = _places(code_N, code_L, seen_K, held, rng.random((len(code_N), 2)), place_N)
    x_LD = np.zeros((now, x_ND.shape[1]), np.float32)
    x_LD[:held] = parts["lasting.x"]
    kept_N = place_N >= 0
    x_LD[place_N[kept_N]] = x_ND[kept_N]  # where a place is named twice numpy keeps the last, as one by one would
    parts["lasting.x"], parts["lasting.code"], parts["lasting.seen"] = x_LD, code_L[:now], seen_K


def sample(parts: Mapping[str, np.ndarray], rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """At most `rows` different ones: float32 [N, D], and their codes."""
    held = len(parts["lasting.code"])
    at_N = rng.permutation(held)[:rows]
    return parts["lasting.x"][at_N], parts["lasting.code"][at_N]
