"""What a run leaves in `--report DIR`: report.json, report.html that needs nothing else, and its plots as PNG."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.report_page import PLOT_TITLES, Document, render_page
from cluster.report_plots import DARK, LIGHT, draw_plots


def write_report(directory: str | Path, report: Document) -> Path:
    """Writes the report's files into `directory` (made if absent) and returns the path of report.html.

    `report` has the keys of a run's report; one that is missing is left out of the page. A number that is not finite
    becomes null, since JSON has none.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    document: Document = _finite(report)
    _replace(folder / "report.json", (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())
    light, dark = draw_plots(document, LIGHT), draw_plots(document, DARK)
    for name in PLOT_TITLES:
        if name in light:
            _replace(folder / f"{name}.png", light[name])
        else:
            (folder / f"{name}.png").unlink(missing_ok=True)  # of an earlier run
    page = folder / "report.html"
    _replace(page, render_page(document, light, dark).encode())
    return page


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
