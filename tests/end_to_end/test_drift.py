"""What follows from drift, in whole systems: updates that wait for a reason, feeds that break, learning that is steered."""

import os
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from ray_head import RayHead
from systems import LiveSystem, learn
from waiting import wait_until

from actors.learning.task import TaskKind
from actors.sources.config import StreamConfig
from actors.sources.synthetic import SyntheticSource
from actors.version_store import VersionStore

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

ROWS = 16_000
STREAM = (
    "model.kind=mlp",
    f"stream.rows={ROWS}",
    "stream.synthetic.rate_rows_per_s=null",
    "stream.synthetic.drift_every_rows=8000",
)


def synthetic_rows(rows: int) -> pa.Table:
    config = StreamConfig.model_validate({"rows": rows, "synthetic": {"drift": "none"}})
    return pa.concat_tables(
        chunk.table for chunk in SyntheticSource(config, TaskKind.CLASSIFICATION, 1).read({}) if chunk is not None
    )


def test_rows_wait_until_the_volume_is_reached_and_none_is_lost(ray_cluster: str, tmp_path: Path) -> None:
    done = learn(ray_cluster, tmp_path, "volume", *STREAM, "update.policy=[{kind: volume, rows: 4000}]",
                 "update.warm_up_rows=1000", "learners.round_rows=250", "stream.label_delay_rows=100")  # fmt: skip
    rows, update = done.report["rows"], done.report["update"]
    assert (rows["read"], rows["tested"], rows["lost"], rows["duplicated"]) == (ROWS, ROWS, 0, 0)
    assert rows["trained"] + rows["waiting"] == ROWS and 2000 < rows["waiting"] < 4000
    assert update["updates"] == {"volume": 3} and update["waiting_rows"] == rows["waiting"]
    assert np.array_equal(np.sort(done.predictions["row"].to_numpy()), np.arange(ROWS))
    assert done.predictions["label"].null_count == 0
    version_N = done.predictions.sort_by("row")["version"].to_numpy()
    assert len(np.unique(version_N[1500:])) <= 1 + 3, "between two updates one version predicts"


def test_rows_wait_in_async_mode_too_and_none_is_lost(ray_cluster: str, tmp_path: Path) -> None:
    done = learn(ray_cluster, tmp_path, "async", "model.kind=mlp", "stream.rows=8000", "stream.synthetic.rate_rows_per_s=null",
                 "consolidation.mode=async", "update.policy=[{kind: volume, rows: 2000}]", "update.warm_up_rows=1000",
                 "learners.round_rows=200")  # fmt: skip
    rows = done.report["rows"]
    assert (rows["read"], rows["tested"], rows["lost"], rows["duplicated"]) == (8000, 8000, 0, 0)
    assert rows["trained"] + rows["waiting"] == 8000 and rows["waiting"] == done.report["update"]["waiting_rows"]
    assert done.report["update"]["updates"]["volume"] >= 3
    assert done.predictions["label"].null_count == 0


def test_a_feed_that_breaks_is_not_learned_and_learning_goes_on_when_it_comes_back(ray_cluster: str, tmp_path: Path) -> None:
    table = synthetic_rows(ROWS)
    for name in [name for name in table.column_names if name != "class"]:
        values = table[name].to_numpy().copy()
        values[6000:9000] = 0.0
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values))
    pq.write_table(table, tmp_path / "rows.parquet")
    done = learn(ray_cluster, tmp_path, "broken", "stream.kind=files", f"stream.path={tmp_path / 'rows.parquet'}",
                 "model.kind=mlp", "drift.detectors=[ks_input]", "learners.round_rows=100")  # fmt: skip
    rows = done.report["rows"]
    aside = rows["quarantined_by_reason"]["broken_feed"]
    assert 2000 < aside <= 3400
    assert (rows["read"], rows["tested"], rows["lost"], rows["duplicated"]) == (ROWS, ROWS, 0, 0)
    assert rows["trained"] == ROWS - aside and rows["quarantined"] == aside and rows["waiting"] == 0
    assert [event["action"] for event in done.report["drift"]] == ["freeze", "quarantine"]
    assert all(6000 <= event["row"] <= 9400 for event in done.report["drift"])
    assert done.correct_N[10_000:].mean() > 0.85
    kept = pa.concat_tables(pq.read_table(part) for part in (tmp_path / "storage/quarantine").glob("*.parquet"))
    assert len(kept) == aside and set(kept["reason"].to_pylist()) == {"broken_feed"}


