"""The last words of a run."""

import copy
import io
from pathlib import Path

import pytest
from rich.console import Console

from cluster.summary import print_summary, summary_of

REPORT = {
    "seconds": 2.5,
    "rows": {"read": 2000, "tested": 1980, "trained": 1980, "quarantined": 20, "lost": 0, "duplicated": 0},
    "rows_per_s": 1234.5,
    "prequential": {"metric": "accuracy", "rows": 1980, "accuracy": 0.9126},
    "recent": {"metric": "accuracy", "rows": 1000, "accuracy": 0.979},
    "versions": {"head": 4, "rejected": 0},
    "drift": [{"row": 581}],
}
WHY = "20 not_finite; for example row 50 of a.csv: column 'a' holds 'nan', which is not finite; leave it empty"


def shown(report=REPORT, refused=WHY, **console) -> str:
    to = Console(file=io.StringIO(), **console)
    print_summary(to, summary_of(report, refused, Path("out"), Path("out/p.parquet")))
    return to.file.getvalue()


def test_it_says_what_was_read_learned_and_set_aside_how_good_it_was_and_where_to_look():
    assert shown(width=60).splitlines() == [
        "rows         2,000 read, 1,980 predicted, 1,980 learned",
        "             0 lost, 0 learned twice",
        f"quarantine   20 rows set aside: {WHY}",
        "score        accuracy 0.9126, 0.9790 over the last 1,000 rows",
        "speed        1,234 rows/s for 2.5 s",
        "version      v4",
        "drift        1 alarm, the last at row 581",
        "report       out/report.html",
        "predictions  out/p.parquet",
    ]


def test_on_a_terminal_a_long_line_goes_on_under_its_beginning():
    lines = shown(width=60, force_terminal=True, color_system=None).splitlines()
    assert max(map(len, lines)) <= 60
    start = next(i for i, line in enumerate(lines) if line.startswith("quarantine"))
    assert lines[start + 1].startswith(" " * 13) and lines[start + 1].strip()


@pytest.mark.parametrize("metric", ["accuracy", "mae"])
def test_a_run_in_which_nothing_could_be_scored_says_so(metric):
    report = copy.deepcopy(REPORT)
    report["prequential"] = report["recent"] = {"metric": metric, "rows": 0, metric: None}
    report["drift"] = []
    text = shown(report)
    assert "score        none" in text and "drift        no alarm" in text


def test_nothing_is_said_of_rows_set_aside_where_there_are_none():
    report = copy.deepcopy(REPORT)
    report["rows"]["quarantined"] = 0
    assert "quarantine" not in shown(report, "")
