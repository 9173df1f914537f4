"""What Prometheus sees of a running system, against what the system says of itself."""

from pathlib import Path
from typing import Any

import pytest
from prometheus import Prometheus, find_prometheus, prometheus_of
from systems import LiveSystem
from waiting import wait_until

from actors.learning.task import TaskKind
from actors.sources.config import StreamConfig
from actors.sources.synthetic import SyntheticSource

pytestmark = [pytest.mark.ray, pytest.mark.prometheus, pytest.mark.timeout(300)]

GOOD_ROWS, UNREADABLE, WITHOUT_LABEL = 4000, 7, 5
_TIMEOUT_S = 60.0  # Ray passes metrics on every few seconds


@pytest.fixture(scope="module")
def prometheus_program(request: pytest.FixtureRequest) -> Path:
    program = find_prometheus(request.config.cache.mkdir("prometheus"))
    if program is None:
        pytest.skip("there is no prometheus on the PATH, and Debian's package of it cannot be downloaded with apt-get")
    return program


def write_rows(path: Path) -> None:
    """The synthetic stream as CSV, with some bad rows after the first thousand."""
    config = StreamConfig.model_validate({"rows": GOOD_ROWS, "synthetic": {"drift": "none", "features": 3}})
    chunks = [chunk.table for chunk in SyntheticSource(config, TaskKind.CLASSIFICATION, 1).read({}) if chunk is not None]
    lines = [",".join(map(str, row.values())) for table in chunks for row in table.to_pylist()]
    bad = ["not,a,number,1"] * UNREADABLE + ["0.1,0.2,0.3,"] * WITHOUT_LABEL
    path.write_text("\n".join(["x0,x1,x2,class", *lines[:1000], *bad, *lines[1000:]]) + "\n")


def settled(system: LiveSystem) -> dict[str, Any] | None:
    """The status once every row of the file has been learned and nothing moves any more."""
    status = system.status()
    if not status or status["state"] != "idle" or not all(actor["alive"] for actor in status["actors"]):
        return None
    return status if status["stream"]["trained"] == GOOD_ROWS else None


def expected_of(status: dict[str, Any]) -> dict[str, float]:
    """Queries that have one answer, by what the system's own status says."""
    stream = status["stream"]
    labels = 'system="watched"'
    return {
        f'sum(ray_perennial_rows_total{{{labels},stage="read"}})': stream["rows"],
        f'sum(ray_perennial_rows_total{{{labels},stage="tested"}})': stream["tested"],
        f'sum(ray_perennial_rows_total{{{labels},stage="trained"}})': stream["trained"],
        f'ray_perennial_version{{{labels},alias="head"}}': status["head"],
        f'ray_perennial_prequential_score{{{labels},metric="accuracy",version_role="head"}}': status["prequential"]["recent"],
        f"sum(ray_perennial_quarantined_rows_total{{{labels}}})": UNREADABLE + WITHOUT_LABEL,
        f'sum(ray_perennial_quarantined_rows_total{{{labels},reason="wrong_type"}})': UNREADABLE,
        f'sum(ray_perennial_quarantined_rows_total{{{labels},reason="missing_label"}})': WITHOUT_LABEL,
        f'sum(ray_perennial_round_seconds_count{{{labels},stage="whole"}})': status["head"],
        f'sum(ray_perennial_round_seconds_bucket{{{labels},stage="whole",le="+Inf"}})': status["head"],
        f'sum(ray_perennial_rounds_total{{{labels},stage="whole"}})': status["head"],
    }


# A memory that is full early: what an idle system tells of it is a round old.
SMALL = ("model.kind=mlp", "replay.shards=2", "replay.capacity_rows=1000")


def test_prometheus_sees_what_status_and_report_say(shared_ray, prometheus_program, tmp_path):
    write_rows(tmp_path / "rows.csv")
    stream = ("stream.kind=files", f"stream.path={tmp_path / 'rows.csv'}", "stream.follow=true")
    with (
        prometheus_of(prometheus_program, shared_ray.metrics_port, tmp_path) as prometheus,
        LiveSystem(shared_ray.address, tmp_path, "watched", *stream, *SMALL) as system,
    ):
        status = wait_until(lambda: settled(system), 90, "the end of the file")
        assert status is not None
        assert status["stream"]["rows"] == GOOD_ROWS + UNREADABLE + WITHOUT_LABEL
        wait_until_it_sees(prometheus, expected_of(status))
        replay_rows, replay_bytes = (
            prometheus.query(f'sum by (shard) (ray_perennial_replay_{what}{{system="watched"}})') for what in ("rows", "bytes")
        )
        replayed = prometheus.value('sum(ray_perennial_rows_total{system="watched",stage="replayed"})')
        outcomes = prometheus.query('sum by (outcome) (ray_perennial_versions_total{system="watched"})')
        report = system.stop().report

    rows = report["rows"]
    assert rows["quarantined_by_reason"] == {"wrong_type": UNREADABLE, "missing_label": WITHOUT_LABEL}
    assert rows["read"] - rows["quarantined"] == rows["tested"] == rows["trained"] == GOOD_ROWS
    assert rows["lost"] == rows["duplicated"] == 0
    assert report["versions"]["head"] == status["head"]
    assert replay_rows == {f"shard={shard['shard']}": shard["rows"] for shard in report["replay"]}
    assert replay_bytes == {f"shard={shard['shard']}": shard["bytes"] for shard in report["replay"]}
    assert replayed == sum(learner["replayed_rows"] for learner in report["learners"])
    assert sum(outcomes.values()) >= status["head"] and set(outcomes) <= {"outcome=accepted"}


def wait_until_it_sees(prometheus: Prometheus, expected: dict[str, float]) -> None:
    def is_seen() -> bool:
        return not differences(prometheus, expected)

    try:
        wait_until(is_seen, _TIMEOUT_S, "Prometheus to see what status says")
    except AssertionError as error:
        raise AssertionError(f"{error}; seen and expected: {differences(prometheus, expected)}") from None


def differences(prometheus: Prometheus, expected: dict[str, float]) -> dict[str, tuple[float, float]]:
    seen = {query: prometheus.value(query) for query in expected}
    return {
        query: (seen[query], wanted) for query, wanted in expected.items() if seen[query] != pytest.approx(wanted, abs=1e-9)
    }
