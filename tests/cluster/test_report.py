"""The report: three kinds of files that need nothing else to be read."""

import json
import re
from pathlib import Path

import pytest

from cluster.report import write_report

WHOLE = {
    "name": "fraud <demo>",
    "seconds": 73.2,
    "rows": {"read": 10_000, "tested": 9_990, "lost": 0, "duplicated": 0, "quarantined_by_reason": {"wrong_type": 10}},
    "rows_per_s": 136.5,
    "prequential": {
        "metric": "accuracy",
        "accuracy": 0.91,
        "kappa": float("nan"),
        "curve": [{"row": 100 * i, "value": 0.8 + 0.001 * i} for i in range(1, 100)],
    },
    "recent": {"accuracy": 0.93, "kappa": 0.5},
    "versions": {"head": 9, "production": None, "curve": [{"row": 1000 * i, "version": i} for i in range(10)]},
    "drift": [{"row": 4000, "detector": "adwin", "signal": "error", "action": "none"}],
    "regimes": {
        "version": 9,
        "forgetting": 0.0625,
        "past": [{"start": 0, "stop": 3_100, "kept": 256, "best": 0.875, "best_version": 3, "latest": None}],
    },
    "learners": [{"shard": 0, "rows": 9_990, "replayed_rows": 9_990, "busy_fraction": 0.5}],
    "replay": [{"shard": 0, "rows": 5_000, "bytes": 2_500_000}],
    "freshness_s": {"p50": 0.5, "p95": 1.0, "max": 2.0},
    "throughput": {"curve": [{"seconds": 0.5 * i, "rows": 70 * i} for i in range(146)]},
    "config": {"name": "fraud <demo>", "seed": 1},
}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """The page, in a folder that was made for it."""
    return write_report(tmp_path_factory.mktemp("report") / "out", WHOLE)


@pytest.fixture
def page(written) -> str:
    return written.read_text()


def test_the_report_is_json_without_the_numbers_that_json_does_not_have(written):
    document = json.loads((written.parent / "report.json").read_text(), parse_constant=pytest.fail)
    assert document["prequential"]["kappa"] is None
    assert document["rows"]["read"] == 10_000
    assert document["drift"] == WHOLE["drift"]


def test_the_page_needs_no_other_file_and_no_network(page):
    targets = re.findall(r'(?:src|href|srcset)="([^"]*)"', page)
    assert len(targets) == 6  # three plots, light and dark
    assert all(target.startswith("data:image/png;base64,") for target in targets)
    assert "http" not in page
    assert "<script" not in page


def test_the_page_shows_scores_rows_drift_shards_and_configuration(page):
    past = ("3,100", "0.8750", "v9 lies 0.0625 below")
    for fact in (*past, "0.9100", "0.9300", "10,000", "wrong_type", "adwin", "v9", "50%", "2.5 MB", "&quot;seed&quot;: 1"):
        assert fact in page


def test_text_of_the_user_is_escaped(page):
    assert "fraud &lt;demo&gt;" in page
    assert "<demo>" not in page


def test_every_plot_of_the_page_is_a_png_beside_it(written):
    for name in ("score", "drift", "throughput"):
        assert (written.parent / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("start", range(4))
def test_parts_that_are_missing_are_left_out(tmp_path, start):
    assert write_report(tmp_path, {key: WHOLE[key] for key in sorted(WHOLE)[start::4]}).exists()


def test_a_run_without_a_row_still_leaves_a_report(tmp_path):
    none = {"mae": None, "rmse": None, "r2": None, "curve": []}
    page = write_report(tmp_path, {"name": "empty", "prequential": none, "drift": [], "throughput": {"curve": []}})
    assert "No detector alarmed" in page.read_text()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_a_second_run_into_the_same_folder_leaves_nothing_of_the_first(tmp_path):
    write_report(tmp_path, WHOLE)
    write_report(tmp_path, {"name": "second"})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_a_regression_with_a_single_point_and_an_unknown_value_is_drawn(tmp_path):
    curve = [{"row": 10, "value": 2.0}, {"row": 20, "value": float("inf")}]
    write_report(tmp_path, {"name": "r", "prequential": {"mae": 2.0, "rmse": 3.0, "r2": 0.1, "curve": curve}})
    assert (tmp_path / "score.png").exists()
