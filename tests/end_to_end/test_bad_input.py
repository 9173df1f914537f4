"""Input that is not what it should be, through the whole system: nothing is lost, nothing is learned of it, and it is told."""

import json
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.cli import main

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

HEADER = "a,b,class"
NUMBERS = count()
SMALL = ("model.kind=mlp", "learners.shards=1", "replay.ratio=0")


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said and left."""

    code: int
    message: str
    folder: Path

    @property
    def report(self) -> dict[str, Any]:
        return json.loads((self.folder / "report/report.json").read_text())

    @property
    def rows(self) -> dict[str, Any]:
        return self.report["rows"]

    @property
    def predictions(self) -> list[dict[str, Any]]:
        return pq.read_table(self.folder / "p.parquet").to_pylist()

    @property
    def quarantine(self) -> dict[tuple[str, int], str]:
        """reason by (partition, offset)"""
        tables = [pq.read_table(path) for path in sorted((self.folder / "storage/quarantine").glob("part-*.parquet"))]
        rows = pa.concat_tables(tables).to_pylist()
        found = {(row["partition"], row["offset"]): row["reason"] for row in rows}
        assert len(found) == len(rows), "a row is in quarantine twice"
        return found

    def adds_up(self, read: int, quarantined: int) -> None:
        counted, trained = self.rows, read - quarantined
        keys = ("read", "tested", "trained", "quarantined", "lost", "duplicated")
        assert [counted[key] for key in keys] == [read, trained, trained, quarantined, 0, 0]
        predictions = self.predictions
        assert len({row["row"] for row in predictions}) == len(predictions) == trained
        right = sum(row["prediction"] is not None and row["prediction"] == row["label"] for row in predictions)
        accuracy = self.report["prequential"]["accuracy"]
        assert accuracy == (pytest.approx(right / trained) if trained else None)


@pytest.fixture
def run(ray_cluster, tmp_path, capfd):
    """`perennial run --once` on a stream of files, in this process: what it prints goes where a user's terminal would be."""

    def run(path: Path, *overrides: str) -> Ended:
        settings = [
            "stream.kind=files", f"stream.path={json.dumps(str(path))}", f"storage={tmp_path / 'storage'}",
            f"name=bad-input-{next(NUMBERS)}", *overrides,
        ]  # fmt: skip
        words = [word for setting in settings for word in ("--set", setting)]
        files = ["--report", str(tmp_path / "report"), "--predictions", str(tmp_path / "p.parquet")]
        code = main(["run", "--once", "--no-serve", "--address", ray_cluster, *files, *words])
        said = capfd.readouterr()
        assert "Traceback" not in said.err and "ray::" not in said.err, said.err
        return Ended(code, said.out + said.err, tmp_path)

    return run


def good_rows(rows: int, seed: int = 0) -> list[str]:
    x_ND = np.random.default_rng(seed).standard_normal((rows, 2))
    return [f"{a:.4f},{b:.4f},{int(a > 0)}" for a, b in x_ND]


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def test_every_kind_of_bad_row_is_set_aside_and_all_others_are_learned(run, tmp_path):
    faults = {
        3: ("nan,1,0", "not_finite"),
        50: ("1,inf,0", "not_finite"),
        51: ("1e39,1,0", "not_finite"),
        70: ("1,hello,0", "wrong_type"),
        71: ("1,2,", "missing_label"),
        99: ("1,2,maybe", "wrong_type"),
        150: ("1,2,0,9", "malformed"),
        151: ("2,0", "malformed"),
        380: ('"1,2,0', "malformed"),
    }
    lines = good_rows(400)
    for at, (line, _) in faults.items():
        lines[at] = line
    folder = tmp_path / "with a space"
    write(folder / "1.csv", HEADER, *lines)
    write(folder / "2.csv", "a,c,class", *good_rows(30, seed=1))
    late = good_rows(100, seed=2)
    write(folder / "3.csv", HEADER, *late[:90], *(row[:-1] + "7" for row in late[90:]))
    ended = run(folder, "stream.label_type=integer")
    assert ended.code == 0
    expected = {("1.csv", at): reason for at, (_, reason) in faults.items()}
    expected |= {("2.csv", at): "unknown_column" for at in range(30)}
    assert ended.quarantine == expected
    ended.adds_up(read=530, quarantined=39)
    assert sorted(row["row"] for row in ended.predictions) == sorted(set(range(530)) - set(faults) - set(range(400, 430)))
    assert {row["label"] for row in ended.predictions} == {0, 1, 7}
    assert "39 rows set aside: 30 unknown_column, 3 not_finite, 3 malformed" in ended.message


