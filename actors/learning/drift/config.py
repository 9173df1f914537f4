"""The `drift` section: which detectors watch the score."""

from typing import Annotated, Any

from pydantic import Field, field_validator

from actors.learning.drift.adwin import AdwinConfig
from actors.learning.drift.ddm import DdmConfig
from actors.learning.drift.page_hinkley import PageHinkleyConfig
from actors.learning.drift.window_mean import WindowMeanConfig
from actors.learning.section import Section, setting

DetectorConfig = Annotated[
    AdwinConfig | DdmConfig | PageHinkleyConfig | WindowMeanConfig,
    Field(discriminator="kind"),
]


class DriftConfig(Section):
    detectors: tuple[DetectorConfig, ...] = setting(
        (AdwinConfig(),), "What watches the score for a change; each names its `kind`, then its settings if they differ."
    )

    @field_validator("detectors", mode="before")
    @classmethod
    def _kind_alone(cls, detectors: Any) -> Any:
        """`[adwin, ddm]` is short for `[{kind: adwin}, {kind: ddm}]`."""
        if isinstance(detectors, (list, tuple)):
            return [{"kind": detector} if isinstance(detector, str) else detector for detector in detectors]
        return detectors
