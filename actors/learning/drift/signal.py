"""What a drift detector watches, and which way it has to move to count."""

from enum import StrEnum


class Signal(StrEnum):
    """The first four are one number a row, from 0 to 1, fed in row order (`signals.py`); INPUTS are the encoded features.

    ERROR: classification 0 (right) or 1 (wrong); regression the scaled absolute error (`error_scale.py`).
    SCORE: one minus the error.
    LOSS: the log loss of the true class, cut at 5 and divided by it; regression the scaled squared error.
    PREDICTIONS: how unsure the answer is, one minus its probability; regression where the estimate lies among the first ones.
    It needs no label, and neither do INPUTS: they are all there is to see while labels are late.
    """

    ERROR = "error"
    SCORE = "score"
    LOSS = "loss"
    PREDICTIONS = "predictions"
    INPUTS = "inputs"


class Direction(StrEnum):
    """UP alarms only when the signal's mean rises (an error that rises: a model that got worse), DOWN when it falls."""

    BOTH = "both"
    UP = "up"
    DOWN = "down"
