"""The `drift` section: which detectors watch what, and what follows from an alarm."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from actors.learning.drift.actions import ActionConfig, AlertConfig
from actors.learning.drift.adwin import AdwinConfig
from actors.learning.drift.ddm import DdmConfig
from actors.learning.drift.ks_input import KsInputConfig
from actors.learning.drift.page_hinkley import PageHinkleyConfig
from actors.learning.drift.psi_input import PsiInputConfig
from actors.learning.drift.river_detector import RiverConfig
from actors.learning.drift.signal import Signal
from actors.learning.drift.window_mean import WindowMeanConfig
from actors.learning.section import Section, kinds_alone, setting

ScalarDetectorConfig = AdwinConfig | DdmConfig | PageHinkleyConfig | WindowMeanConfig | RiverConfig
DetectorConfig = Annotated[
    AdwinConfig | DdmConfig | PageHinkleyConfig | WindowMeanConfig | KsInputConfig | PsiInputConfig | RiverConfig,
    Field(discriminator="kind"),
]


class BrokenFeedConfig(Section):
    share: float | None = setting(
        0.5,
        "The feed is suspected to be broken where this share of the features (3 at least) changes in one window of ks_input or "
        "psi_input; null: never.",
        gt=0,
        le=1,
    )
    action: Literal["freeze", "alert"] = setting(
        "freeze",
        "`freeze`: nothing more is learned until the inputs look as before, and the rows between go to quarantine "
        "(broken_feed); `alert` only tells.",
    )
    patience_rows: int | None = setting(
        10_000,
        "Inputs that have looked broken for so long are taken for the world as it is now, and learned; null: never.",
        unit="rows",
        ge=1,
    )


class DriftConfig(Section):
    detectors: tuple[DetectorConfig, ...] = setting(
        (AdwinConfig(),), "What watches for a change; each names its `kind`, then its settings if they differ."
    )
    false_alarm_rows: int = setting(
        1_000_000,
        "Rows between two false alarms, all detectors together, at the least: what their settings leave open follows from it.",
        unit="rows",
        ge=1_000,
    )
    actions: tuple[ActionConfig, ...] = setting(
        (AlertConfig(),), "What follows from an alarm; each names its `kind`, then its settings if they differ."
    )
    cool_down_rows: int = setting(
        1_000, "After an action other than `alert`, alarms of so many rows are only told.", unit="rows", ge=0
    )
    broken_feed: BrokenFeedConfig = setting(BrokenFeedConfig, "Many inputs that jump at once: a feed that broke, not a drift.")

    @field_validator("detectors", "actions", mode="before")
    @classmethod
    def _kind_alone(cls, items: Any) -> Any:
        return kinds_alone(items)

    @property
    def watches_inputs(self) -> bool:
        return any(config.signal is Signal.INPUTS for config in self.detectors)
