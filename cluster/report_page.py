"""report.html: one page with its styles and plots inside, for a light and for a dark screen."""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from cluster.report_style import STYLE

Document = dict[str, Any]

PLOT_TITLES = {
    "score": "Score over the stream",
    "drift": "Drift alarms",
    "throughput": "Throughput",
}
_SCORE_NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "kappa": "Cohen's kappa",
    "log_loss": "log loss",
    "score": "mean score of the answers",
    "estimated_score": "estimated score of the model",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "r2": "R²",
}
_DRIFT_ROWS = 50  # in the table; report.json has them all


def render_page(report: Document, light: Mapping[str, bytes], dark: Mapping[str, bytes]) -> str:
    """One HTML page with its styles and plots inside."""
    name = escape(str(report.get("name") or "Perennial"))
    sections = [_cards(report)]
    for plot, title in PLOT_TITLES.items():
        if plot in light:
            body = _picture(light[plot], dark[plot], f"{title} of {name}")
            sections.append(_section(title, body + (_drift_table(report) if plot == "drift" else "")))
    if not report.get("drift"):
        sections.append(_section("Drift alarms", "<p>No detector alarmed.</p>"))
    sections += [_regimes(report), _scores(report), _rows(report), _versions(report), _learners(report), _replay(report)]
    sections += [_freshness(report), _config(report)]
    body = "\n".join(section for section in sections if section)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{name}: run report</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<header><h1>{name}</h1><p>{_subtitle(report)}</p></header>
{body}
</main>
</body>
</html>
"""


def _subtitle(report: Document) -> str:
    rows = report.get("rows") or {}
    parts = ["Run report"]
    if rows.get("read") is not None:
        parts.append(f"{_number(rows['read'])} rows read")
    if report.get("seconds") is not None:
        parts.append(f"in {_duration(float(report['seconds']))}")
    return escape(" · ".join(parts[:2]) + (f" {parts[2]}" if len(parts) > 2 else ""))


def _cards(report: Document) -> str:
    scores, rows, versions = (report.get(key) or {} for key in ("prequential", "rows", "versions"))
    metric = str(scores.get("metric") or ("mae" if "mae" in scores else "accuracy"))
    freshness = report.get("freshness_s") or {}
    lost = [(rows[key], key) for key in ("lost", "duplicated") if rows.get(key) is not None]
    cards = [
        (_SCORE_NAMES[metric], scores.get(metric), ""),
        ("rows per second", report.get("rows_per_s"), ""),
        ("head version", None if versions.get("head") is None else f"v{versions['head']}", ""),
        ("drift alarms", report.get("drift_events", len(report.get("drift") or ())), ""),
        (
            " · ".join(name for _, name in lost),
            " · ".join(_number(count) for count, _ in lost) or None,
            "bad" if any(count for count, _ in lost) else "",
        ),
        ("freshness", None if freshness.get("p50") is None else f"{freshness['p50']:.3g} s", ""),
    ]
    return (
        '<div class="cards">'
        + "".join(
            f'<div class="card {mood}"><b>{escape(_number(value))}</b><span>{escape(label)}</span></div>'
            for label, value, mood in cards
            if value is not None
        )
        + "</div>"
    )


def _scores(report: Document) -> str:
    overall, recent = report.get("prequential") or {}, report.get("recent") or {}
    lines = [
        [name, _number(overall.get(key)), *([_number(recent.get(key))] if recent else [])]
        for key, name in _SCORE_NAMES.items()
        if key in overall
    ]
    return _section("Scores", _table(["", "all rows", *(["last 1,000 rows"] if recent else [])], lines)) if lines else ""


def _rows(report: Document) -> str:
    rows = report.get("rows") or {}
    counts = {key: value for key, value in rows.items() if not isinstance(value, dict)}
    if not counts:
        return ""
    body = _table(list(counts), [[_number(value) for value in counts.values()]])
    refused = rows.get("quarantined_by_reason") or {}
    if refused:
        body += _table(["quarantined because", "rows"], [[reason, _number(count)] for reason, count in refused.items()])
    return _section("Rows", body)


def _versions(report: Document) -> str:
    versions = {key: value for key, value in (report.get("versions") or {}).items() if not isinstance(value, (list, dict))}
    cells = [_number(value) for value in versions.values()]
    return _section("Versions", _table([key.replace("_", " ") for key in versions], [cells])) if versions else ""


def _regimes(report: Document) -> str:
    """What the versions have forgotten of past regimes."""
    regimes = report.get("regimes") or {}
    lines = [
        [
            f"{_number(each['start'])} to {_number(each['stop'])}",
            _number(each["kept"]),
            _number(each["best"]),
            f"v{each['best_version']}" if each["best_version"] is not None else "-",
            _number(each["latest"]),
        ]
        for each in regimes.get("past") or ()
    ]
    if not lines:
        return ""
    lost = regimes.get("forgetting")
    note = f"<p>v{regimes['version']} lies {_number(lost)} below the best on them, in the mean.</p>" if lost is not None else ""
    return _section("Past regimes", note + _table(["rows", "remembered", "best score", "of", "latest score"], lines))


def _learners(report: Document) -> str:
    lines = [
        [
            _number(learner.get("shard")),
            _number(learner.get("rows")),
            _number(learner.get("replayed_rows")),
            _share(_replayed_fraction(learner)),
            _share(learner.get("busy_fraction")),
        ]
        for learner in report.get("learners") or ()
    ]
    headings = ["shard", "rows", "replayed rows", "of its training", "busy"]
    return _section("Learner shards", _table(headings, lines)) if lines else ""


def _replayed_fraction(learner: Document) -> float | None:
    rows, replayed = learner.get("rows"), learner.get("replayed_rows")
    return replayed / (rows + replayed) if rows is not None and replayed is not None and rows + replayed else None


def _replay(report: Document) -> str:
    lines = [
        [_number(memory.get("shard")), _number(memory.get("rows")), _megabytes(memory.get("bytes"))]
        for memory in report.get("replay") or ()
    ]
    return _section("Replay memory", _table(["shard", "rows", "size"], lines)) if lines else ""


def _freshness(report: Document) -> str:
    seconds = {key: report["freshness_s"].get(key) for key in ("p50", "p95", "max")} if report.get("freshness_s") else {}
    if not any(value is not None for value in seconds.values()):
        return ""
    until = "production serves a version" if report["freshness_s"].get("of") == "production" else "there is a version"
    note = f"<p>Seconds from a label's arrival until {until} that has learned it.</p>"
    cells = ["-" if value is None else f"{value:.3g}" for value in seconds.values()]
    return _section("Freshness", note + _table(["median", "95th percentile", "longest"], [cells]))


def _drift_table(report: Document) -> str:
    events: list[Document] = report.get("drift") or []
    total = int(report.get("drift_events") or len(events))
    lines = [
        [_number(event.get("row")), str(event.get("detector")), str(event.get("signal")), str(event.get("action"))]
        for event in events[-_DRIFT_ROWS:]
    ]
    note = f"<p>The last {len(lines)} of {_number(total)}; report.json lists more.</p>" if total > len(lines) else ""
    return note + _table(["row", "detector", "signal", "action"], lines)


def _config(report: Document) -> str:
    config = report.get("config")
    if not config:
        return ""
    text = escape(json.dumps(config, indent=2, ensure_ascii=False))
    return f"<section><details><summary>Configuration</summary><pre>{text}</pre></details></section>"


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _picture(light: bytes, dark: bytes, description: str) -> str:
    source, image = (f"data:image/png;base64,{base64.b64encode(png).decode()}" for png in (dark, light))
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{source}">'
        f'<img src="{image}" alt="{description}"></picture>'
    )


def _table(headings: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _number(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4f}" if abs(value) < 100 else f"{value:,.0f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _megabytes(value: float | None) -> str:
    return "-" if value is None else f"{value / 1e6:,.1f} MB"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
