"""What may be done about an alarm. The default, `alert`, changes nothing."""

from typing import Annotated, Literal

from pydantic import Field

from actors.learning.drift.signal import Signal
from actors.learning.section import Section, setting


class _ActionConfig(Section):
    signals: tuple[Signal, ...] = setting(tuple(Signal), "Only alarms of detectors that watch one of these.")


class AlertConfig(_ActionConfig):
    kind: Literal["alert"] = setting("alert", "The alarm is told: status, report, metrics, events. Nothing else happens.")


class BoostConfig(_ActionConfig):
    kind: Literal["boost"] = setting("boost", "Learning rates go up, and come down again step by step.")
    factor: float = setting(3.0, "What learning rates are multiplied by at first.", gt=1, le=100)
    rows: int = setting(2_000, "After so many rows they are back.", unit="rows", ge=1)


class ShrinkMemoryConfig(_ActionConfig):
    kind: Literal["shrink_memory"] = setting("shrink_memory", "The replay memory forgets all but the latest rows.")
    rows: int = setting(500, "Rows that are kept, all replay shards together.", unit="rows", ge=1)


class FreezeConfig(_ActionConfig):
    kind: Literal["freeze"] = setting("freeze", "Nothing is learned for a while; rows are predicted and scored as ever.")
    rows: int = setting(2_000, "For so many rows.", unit="rows", ge=1)
    then: Literal["learn", "quarantine"] = setting(
        "learn", "What becomes of the rows that came meanwhile: learned afterwards, or set aside (reason: frozen)."
    )


ActionConfig = Annotated[AlertConfig | BoostConfig | ShrinkMemoryConfig | FreezeConfig, Field(discriminator="kind")]
