"""What a drift detector watches, and which way it has to move to count."""

from enum import StrEnum


class Signal(StrEnum):
    """The evaluator feeds both, row by row, with values from 0 to 1.

    ERROR: classification 0 (right) or 1 (wrong); regression the scaled absolute error (`error_scale.py`).
    SCORE: one minus the error.
    """

    ERROR = "error"
    SCORE = "score"


class Direction(StrEnum):
    """UP alarms only when the signal's mean rises (an error that rises: a model that got worse), DOWN when it falls."""

    BOTH = "both"
    UP = "up"
    DOWN = "down"