def test_a_steered_run_is_repeated_bit_for_bit(ray_cluster: str, tmp_path: Path) -> None:
    settings = (*STREAM, "drift.actions=[boost, {kind: shrink_memory, rows: 200}, {kind: freeze, rows: 300}]",
                "drift.cool_down_rows=3000", "learners.round_rows=200", "replay.shards=2")  # fmt: skip
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = (learn(ray_cluster, tmp_path / name, "steered", *settings) for name in ("one", "two"))
    one.rows_add_up(ROWS)
    assert any(event["action"] == "boost+shrink_memory+freeze" for event in one.report["drift"])
    assert one.report["drift"] == two.report["drift"]
    assert (tmp_path / "one/p.parquet").read_bytes() == (tmp_path / "two/p.parquet").read_bytes()
    assert one.report["replay"] == two.report["replay"]


STEERED = (
    *STREAM, "stream.label_delay_rows=200", "replay.shards=2", "replay.strategy=reservoir", "learners.micro_batch_rows=4",
    "learners.round_rows=200", "versions.commit_rows=1000", "drift.cool_down_rows=2000", "update.warm_up_rows=1000",
    "drift.detectors=[adwin, ks_input, {kind: page_hinkley, signal: predictions}]",
    "drift.actions=[boost, {kind: shrink_memory, rows: 300}, {kind: freeze, rows: 500, then: quarantine}]",
    "update.policy=[on_drift, {kind: volume, rows: 1500}, {kind: on_degradation, window_rows: 200}]",
)  # fmt: skip


def test_a_steered_run_that_loses_its_evaluator_and_is_killed_goes_on_as_if_nothing_had_happened(
    shared_ray: RayHead, tmp_path: Path
) -> None:
    (tmp_path / "whole").mkdir()
    whole = learn(shared_ray.address, tmp_path / "whole", "whole", *STEERED)
    with LiveSystem(shared_ray.address, tmp_path, "killed", *STEERED, once=True, predictions=False) as system:
        store = VersionStore(str(tmp_path / "storage"))
        pids = wait_until(lambda: pids_of(system, "evaluator", "ingestor"), 90, "word of the actors")
        first = wait_until(store.versions, 30, "a durable version")[-1]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: store.versions()[-1] > first, 60, "a version after their deaths")
        os.killpg(system.process.pid, signal.SIGKILL)
    newest, _ = store.newest_whole()
    assert newest is not None and newest.about["rows"] < ROWS * 0.8, "it was killed before its end"
    done = learn(shared_ray.address, tmp_path, "killed", *STEERED)
    assert done.report["rows"]["lost"] == done.report["rows"]["duplicated"] == 0
    for key in ("rows", "drift", "update", "prequential", "replay"):
        assert done.report[key] == whole.report[key]
    assert done.report["update"]["updates"] and done.report["rows"]["quarantined_by_reason"]["frozen"] > 0
    digests = [VersionStore(str(folder / "storage")).newest_whole()[0] for folder in (tmp_path, tmp_path / "whole")]
    assert digests[0].about["lineage"]["digest"] == digests[1].about["lineage"]["digest"]
    rows = done.predictions["row"].to_numpy()
    before = whole.predictions.filter(pc.is_in(whole.predictions["row"], pa.array(rows))).sort_by("row")
    assert done.predictions.sort_by("row").drop(["version"]) == before.drop(["version"])


def pids_of(system: LiveSystem, *names: str) -> list[int] | None:
    status = system.status()
    pids = [actor["pid"] for actor in status["actors"] if actor["name"] in names] if status else []
    return pids if len(pids) == len(names) and all(pids) else None


def test_a_run_that_stops_while_rows_wait_keeps_what_it_has_seen_of_them(ray_cluster: str, tmp_path: Path) -> None:
    settings = (
        "model.kind=mlp",
        "stream.synthetic.rate_rows_per_s=null",
        "update.policy=[{kind: volume, rows: 100000}]",
        "update.warm_up_rows=500",
    )
    first = learn(ray_cluster, tmp_path, "waiting", *settings, "stream.rows=4000")
    again = learn(ray_cluster, tmp_path, "waiting", *settings, "stream.rows=6000")
    assert np.array_equal(np.sort(first.predictions["row"].to_numpy()), np.arange(4000))
    assert np.array_equal(np.sort(again.predictions["row"].to_numpy()), np.arange(4000, 6000))
    rows = again.report["rows"]
    assert (rows["read"], rows["tested"], rows["trained"] + rows["waiting"], rows["lost"]) == (6000, 6000, 6000, 0)
    assert again.report["update"]["updates"] == {}
