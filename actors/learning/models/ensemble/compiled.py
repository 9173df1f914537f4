"""How the loops that go row by row are compiled: by numba, once on each machine.

What was compiled lies beside the source, or in the user's cache where that cannot be written (`NUMBA_CACHE_DIR` names another
place), and is read from there by every later process. NaN and infinity keep their meaning.
`python -m actors.learning.models.ensemble.compiled` compiles all of them.
"""

from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
from numba import njit

Loop = TypeVar("Loop", bound=Callable[..., object])

_FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}  # sums in any order, so that they become vector instructions


def compiled(loop: Loop) -> Loop:
    """A loop over arrays without Python objects, which lets other threads run meanwhile."""
    return cast(Loop, njit(cache=True, fastmath=_FAST, nogil=True, error_model="numpy")(loop))


def _compile_all() -> None:
    """Runs every loop once, for each kind of task; what has been compiled before is only read."""
    from actors.learning.inputs import InputKind, InputLayout
    from actors.learning.labels import label_dtype
    from actors.learning.learner import LocalRound
    from actors.learning.models.config import ModelConfig
    from actors.learning.models.ensemble.ensemble import EnsembleLearner
    from actors.learning.task import TaskConfig, TaskKind

    row_N = np.arange(256)
    x_ND = np.stack([np.sin(row_N), np.cos(row_N), row_N % 7], axis=1).astype(np.float32)
    inputs = InputLayout((InputKind.NUMBER, InputKind.NUMBER, InputKind.CATEGORY))
    for kind in TaskKind:
        task = TaskConfig(kind=kind, classes=["a", "b"] if kind is TaskKind.FEEDBACK else "auto")
        y_N = np.zeros(256, label_dtype(kind))
        y_N[::2] = 1
        learner = EnsembleLearner(ModelConfig(), task, inputs, seed=0)
        learner.round(LocalRound(row_N, x_ND, row_N, x_ND, y_N, ((0, 256),), ((0, 256),), 0))


if __name__ == "__main__":
    _compile_all()
