"""How the loops that go row by row are compiled: by numba, once on each machine.

What was compiled lies beside the source, or in the user's cache where that cannot be written (`NUMBA_CACHE_DIR` names another
place), and is read from there by every later process. NaN and infinity keep their meaning.
"""

from collections.abc import Callable
from typing import TypeVar

from numba import njit

Loop = TypeVar("Loop", bound=Callable[..., object])

_FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}  # sums in any order, so that they become vector instructions


def compiled(loop: Loop) -> Loop:
    """A loop over arrays without Python objects, which lets other threads run meanwhile."""
    made: Loop = njit(cache=True, fastmath=_FAST, nogil=True, error_model="numpy")(loop)
    return made