def test_a_stream_of_bad_rows_only_ends_with_3_and_an_example_and_leaves_a_report(run, tmp_path):
    ended = run(write(tmp_path / "rows.csv", HEADER, *(row[:-1] for row in good_rows(300))), *SMALL)
    assert ended.code == 3
    assert "none of the 300 rows can be used: 300 missing_label; for example row 0 of rows.csv: the label" in ended.message
    ended.adds_up(read=300, quarantined=300)
    assert set(ended.quarantine.values()) == {"missing_label"}


def test_a_row_of_an_odd_shape_learns_as_any_other(run, tmp_path):
    """One row, of constant and huge and missing features, with a byte order mark and CR LF, and a label that comes too late."""
    path = tmp_path / "rows.csv"
    path.write_bytes("\ufeffclass,a,b,c\r\nyes,1e38,5,\r\n".encode())
    ended = run(path, "learners.shards=2", "learners.micro_batch_rows=1", "stream.label_delay_rows=1000")
    assert ended.code == 0
    ended.adds_up(read=1, quarantined=0)
    assert ended.predictions[0]["label"] == "yes"


@pytest.mark.parametrize(
    ("lines", "overrides", "code", "words"),
    [
        pytest.param((HEADER, *good_rows(9)), ("stream.label=Clas",), 2, "did you mean 'class'?", id="no_such_label"),
        pytest.param((HEADER,), (), 3, "no row that can be read", id="only_names"),
        pytest.param(
            (HEADER, *good_rows(40), "1,x,1"), ("stream.on_bad_row=stop",), 3, "row 40 of rows.csv", id="stop_at_bad_row"
        ),
        pytest.param(
            (HEADER, *(f"{i},{i},{i}" for i in range(1500))), (), 3, "set task.kind: regression", id="numbers_for_classes"
        ),
        pytest.param(
            (HEADER, *good_rows(9)), ("model={kind: python, factory: 'nowhere:f'}",), 2, "model.factory", id="no_such_model"
        ),
        pytest.param(
            (HEADER, *good_rows(9)), ("learners.shards=64",), 2, "64 CPUs, and the cluster has 4", id="too_many_shards"
        ),
    ],
)
def test_what_cannot_be_learned_from_ends_the_run_with_one_message(run, tmp_path, lines, overrides, code, words):
    ended = run(write(tmp_path / "rows.csv", *lines), *SMALL, *overrides)
    assert ended.code == code
    assert words in ended.message
    assert not list(tmp_path.glob("p.parquet*")), "a file of predictions that is none"


def test_two_systems_of_one_name_do_not_share_a_cluster(ray_cluster, tmp_path, capsys):
    import ray

    class Ingestor:
        def is_there(self) -> bool:
            return True

    named = {"name": "ingestor", "namespace": "perennial-taken", "lifetime": "detached", "num_cpus": 0}
    ray.init(address=ray_cluster, log_to_driver=False, configure_logging=False)
    assert ray.get(ray.remote(Ingestor).options(**named).remote().is_there.remote())
    ray.shutdown()
    try:
        arguments = ["--set", "name=taken", "--set", "stream.rows=100", "--set", f"storage={tmp_path}"]
        assert main(["run", "--once", "--address", ray_cluster, *arguments]) == 2
        assert "a system named 'taken' runs on this cluster already" in capsys.readouterr().err
    finally:
        ray.init(address=ray_cluster, log_to_driver=False, configure_logging=False)
        ray.kill(ray.get_actor("ingestor", namespace="perennial-taken"))
        ray.shutdown()
