"""What the gate demands before production moves, and what makes it move back."""

from actors.learning.section import Section, setting


class GuardsConfig(Section):
    latency_factor: float | None = setting(
        2.0, "A shadow that takes more than so many times production's p95 latency waits; null: latency does not matter.", gt=1
    )
    forgetting: float | None = setting(
        None,
        "A shadow that lost more than this on the past regimes, in their mean, waits; null: forgetting does not matter. Where "
        "a new regime contradicts an old one, whoever learns it has to forget.",
        unit="score",
        ge=0,
        le=1,
    )
    slice_margin: float = setting(
        0.02, "A shadow that is worse in one class by more than this is rejected, however good in the others.", ge=0, le=1
    )
    slice_alpha: float = setting(
        0.05, "Chance that a shadow is rejected for a class where it is not worse by more than the margin.", gt=0, lt=1
    )
    slices: int = setting(32, "Classes looked at one by one, in order of appearance; the others count as one.", ge=0, le=10_000)
    constant_rows: int = setting(
        200,
        "A version that gives the same output to so many rows while labels and the other version vary is broken.",
        unit="rows",
        ge=2,
    )


class GateConfig(Section):
    alpha: float = setting(
        0.05, "Chance that a shadow that is no better than production is promoted, however often one looks.", gt=0, lt=1
    )
    min_labels: int = setting(200, "No promotion on fewer labels.", unit="labels", ge=1)
    max_wait_labels: int = setting(
        20_000, "After so many labels without a decision the newest version becomes the shadow.", unit="labels", ge=1
    )
    watch_labels: int = setting(
        10_000, "For so long a promoted version is watched beside the one that it replaced.", unit="labels", ge=1
    )
    false_alarm_labels: int = setting(
        100_000, "Mean number of labels, at least, until a version that is no worse is taken for worse.", unit="labels", gt=1
    )
    guards: GuardsConfig = setting(GuardsConfig, "What a shadow has to satisfy besides being better.")
