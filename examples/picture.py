"""The picture of an example: Perennial and the frozen model over the stream."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from examples.study import Curve, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _SOFT, _FAINT, _PAPER = "#1f2733", "#6b7685", "#e3e7ec", "#ffffff"
_LIVE, _FROZEN = "#1f5fd1", "#c2571a"


def draw(
    study: Study, live: Curve, still: Curve, scores: Mapping[str, float], frozen_from: int, changes: Sequence[int]
) -> bytes:
    """A PNG. `scores` since the freeze, by `perennial` and `frozen`; `changes`: rows where the world becomes another one."""
    from matplotlib.figure import Figure  # here, because it takes a second; without pyplot, for it needs no display

    figure = Figure(figsize=(9.6, 5.0), facecolor=_PAPER)
    axes = figure.add_axes((0.068, 0.125, 0.782, 0.665), facecolor=_PAPER)
    scale = 100.0 if study.as_percent else 1.0
    live_W, still_W = scale * live.value_W, scale * still.value_W
    axes.axvspan(0, frozen_from, color="#f3f5f8", linewidth=0, zorder=0)
    same_W = np.isin(live.row_W, still.row_W)
    axes.fill_between(still.row_W, still_W, live_W[same_W], color=_LIVE, alpha=0.09, linewidth=0, zorder=1)
    axes.plot(still.row_W, still_W, color=_FROZEN, linewidth=2.0, solid_capstyle="round", solid_joinstyle="round", zorder=3)
    axes.plot(live.row_W, live_W, color=_LIVE, linewidth=2.4, solid_capstyle="round", solid_joinstyle="round", zorder=4)
    last = int(live.row_W[-1])
    axes.set_xlim(0, last)
    axes.set_ylim(*_limits(study, np.concatenate([still_W, live_W[same_W]]), live_W))
    low, high = axes.get_ylim()
    for row in changes:
        axes.plot([row, row], [low, low + 0.025 * (high - low)], color=_SOFT, linewidth=1.4, zorder=2)
    axes.plot([frozen_from, frozen_from], [low, high], color=_FROZEN, linewidth=1.0, linestyle=(0, (4, 3)), zorder=2)
    axes.annotate("frozen here", (frozen_from, low), (7, 14), textcoords="offset points", color=_FROZEN, fontsize=9)
    _name_ends(axes, {"Perennial": (live_W[-1], _LIVE, "perennial"), "Frozen": (still_W[-1], _FROZEN, "frozen")}, study, scores)
    _dress(axes, study)
    figure.text(0.03, 0.95, study.title, color=_INK, fontsize=15, fontweight="bold", va="center")
    figure.text(0.03, 0.892, study.question, color=_SOFT, fontsize=10.5, va="center")
    figure.text(0.03, 0.825, study.axis, color=_INK, fontsize=9.5, va="center")
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=160, facecolor=_PAPER, metadata={"Software": None})
    return buffer.getvalue()


def _limits(study: Study, after_V: np.ndarray, live_W: np.ndarray) -> tuple[float, float]:
    """Of the values since the freeze. The first steps of a learner lie outside where they would squeeze all the rest."""
    low, high = float(np.nanmin(after_V)), float(np.nanmax([*after_V, *live_W[len(live_W) // 8 :]]))
    low = 0.0 if not study.higher_is_better or low < 0.45 * high else low - 0.12 * (high - low)
    high += 0.06 * (high - low)
    return low, min(high, 100.0) if study.as_percent else high


def _name_ends(axes: "Axes", ends: Mapping[str, tuple[float, str, str]], study: Study, scores: Mapping[str, float]) -> None:
    """Names beside the ends of the lines, apart from each other."""
    low, high = axes.get_ylim()
    apart, edge = 0.16 * (high - low), 0.06 * (high - low)
    lower, upper = sorted(ends, key=lambda name: ends[name][0])
    at = {name: min(max(ends[name][0], low + edge), high - edge) for name in ends}
    middle = (at[upper] + at[lower]) / 2
    if at[upper] - at[lower] < apart:
        middle = min(max(middle, low + edge + apart / 2), high - edge - apart / 2)
        at = {upper: middle + apart / 2, lower: middle - apart / 2}
    for name, (_, colour, key) in ends.items():
        where = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "annotation_clip": False}
        axes.annotate(name, (1.0, at[name]), (10, 7), color=colour, fontsize=11, fontweight="bold", va="center", **where)
        axes.annotate(
            f"since then: {study.shown(scores[key])}", (1.0, at[name]), (10, -8), color=_SOFT, fontsize=9, va="center", **where
        )


def _dress(axes: "Axes", study: Study) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_SOFT)
    axes.grid(visible=True, axis="y", color=_FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, labelsize=9, length=0, pad=6)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    unit = " %" if study.as_percent else ""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}{unit}"))
    axes.set_xlabel(
        f"row of the stream; each point is the last {study.window_rows:,} rows, a mark on the axis a change of the world",
        color=_SOFT,
        fontsize=9,
        labelpad=7,
    )
