"""What learners find out about rows comes back to the memory, and comes back the same whoever dies."""

import os
import signal
from pathlib import Path

import pytest
from ray_head import RayHead
from systems import LiveSystem, learn
from waiting import wait_until

from actors.version_store import VersionStore

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

ROWS = 24_000
SETTINGS = (
    f"stream.rows={ROWS}", "stream.synthetic.rate_rows_per_s=null", "stream.synthetic.drift=new_class", "replay.shards=2",
    "stream.synthetic.classes=4", "stream.synthetic.drift_every_rows=5000", "stream.label_delay_rows=100",
    "model.kind=mlp", "replay.strategy=prioritized", "learners.regularizer=der", "learners.epochs=2",
    "learners.micro_batch_rows=8", "versions.commit_rows=3000",
)  # fmt: skip


def newest(folder: Path) -> tuple[str, list]:
    store = VersionStore(str(folder / "storage"))
    manifest, _ = store.newest_whole()
    assert manifest is not None
    return manifest.about["lineage"]["digest"], [store.load(manifest, f"replay-{shard}")[-1] for shard in range(2)]


def test_priorities_and_remembered_outputs_survive_the_death_of_a_learner_and_of_a_replay_shard(
    shared_ray: RayHead, tmp_path: Path
) -> None:
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    for folder in (calm, killed):
        folder.mkdir()
    report = learn(shared_ray.address, calm, "calm", *SETTINGS).report
    assert (report["rows"]["trained"], report["rows"]["lost"], report["rows"]["duplicated"]) == (ROWS, 0, 0)
    with LiveSystem(shared_ray.address, killed, "killed", *SETTINGS, once=True, predictions=False) as system:
        store = VersionStore(str(killed / "storage"))

        def pid_of(name: str) -> int | None:
            status = system.status()
            return next((actor["pid"] for actor in status["actors"] if actor["name"] == name), None) if status else None

        for name in ("learner-0", "replay-1"):
            pid = wait_until(lambda name=name: pid_of(name), 90, f"word of {name}")
            before = wait_until(store.versions, 60, "a durable version")[-1]
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda before=before: store.versions()[-1] > before, 90, f"a version after the death of {name}")
        os.killpg(system.process.pid, signal.SIGKILL)
    learn(shared_ray.address, killed, "killed", *SETTINGS)
    (calm_digest, calm_memory), (digest, memory) = newest(calm), newest(killed)
    assert digest == calm_digest
    for one, other in zip(calm_memory, memory, strict=True):
        assert one["memory"]["rng"] == other["memory"]["rng"] and one["memory"]["largest"] == other["memory"]["largest"] > 1.0
