"""Why the gate decided, or has not yet, for people."""

from actors.learning.gate.comparison import Cause, Comparison, Phase


def reason(comparison: Comparison, cause: Cause) -> str:
    """One or two sentences: what happened, the limit and its key, and how the versions stood."""
    guards = comparison.config.guards
    match cause:
        case Cause.NON_FINITE:
            why = "it gave no answer, or one that is not finite"
        case Cause.CONSTANT_OUTPUT:
            why = f"it gave the same output to {guards.constant_rows} rows (promotion.guards.constant_rows)"
        case Cause.REGRET:
            why = f"it errs more than version {comparison.incumbent} (promotion.false_alarm_labels)"
        case Cause.SLICE:
            why = f"in one class it is worse by more than {guards.slice_margin:g} (promotion.guards.slice_margin)"
        case Cause.EVIDENCE:
            why = f"it errs less than version {comparison.incumbent} (promotion.alpha)"
        case Cause.TIME:
            why = "; ".join([f"{comparison.patience_labels} labels have decided nothing", *holds(comparison)])
    return f"Version {comparison.candidate}: {why}. {balance(comparison)}"


def balance(comparison: Comparison) -> str:
    """Such as: it lost 1.80 points less on 1040 labels; e-value 21.3 of 20."""
    points = 100.0 * comparison.gain_sum / max(1, comparison.labels)
    return (
        f"Its loss was {abs(points):.2f} points {'less' if points >= 0 else 'more'} on {comparison.labels} labels; "
        f"e-value {comparison.e_value:.4g} of {comparison.e_needed:g}"
    )


def holds(comparison: Comparison) -> list[str]:
    """The guards that keep the shadow waiting, however good the evidence."""
    if comparison.phase is Phase.WATCHING:
        return []
    config, measured, found = comparison.config, comparison.measured, []
    if comparison.labels < config.min_labels:
        found.append(f"fewer than {config.min_labels} labels (promotion.min_labels)")
    if measured is not None and comparison.is_too_slow:
        found.append(
            f"it takes {measured.shadow_latency_ms:.1f} ms, production {measured.production_latency_ms:.1f} ms at the 95th "
            "percentile (promotion.guards.latency_factor)"
        )
    if measured is not None and comparison.has_forgotten:
        found.append(
            f"it lost {measured.forgetting:.4g} on the past regimes, more than {config.guards.forgetting:g} "
            "(promotion.guards.forgetting)"
        )
    return found
