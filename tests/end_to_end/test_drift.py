"""What follows from drift, in whole systems: updates that wait for a reason, feeds that break, learning that is steered."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from systems import learn

from actors.learning.task import TaskKind
from actors.sources.config import StreamConfig
from actors.sources.synthetic import SyntheticSource

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

ROWS = 16_000
STREAM = (f"stream.rows={ROWS}", "stream.synthetic.rate_rows_per_s=null", "stream.synthetic.drift_every_rows=8000")


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


def test_a_feed_that_breaks_is_not_learned_and_learning_goes_on_when_it_comes_back(ray_cluster: str, tmp_path: Path) -> None:
    table = synthetic_rows(ROWS)
    for name in [name for name in table.column_names if name != "class"]:
        values = table[name].to_numpy().copy()
        values[6000:9000] = 0.0
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values))
    pq.write_table(table, tmp_path / "rows.parquet")
    done = learn(ray_cluster, tmp_path, "broken", "stream.kind=files", f"stream.path={tmp_path / 'rows.parquet'}",
                 "drift.detectors=[ks_input]", "learners.round_rows=100")  # fmt: skip
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
