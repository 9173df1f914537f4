"""Random numbers that belong to a thing: the price level of merchant 17, the quality of item 4,031.

They depend on the seed, on what is drawn and on whose it is, and on nothing else, so that a row far down the stream costs
no more than the first. Steele, Lea and Flood (2014), "Fast splittable pseudorandom number generators": the mixing function.
"""

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def even(seed: int, what: int, *whose: np.ndarray | int) -> np.ndarray:
    """Even in [0, 1), float64, in the shape to which the integers `whose` broadcast."""
    with np.errstate(over="ignore"):
        bits = _mixed(np.asarray(np.uint64(seed) * _GOLDEN + np.uint64(what)))
        for number in whose:
            bits = _mixed(bits + _GOLDEN * np.asarray(number).astype(np.uint64))
    return np.asarray((bits >> np.uint64(11)).astype(np.float64) / 2.0**53)


def normal(seed: int, what: int, *whose: np.ndarray | int) -> np.ndarray:
    """Standard normal (Box and Muller 1958)."""
    radius = np.sqrt(-2.0 * np.log1p(-even(seed, what + 1000, *whose)))
    return np.asarray(radius * np.cos(2.0 * np.pi * even(seed, what + 2000, *whose)))


def _mixed(bits: np.ndarray) -> np.ndarray:
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(bits ^ (bits >> np.uint64(31)))
