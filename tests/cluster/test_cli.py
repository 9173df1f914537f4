import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.cli import parse

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 60


def perennial(*arguments: str, cwd: Path, path: str | None = str(ROOT), **run) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own, in a folder without a configuration file."""
    environment = os.environ | ({"PYTHONPATH": path} if path else {})
    return subprocess.run(
        [sys.executable, "-m", "cluster", *arguments],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, **run,
    )  # fmt: skip


def test_help_names_every_command_and_the_exit_codes(tmp_path):
    done = perennial("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert [name for name in ("run", "submit", "status", "stop", "config", "Exit codes") if name not in done.stdout] == []


def test_neither_help_nor_config_nor_history_imports_ray_or_torch(tmp_path):
    code = "import sys; from cluster.cli import main; main(sys.argv[1:]); print(sorted({'ray', 'torch'} & set(sys.modules)))"
    for arguments in (["run", "--help"], ["config", "--check"], ["config"], ["log"], ["events"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=TIMEOUT_S,
        )  # fmt: skip
        assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["learn"],
        ["run", "--onc"],
        ["run", "--once=yes"],
        ["run", "extra"],
        ["config", "--check", "--json"],
        ["stop", "--timeout", "soon"],
        ["stop", "--timeout", "-1"],
        ["submit"],
        ["submit", "run"],
        ["submit", "--", "run", "--nonsense"],
        ["submit", "--", "submit", "--", "run"],
        ["run", "--", "run"],
    ],
)
def test_bad_usage_ends_with_2_and_says_what_is_wrong(arguments, tmp_path):
    done = perennial(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and "error:" in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("command", ["run", "status", "stop", "config"])
def test_a_bad_configuration_ends_every_command_with_2_and_one_message(command, tmp_path):
    done = perennial(command, "--set", "learners.shard=3", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == (
        "perennial: the configuration with --set: 1 problem\n  learners.shard: unknown key; did you mean learners.shards?\n"
    )


def test_a_bad_configuration_is_found_before_anything_is_submitted(tmp_path):
    done = perennial("submit", "--address", "http://127.0.0.1:1", "--", "run", "--set", "learners.shard=3", cwd=tmp_path)
    assert done.returncode == 2 and "did you mean learners.shards?" in done.stderr


def test_config_prints_a_file_that_can_be_used_as_one(tmp_path):
    first = perennial("config", "--set", "learners.shards=7", "--set", "stream.label=yes", cwd=tmp_path)
    assert first.returncode == 0 and first.stderr == ""
    (tmp_path / "ray_config.yaml").write_text(first.stdout)
    second = perennial("config", cwd=tmp_path)
    assert second.stdout == first.stdout


def test_config_json_is_one_document_with_the_values_in_force(tmp_path):
    document = json.loads(perennial("config", "--json", "--set", "learners.shards=7", cwd=tmp_path).stdout)
    assert document["learners"]["shards"] == 7 and document["task"]["kind"] == "classification"


def test_config_check_only_validates(tmp_path):
    done = perennial("config", "--check", cwd=tmp_path)
    assert done.returncode == 0 and "is valid" in done.stdout and "shards" not in done.stdout


def test_the_file_in_the_working_directory_counts_unless_another_is_named(tmp_path):
    (tmp_path / "ray_config.yaml").write_text("seed: 11\n")
    (tmp_path / "other.yaml").write_text("seed: 12\n")
    assert json.loads(perennial("config", "--json", cwd=tmp_path).stdout)["seed"] == 11
    assert json.loads(perennial("config", "--json", "--config", "other.yaml", cwd=tmp_path).stdout)["seed"] == 12
    missing = perennial("config", "--config", "absent.yaml", cwd=tmp_path)
    assert missing.returncode == 2 and "absent.yaml: there is no such file" in missing.stderr


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "cluster", "config"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(TIMEOUT_S) == 0


@pytest.mark.parametrize("script", ["cluster/cli.py", "cluster"])
def test_running_the_folder_or_the_file_is_refused_with_the_right_command(script, tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / script), "config"], cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert done.returncode == 1 and "python -m cluster" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("file", ["serve/__init__.py", "serve.py", "actors/__init__.py"])
def test_a_package_of_the_users_that_hides_ours_is_named(file, tmp_path):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("")
    code = f"import sys; sys.path[0] = {str(ROOT)!r}; from cluster.cli import main; sys.exit(main(['config']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 2 and str(tmp_path / file) in done.stderr and "another folder" in done.stderr


def test_a_folder_of_the_users_that_is_no_package_is_none_of_our_business(tmp_path):
    (tmp_path / "serve").mkdir()
    assert perennial("config", "--check", cwd=tmp_path).returncode == 0


def test_what_nobody_foresaw_ends_with_1_and_its_traceback_only_on_request(tmp_path):
    code = (
        "import sys, cluster.config; from cluster.cli import main\n"
        "def broken(config): raise ZeroDivisionError('no such luck')\n"
        "cluster.config.render_config = broken\nsys.exit(main(['config', *sys.argv[1:]]))"
    )
    for flags, has_traceback in (([], False), (["--debug"], True)):
        done = subprocess.run(
            [sys.executable, "-c", code, *flags],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=TIMEOUT_S,
        )  # fmt: skip
        assert done.returncode == 1 and "ZeroDivisionError: no such luck" in done.stderr
        assert ("Traceback" in done.stderr) is has_traceback


def test_what_follows_the_dashes_is_the_submitted_command():
    options = parse(["submit", "--address", "http://h:8265", "--", "run", "--once", "--set", "a=1"])
    assert options.entrypoint == ["run", "--once", "--set", "a=1"] and options.submitted.once
    assert options.address == "http://h:8265" and options.wait


def test_nothing_answering_at_the_address_is_told_with_the_likely_cause(tmp_path):
    done = perennial("submit", "--address", "http://127.0.0.1:1", "--", "config", cwd=tmp_path)
    assert done.returncode == 1 and "no Ray dashboard answers at http://127.0.0.1:1" in done.stderr
    assert "ray start --head" in done.stderr and "Traceback" not in done.stderr


def test_an_address_that_is_no_url_is_refused_with_the_right_form(tmp_path):
    done = perennial("submit", "--address", "headnode:6379", "--", "config", cwd=tmp_path)
    assert done.returncode == 2 and "http://headnode:8265" in done.stderr
