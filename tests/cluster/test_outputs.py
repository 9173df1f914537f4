"""What would end a run badly is refused before anything is started."""

import json
import logging
from pathlib import Path

import pytest

from actors.errors import ConfigError
from cluster.cli import OUR_PACKAGES, main
from cluster.outputs import check_apart, check_storage


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
    """`perennial run` with these words ends with 2 before Ray is started; returns what it says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cluster.run.learn", lambda *_: pytest.fail("the run was started"))

    def refused(*words: str) -> str:
        assert main(["run", *words]) == 2
        return capsys.readouterr().err

    return refused


@pytest.mark.parametrize("path", ["file", "file/below"])
@pytest.mark.parametrize("words", [["--set", "storage={}"], ["--report", "{}"], ["--predictions", "{}/p.parquet"]])
def test_a_place_that_cannot_be_written_is_refused_and_named(refused, path, words):
    Path("file").write_text("not a folder")
    message = refused(*(word.format(path) for word in words), "--set", "stream.rows=10")
    assert "which cannot be written" in message and repr(path)[1:-1] in message


def test_predictions_need_the_name_of_a_file(refused, tmp_path):
    assert "which is a folder; name a file in it" in refused("--predictions", str(tmp_path))


@pytest.mark.parametrize("storage", ["gopher://x/y", "s4://bucket"])
def test_a_storage_address_that_no_filesystem_knows_is_refused(storage):
    with pytest.raises(ConfigError, match=r"set it to a folder, or to an address such as file:///"):
        check_storage(storage)


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_trying_the_storage_makes_the_folder_and_leaves_nothing_in_it(tmp_path, prefix):
    check_storage(f"{prefix}{tmp_path}/a/b")
    assert list((tmp_path / "a/b").iterdir()) == []


@pytest.mark.parametrize(
    ("stream", "output"),
    [("data", "data/storage"), (".", "storage"), ("rows.parquet", "rows.parquet"), ("data", "other/../data/p.parquet")],
)
def test_an_output_that_the_stream_would_read_or_that_would_replace_it_is_refused(stream, output):
    with pytest.raises(ConfigError, match=r"belongs to stream\.path"):
        check_apart(stream, {"storage": Path(output)})


def test_outputs_beside_the_stream_are_welcome():
    check_apart(
        "data/rows.csv", {"storage": Path("data/storage"), "--report": Path("data"), "--predictions": Path("p.parquet")}
    )


@pytest.mark.parametrize("stream", [{"kind": "synthetic"}, {"kind": "files", "path": "rows.csv", "follow": True}])
def test_once_is_refused_for_a_stream_without_an_end(refused, stream):
    message = refused("--once", "--set", f"stream={json.dumps(stream)}")
    assert f"stream.kind: {stream['kind']}" in message and "--set stream.rows=20000" in message


def test_debug_makes_our_loggers_talk_and_no_others(refused):
    levels = {name: logging.getLogger(name).level for name in (*OUR_PACKAGES, "matplotlib")}
    try:
        refused("--debug", "--once")
        assert {logging.getLogger(name).level for name in OUR_PACKAGES} == {logging.DEBUG}
        assert not logging.getLogger("matplotlib").isEnabledFor(logging.DEBUG)
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
