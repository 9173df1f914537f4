"""The system as a Ray job: submitted to a cluster, asked from outside, and gone when it is told to stop."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ray_head import ROOT, RayHead, ray_head
from systems import END_TIMEOUT_S, Outcome, outcome_of, perennial
from waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

SMALL = ("model.kind=mlp", "learners.shards=1", "replay.ratio=0")


@pytest.fixture(scope="module")
def job_ray() -> Iterator[RayHead]:
    """A cluster with a dashboard, which is what takes jobs."""
    with ray_head(dashboard=True) as head:
        yield head


def run_command(folder: Path, name: str, *overrides: str) -> list[str]:
    settings = [f"name={name}", f"storage={folder / 'storage'}", *SMALL, *overrides]
    files = ["--report", str(folder / "report"), "--predictions", str(folder / "p.parquet")]
    return ["run", "--no-serve", *files, *(word for setting in settings for word in ("--set", setting))]


def assert_learned(done: Outcome) -> None:
    rows = done.report["rows"]
    assert rows["lost"] == rows["duplicated"] == 0 and rows["trained"] == rows["tested"] >= 2000
    assert np.array_equal(done.predictions["row"].to_numpy(), np.arange(rows["tested"]))
    assert done.correct_N[-1000:].mean() > 0.75


def test_a_job_submitted_with_rays_own_command_learns_and_succeeds(job_ray, tmp_path):
    ray = str(Path(sys.executable).with_name("ray"))
    submitted = subprocess.run(
        [ray, "job", "submit", "--address", job_ray.dashboard, "--working-dir", ".", "--",
         "python", "-m", "cluster", *run_command(tmp_path, "by-ray", "stream.rows=6000"), "--once"],
        cwd=ROOT, env=os.environ | {"HOME": str(tmp_path)}, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    done = outcome_of(tmp_path)
    done.rows_add_up(6000)
    assert_learned(done)


def test_a_submitted_run_can_be_asked_and_stopped_from_outside_and_leaves_no_actor(job_ray, tmp_path):
    command = run_command(tmp_path, "by-us", "stream.synthetic.rate_rows_per_s=2000")
    with following(job_ray, tmp_path, command) as submission:
        here = ("--address", job_ray.address, "--set", "name=by-us")

        def has_learned() -> bool:
            assert submission.poll() is None, (tmp_path / "log.txt").read_text()
            asked = perennial("status", "--json", *here, cwd=tmp_path)
            return asked.returncode == 0 and json.loads(asked.stdout)["stream"]["trained"] >= 2000

        wait_until(has_learned, 120, "2000 rows learned by the job")
        assert len(named_actors(job_ray.address, "by-us")) == 4
        stopped = perennial("stop", *here, cwd=tmp_path)
        assert stopped.returncode == 0, stopped.stderr
        assert submission.wait(END_TIMEOUT_S) == 0, (tmp_path / "log.txt").read_text()
    assert_learned(outcome_of(tmp_path))
    wait_until(lambda: not named_actors(job_ray.address, "by-us"), 30, "the end of the job's actors")


def following(head: RayHead, folder: Path, command: list[str]) -> "subprocess.Popen[bytes]":
    """`perennial submit`, which follows the job to its end."""
    with (folder / "log.txt").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "cluster", "submit", "--address", head.dashboard, "--working-dir", ".", "--", *command],
            cwd=ROOT, stdout=log, stderr=log,
        )  # fmt: skip


def named_actors(address: str, name: str) -> list[str]:
    import ray

    ray.init(address=address, log_to_driver=False)
    try:
        actors = ray.util.list_named_actors(all_namespaces=True)
    finally:
        ray.shutdown()
    return [actor["name"] for actor in actors if actor["namespace"] == f"perennial-{name}"]
