"""What the detectors that watch many columns at once have in common."""

from typing import Literal

from actors.learning.drift.signal import Signal
from actors.learning.section import Section, setting


class InputWatchConfig(Section):
    signal: Literal[Signal.INPUTS, Signal.PREDICTIONS] = setting(
        Signal.INPUTS, "What is watched: the encoded features, or each class's probability (or the estimate)."
    )
    reference_rows: int = setting(
        1000, "The first rows, and the first after an alarm, are what later ones are compared with.", unit="rows", ge=50
    )
    window_rows: int = setting(200, "Rows that are compared at a time.", unit="rows", ge=20)
    alpha: float | None = setting(
        None, "Chance of a false alarm in one window, all columns together; null: from drift.false_alarm_rows.", gt=0, lt=1
    )
    max_columns: int = setting(512, "Watches at most so many encoded columns, evenly spread.", unit="columns", ge=1)
