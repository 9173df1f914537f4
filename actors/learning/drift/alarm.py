"""What a detector says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from actors.learning.drift.input_watch import Phase
from actors.learning.drift.signal import Signal


@dataclass(frozen=True, slots=True)
class Alarm:
    """A detector that alarmed at a row of the stream. `action` is what was decided to do about it.

    `evidence` is what it was raised on, such as the means before and after. `since` is the first row that is meant, where the
    detector can tell; `source` tells detectors of one kind apart.
    """

    row: int
    detector: str
    signal: Signal
    phase: Phase = Phase.CHANGED
    action: str = field(default="alert", compare=False)
    evidence: Mapping[str, Any] = field(default_factory=dict, compare=False)
    since: int = field(default=-1, compare=False)
    source: int = field(default=0, compare=False)

    @property
    def is_alarm(self) -> bool:
        """Whether it tells of a change, rather than that an earlier one is over."""
        return self.phase in (Phase.CHANGED, Phase.BROKEN)
