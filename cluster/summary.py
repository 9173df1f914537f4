"""What a run prints at its end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

_INDENT = 13


def print_summary(console: Console, lines: list[tuple[str, str]]) -> None:
    """On a terminal aligned and wrapped under each other, elsewhere one line each."""
    if not console.is_terminal:
        for name, text in lines:
            console.print(Text(f"{name:<{_INDENT}}{text}"), soft_wrap=True)
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", width=_INDENT - 2)
    table.add_column(overflow="fold")
    for name, text in lines:
        table.add_row(name, Text(text))
    console.print(table)


def summary_of(
    report: dict[str, Any], refused: str, report_folder: Path | None, predictions: Path | None
) -> list[tuple[str, str]]:
    """(heading, text) for each line; `refused` says why rows were set aside."""
    return list(_lines(report, refused, report_folder, predictions))


def _lines(report: dict[str, Any], refused: str, folder: Path | None, predictions: Path | None) -> Iterator[tuple[str, str]]:
    rows, versions, drift = report["rows"], report["versions"], report["drift"]
    yield "rows", f"{rows['read']:,} read, {rows['tested']:,} predicted, {rows['trained']:,} learned"
    yield "", f"{rows['lost']:,} lost, {rows['duplicated']:,} learned twice"
    if rows["quarantined"]:
        yield "quarantine", f"{rows['quarantined']:,} rows set aside: {refused}"
    yield "score", _score(report)
    yield "speed", f"{report['rows_per_s']:,.0f} rows/s for {report['seconds']:,.1f} s"
    refusals = f", {versions['rejected']:,} contributions refused" if versions["rejected"] else ""
    yield "version", f"v{versions['head']}{refusals}"
    yield "drift", f"{_counted(len(drift), 'alarm')}, the last at row {drift[-1]['row']:,}" if drift else "no alarm"
    if folder is not None:
        yield "report", str(folder / "report.html")
    if predictions is not None:
        yield "predictions", str(predictions)


def _score(report: dict[str, Any]) -> str:
    overall, recent = report["prequential"], report["recent"]
    metric = overall["metric"]
    if overall[metric] is None:
        return "none: no label has come for a prediction"
    late = f", {recent[metric]:.4f} over the last {recent['rows']:,} rows" if recent["rows"] < overall["rows"] else ""
    return f"{metric} {overall[metric]:.4f}{late}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
