from pathlib import Path

import pytest

from cluster.cli import parse
from cluster.config import load_config
from cluster.submit import Submission, ignore_file_of, what_stays_behind


def warnings_of(folder: Path, *arguments: str) -> list[str]:
    options = parse(["run", *arguments])
    path = folder / options.config if options.config and (folder / options.config).exists() else None
    return list(what_stays_behind(folder, options, load_config(path, options.overrides)))


def csv_stream(path: str) -> tuple[str, ...]:
    return ("--set", f"stream={{kind: files, path: {path}, label: y}}", "--set", "storage=/mnt/shared")


def test_the_entrypoint_is_quoted_for_the_shell_of_the_cluster():
    submission = Submission("http://h:8265", Path("."), ("run", "--set", "stream={kind: files, path: a b.csv}"))
    assert submission.entrypoint == "python -m cluster run --set 'stream={kind: files, path: a b.csv}'"


def test_a_file_that_is_sent_along_needs_no_warning(tmp_path):
    (tmp_path / "rows.csv").write_text("x,y\n")
    assert warnings_of(tmp_path, *csv_stream("rows.csv")) == []


@pytest.mark.parametrize(
    ("ignore_file", "pattern"),
    [(".gitignore", "data/"), (".gitignore", "*.csv"), (".rayignore", "/data/rows.csv"), ("data/.gitignore", "rows.csv")],
)
def test_a_file_that_an_ignore_file_excludes_is_told(tmp_path, ignore_file, pattern):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.csv").write_text("x,y\n")
    (tmp_path / ignore_file).write_text(f"{pattern}\n")
    (warning,) = warnings_of(tmp_path, *csv_stream("data/rows.csv"))
    assert warning.startswith("stream.path data/rows.csv is excluded by") and warning.count(ignore_file) == 1


def test_a_file_that_is_not_there_is_told(tmp_path):
    (warning,) = warnings_of(tmp_path, *csv_stream("rows.csv"))
    assert warning.startswith("stream.path rows.csv is not in")


def test_an_ignored_configuration_is_told(tmp_path):
    (tmp_path / "local.yaml").write_text("storage: /mnt/shared\n")
    (tmp_path / ".gitignore").write_text("local.yaml\n")
    (warning,) = warnings_of(tmp_path, "--config", "local.yaml")
    assert warning.startswith("--config local.yaml is excluded by")


def test_an_absolute_path_must_be_on_every_node(tmp_path):
    (warning,) = warnings_of(tmp_path, *csv_stream("/data/rows.csv"))
    assert "on every node" in warning


def test_what_a_job_writes_to_a_relative_path_stays_on_the_cluster(tmp_path):
    told = warnings_of(tmp_path, "--report", "out", "--predictions", "out/p.parquet")
    assert [warning.split(" ")[0] for warning in told] == ["storage", "--report", "--predictions"]


def test_addresses_of_object_storage_mean_the_same_everywhere(tmp_path):
    assert warnings_of(tmp_path, "--set", "storage=s3://bucket/perennial") == []


def test_no_ignore_file_excludes_nothing(tmp_path):
    (tmp_path / "rows.csv").write_text("")
    assert ignore_file_of(tmp_path, Path("rows.csv")) is None
