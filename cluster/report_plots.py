"""The report's plots as PNG, each for a light and for a dark page."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Document = dict[str, Any]

_METRIC_LABELS = {"accuracy": "accuracy", "mae": "mean absolute error", "score": "mean score of the answers"}
_MOST_DRIFT_LINES = 60  # more would cover the curve


@dataclass(frozen=True, slots=True)
class Theme:
    paper: str
    ink: str
    faint: str
    line: str
    drift: str


LIGHT = Theme(paper="#ffffff", ink="#24292f", faint="#d9dee4", line="#2563c9", drift="#c2410c")
DARK = Theme(paper="#171b21", ink="#d5dbe3", faint="#343b45", line="#6ea8fe", drift="#ff9a5c")


def draw_plots(report: Document, theme: Theme) -> dict[str, bytes]:
    """PNG bytes by plot name: `score`, `throughput`, `drift`; what the report has nothing for is left out."""
    plots: dict[str, bytes] = {}
    prequential = report.get("prequential") or {}
    curve = _points(prequential.get("curve"), "row", "value")
    drift: list[Document] = report.get("drift") or []
    if curve:
        versions = _points((report.get("versions") or {}).get("curve"), "row", "version")
        plots["score"] = _score(curve, _metric(prequential), drift, versions, theme)
    progress = _points((report.get("throughput") or {}).get("curve"), "seconds", "rows")
    if len(progress) > 1:
        plots["throughput"] = _throughput(progress, theme)
    if drift:
        plots["drift"] = _drift(drift, curve[-1][0] if curve else 0.0, theme)
    return plots


def _score(
    curve: list[tuple[float, float]],
    metric: str,
    drift: Sequence[Document],
    versions: list[tuple[float, float]],
    theme: Theme,
) -> bytes:
    figure, axes = _figure(theme, height=3.9)
    rows, values = zip(*curve, strict=True)
    axes.plot(rows, values, color=theme.line, linewidth=1.8, marker="o" if len(rows) == 1 else None)
    for event in drift[-_MOST_DRIFT_LINES:]:
        axes.axvline(event["row"], color=theme.drift, linewidth=1.0, alpha=0.65, linestyle=(0, (4, 3)), zorder=1)
    if drift:
        handle = axes.plot([], [], color=theme.drift, linewidth=1.0, linestyle=(0, (4, 3)), label="drift alarm")
        axes.legend(handles=handle, loc="best", frameon=False, labelcolor=theme.ink, fontsize=9)
    axes.set_xlim(0, max(max(rows), 1))
    if metric == "mae":
        axes.set_ylim(bottom=0)
    else:
        axes.set_ylim(max(0.0, min(values) - 0.05), min(1.0, max(values) + 0.05))
    axes.set_ylabel(f"{_METRIC_LABELS.get(metric, metric)}, last 1,000 rows")
    axes.set_xlabel("row of the stream")
    if len(versions) > 1:
        _version_axis(axes, versions, theme)
    return _png(figure, theme)


def _version_axis(axes: "Axes", versions: list[tuple[float, float]], theme: Theme) -> None:
    """The version that predicted, along the top: at most eight of those in the curve, evenly spread over the rows."""
    low, high = axes.get_xlim()
    inside = [(row, version) for row, version in versions if low <= row <= high]
    ticks: list[tuple[float, float]] = []
    for row, version in inside:
        if not ticks or (row - ticks[-1][0] >= (high - low) / 8 and version != ticks[-1][1]):
            ticks.append((row, version))
    top = axes.secondary_xaxis("top")
    top.set_xticks([row for row, _ in ticks], [f"v{version:,.0f}" for _, version in ticks])
    top.tick_params(colors=theme.ink, labelsize=9, length=3, color=theme.faint)
    top.spines["top"].set_visible(False)
    top.set_xlabel("version", color=theme.ink, fontsize=9)


def _throughput(progress: list[tuple[float, float]], theme: Theme) -> bytes:
    """Rows per second between the points, thinned to at most 256 intervals so that bursts do not hide the level."""
    stride = max(1, -(-len(progress) // 257))
    kept = progress[::stride] if progress[::stride][-1] == progress[-1] else [*progress[::stride], progress[-1]]
    steps = [(b[0], (b[1] - a[1]) / (b[0] - a[0])) for a, b in pairwise(kept) if b[0] > a[0]]
    figure, axes = _figure(theme, height=2.7)
    if steps:
        seconds = [kept[0][0], *(at for at, _ in steps)]
        axes.stairs([rate for _, rate in steps], seconds, color=theme.line, linewidth=1.6, fill=False, baseline=None)
        axes.stairs([rate for _, rate in steps], seconds, color=theme.line, alpha=0.15, fill=True)
        axes.set_xlim(seconds[0], seconds[-1])
    axes.set_ylim(bottom=0)
    axes.set_ylabel("rows per second")
    axes.set_xlabel("seconds since the start")
    return _png(figure, theme)


def _drift(drift: Sequence[Document], last_row: float, theme: Theme) -> bytes:
    """A line of marks for each detector and signal."""
    lanes = sorted({(str(event["detector"]), str(event["signal"])) for event in drift})
    figure, axes = _figure(theme, height=0.8 + 0.42 * len(lanes))
    for i, lane in enumerate(lanes):
        rows = [event["row"] for event in drift if (str(event["detector"]), str(event["signal"])) == lane]
        axes.axhline(i, color=theme.faint, linewidth=0.8, zorder=1)
        axes.plot(
            rows, [i] * len(rows), linestyle="none", marker="D", markersize=5.5, color=theme.drift, zorder=2, clip_on=False
        )
    axes.set_yticks(range(len(lanes)), [f"{detector} on {signal}" for detector, signal in lanes])
    axes.set_ylim(len(lanes) - 0.5, -0.5)
    axes.set_xlim(0, max(last_row, *(float(event["row"]) for event in drift), 1.0))
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("row of the stream")
    return _png(figure, theme)


def _figure(theme: Theme, height: float) -> tuple[Any, "Axes"]:
    # Figure without pyplot: no global state, no display, safe in any thread. Imported here because it takes a second.
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(9.6, height), layout="constrained", facecolor=theme.paper)
    axes = figure.add_subplot(facecolor=theme.paper)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(theme.faint)
    axes.tick_params(colors=theme.ink, labelsize=9, length=0)
    axes.grid(visible=True, color=theme.faint, linewidth=0.6, axis="y")
    axes.set_axisbelow(True)
    axes.xaxis.label.set(color=theme.ink, fontsize=9)
    axes.yaxis.label.set(color=theme.ink, fontsize=9)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"))
    return figure, axes


def _png(figure: Any, theme: Theme) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=160, facecolor=theme.paper, metadata={"Software": None})
    return buffer.getvalue()


def _metric(prequential: Document) -> str:
    return str(prequential.get("metric") or ("mae" if "mae" in prequential else "accuracy"))


def _points(curve: Sequence[Document] | None, x: str, y: str) -> list[tuple[float, float]]:
    return [(point[x], point[y]) for point in curve or () if point.get(x) is not None and point.get(y) is not None]
