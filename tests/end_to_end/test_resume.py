"""A run that dies goes on from its newest durable version as if nothing had happened."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from object_store import object_store
from pyarrow import csv
from ray_head import RayHead
from systems import LiveSystem, Outcome, learn, learn_only, overrides_of, perennial
from waiting import wait_until

from actors.audit_log import AuditLog
from actors.event_journal import MOVES
from actors.learning.lineage import OffsetRange, OffsetSet
from actors.version_store import VersionStore

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

ROWS = 40_000
SETTINGS = (
    "model.kind=mlp",
    f"stream.rows={ROWS}", "stream.synthetic.rate_rows_per_s=null", "stream.label_delay_rows=300", "replay.strategy=reservoir",
    "replay.shards=2", "learners.micro_batch_rows=4", "versions.commit_rows=3000",
    "stream.synthetic.drift_every_rows=10000", "promotion.regimes.score_every_rows=4000",
)  # fmt: skip


def pids_of(system: LiveSystem, *names: str) -> list[int] | None:
    status = system.status()
    pids = [actor["pid"] for actor in status["actors"] if actor["name"] in names] if status else []
    return pids if len(pids) == len(names) and all(pids) else None


def digest(folder: Path) -> str:
    newest, damaged = VersionStore(str(folder / "storage")).newest_whole()
    assert newest is not None and not damaged
    found: str = newest.about["lineage"]["digest"]
    return found


@pytest.fixture(scope="module")
def undisturbed(ray_cluster: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, learn(ray_cluster, folder, "undisturbed", *SETTINGS)


@pytest.fixture(scope="module")
def killed(shared_ray: RayHead, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a run that lost its evaluator and a replay shard, and was then killed with no chance to say anything."""
    folder = tmp_path_factory.mktemp("killed")
    with LiveSystem(shared_ray.address, folder, "killed", *SETTINGS, once=True, predictions=False) as system:
        store = VersionStore(str(folder / "storage"))
        pids = wait_until(lambda: pids_of(system, "evaluator", "replay-1"), 90, "word of the actors")
        first = wait_until(store.versions, 30, "a durable version")[-1]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: store.versions()[-1] > first, 60, "a version after their deaths")
        os.killpg(system.process.pid, signal.SIGKILL)
    newest, _ = store.newest_whole()
    assert newest is not None and newest.about["rows"] < ROWS, "it was killed before its end"
    yield folder


def test_a_killed_run_goes_on_to_the_same_model_and_the_same_scores(
    undisturbed: tuple[Path, Outcome], killed: Path, ray_cluster: str
) -> None:
    folder, whole = undisturbed
    done = learn(ray_cluster, killed, "killed", *SETTINGS)
    for each in (whole, done):
        rows = each.report["rows"]
        assert (rows["read"], rows["tested"], rows["trained"]) == (ROWS, ROWS, ROWS)
        assert (rows["lost"], rows["duplicated"]) == (0, 0)
    assert digest(killed) == digest(folder)
    assert done.report["versions"]["head"] == whole.report["versions"]["head"]
    assert done.report["prequential"] == whole.report["prequential"]
    assert done.report["drift"] == whole.report["drift"]
    assert done.report["regimes"] == whole.report["regimes"]
    told = json.loads(perennial("events", "--json", "--set", f"storage={killed / 'storage'}", cwd=killed).stdout)["events"]
    assert [each["data"]["rows"] > 0 for each in told if each["kind"] == "started"] == [False, True]
    alarms = {each["row"] for each in done.report["drift"]}
    assert max(alarms) in {each["data"]["row"] for each in told if each["kind"] == "drift"} <= alarms
    assert whole.report["regimes"]["past"] and whole.report["regimes"]["forgetting"] is not None


def test_a_damaged_version_is_named_and_the_one_before_is_gone_on_from(
    undisturbed: tuple[Path, Outcome], ray_cluster: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder, whole = undisturbed
    before, store = digest(folder), VersionStore(str(folder / "storage"))
    newest = store.versions()[-1]
    path = folder / f"storage/versions/{newest:010d}/model.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    done = learn(ray_cluster, folder, "undisturbed", *SETTINGS)
    assert f"version {newest} in {folder / 'storage'} is damaged: model.safetensors" in caplog.text
    assert digest(folder) == before
    assert done.report["rows"]["trained"] == ROWS and done.report["rows"]["duplicated"] == 0
    assert store.versions()[-1] == newest == whole.report["versions"]["head"]


def test_what_storage_holds_is_not_overwritten_nor_mixed_with_another_model(undisturbed: tuple[Path, Outcome]) -> None:
    folder, _ = undisturbed
    common = ("--no-serve", "--once", "--set", f"storage={folder / 'storage'}", "--set", "stream.rows=10")
    fresh = perennial("run", *common, "--fresh", cwd=folder)
    assert fresh.returncode == 2 and "--fresh would overwrite" in fresh.stderr and "--force" in fresh.stderr
    other = perennial("run", *common, "--set", "model.hidden=[3]", cwd=folder)
    assert other.returncode == 2 and "model.hidden is [3], but version" in other.stderr


def test_the_history_can_be_read_when_nothing_runs(undisturbed: tuple[Path, Outcome]) -> None:
    folder, whole = undisturbed
    storage = ("--set", f"storage={folder / 'storage'}", "--json")
    log = json.loads(perennial("log", *storage, cwd=folder).stdout)
    newest, before = log["versions"][:2]
    assert (
        newest["version"] == whole.report["versions"]["head"]
        and newest["rows"] == ROWS
        and newest["parent"] == before["version"]
    )
    assert newest["scores"]["metric"] == "accuracy" and "shadow" in newest["aliases"]
    shown = json.loads(perennial("show", str(newest["version"]), *storage, cwd=folder).stdout)
    assert shown["lineage"]["trained"] == {"synthetic": [before["rows"], ROWS]}
    assert sum(shown["lineage"]["shards"].values()) == ROWS - before["rows"]
    changed = json.loads(perennial("diff", str(before["version"]), str(newest["version"]), *storage, cwd=folder).stdout)
    assert changed["rows"] == ROWS - before["rows"]
    assert changed["learned"] == [{"partition": "synthetic", "start": before["rows"], "stop": ROWS}]
    assert all(0 < each["change"] < 1 for each in changed["tensors"] if each["name"].endswith("weight"))
    assert [each["name"] for each in changed["layers"]] == ["layers.0", "layers.1", "layers.2"]
    assert changed["regimes"][-1]["stop"] == ROWS and all(0 <= each["after"] <= 1 for each in changed["regimes"])
    assert newest["trigger"] == "end" and before["trigger"] in {"rows", "time"}
    assert shown["config_digest"] and shown["trigger"] == "end" and "shards" in newest["lineage"]
    text = perennial("diff", str(before["version"]), str(newest["version"]), *storage[:2], cwd=folder).stdout
    assert "layers.0" in text and "(the present regime)" in text
    missing = perennial("show", "99999", *storage, cwd=folder)
    assert missing.returncode == 1 and f"the nearest are {before['version']} and {newest['version']}" in missing.stderr


POISON = ("model.kind=mlp", "stream.kind=files", "replay.ratio=0", "versions.commit_rows=500", "versions.keep_last=50")


@pytest.fixture(scope="module")
def poisoned(ray_cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run over `stream.csv`, whose labels are wrong from row 6,000 on; in `clean.csv` they are right."""
    folder = tmp_path_factory.mktemp("poisoned")
    draw = np.random.default_rng(3)
    x_ND = draw.normal(size=(9_000, 3)).round(4)
    right_N = (x_ND[:, 0] + x_ND[:, 1] > 0).astype(int)
    wrong_N = np.where(np.arange(9_000) >= 6_000, 1 - right_N, right_N)
    for name, label_N in (("stream", wrong_N), ("clean", right_N)):
        columns = {**{f"x{i}": x_ND[:, i] for i in range(3)}, "class": label_N}
        csv.write_csv(pa.table(columns), folder / f"{name}.csv")
    learn(ray_cluster, folder, "poisoned", *POISON, f"stream.path={folder / 'stream.csv'}")
    return folder


def test_the_version_that_learned_wrong_labels_is_found(poisoned: Path) -> None:
    command = ("bisect", "--data", "clean.csv", "--set", f"storage={poisoned / 'storage'}", "--json")
    found = json.loads(perennial(*command, cwd=poisoned).stdout)
    [start, stop] = found["lineage"]["trained"]["stream.csv"]
    assert stop > 6_000 and start < 8_000, "it learned the first wrong labels"
    assert len(found["scores"]) <= 2 + int(np.ceil(np.log2(found["candidates"]))) < found["candidates"]
    nothing = perennial(*command, "--threshold", "0.01", cwd=poisoned)
    assert nothing.returncode == 2 and "no version between them made it worse than 0.0100" in nothing.stderr


def test_reverted_rows_leave_no_trace_and_production_stays_until_somebody_promotes(poisoned: Path, ray_cluster: str) -> None:
    short = poisoned / "short"
    short.mkdir()
    lines = (poisoned / "stream.csv").read_text().splitlines(keepends=True)
    (short / "stream.csv").write_text("".join(lines[: 1 + 6_000]))
    learn(ray_cluster, short, "short", *POISON, f"stream.path={short / 'stream.csv'}")
    settings = (*POISON, f"stream.path={poisoned / 'stream.csv'}")
    words = [word for each in overrides_of(ray_cluster, poisoned, "poisoned", settings) for word in ("--set", each)]
    unknown = perennial("revert", *words, "--source", "x", "--offsets", "1:2", cwd=poisoned)
    assert unknown.returncode == 2 and "known are 'stream.csv'" in unknown.stderr
    command = ("revert", *words, "--json", "--source", "stream.csv", "--offsets")
    done = json.loads(perennial(*command, "6000:9000", cwd=poisoned).stdout)
    production = done["production"]
    assert production == done["instead_of"] < done["version"] and 0 < done["rebuilt_from"] < production
    assert done["is_complete"] and done["rows"] == 6_000 and done["excluded"] == [["stream.csv", 6_000, 9_000]]
    assert digest(poisoned) == digest(short), "the model that has never seen them"
    # From the very beginning: no durable version lies before row 100.
    again = json.loads(perennial(*command, "100:200", cwd=poisoned).stdout)
    assert again["rebuilt_from"] == 0 and again["rows"] == 5_900 and again["production"] == production
    after = learn(ray_cluster, poisoned, "poisoned", *settings).report
    assert after["rows"]["quarantined_by_reason"] == {"excluded": 3_100} and after["rows"]["lost"] == 0
    assert after["versions"]["production"] == production


def test_after_a_rollback_the_log_is_learned_again_without_what_made_it_worse(
    ray_cluster: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    draw = np.random.default_rng(3)
    x_ND = draw.normal(size=(10_000, 3)).round(4)
    right_N = (x_ND[:, 0] + x_ND[:, 1] > 0).astype(int)
    # From the second version on: whoever learns them is better, until they end.
    is_wrong_N = (np.arange(10_000) >= 128) & (np.arange(10_000) < 3_000)
    columns = {**{f"x{i}": x_ND[:, i] for i in range(3)}, "class": np.where(is_wrong_N, 1 - right_N, right_N)}
    csv.write_csv(pa.table(columns), tmp_path / "stream.csv")
    settings = (
        "model.kind=mlp",
        f"stream.path={tmp_path / 'stream.csv'}", "stream.kind=files", "replay.ratio=0", "learners.round_rows=64",
        "versions.commit_rows=500", "versions.keep_last=50", "promotion.policy=evidence", "promotion.after_rollback=restore",
    )  # fmt: skip
    words = [word for setting in settings for word in ("--set", setting)]
    refused = perennial("run", "--once", "--predictions", "p.parquet", *words, cwd=tmp_path)
    assert refused.returncode == 2 and "leave one out" in refused.stderr
    report = learn_only(ray_cluster, tmp_path, "restored", *settings)
    excluded = report["rows"]["quarantined_by_reason"]["excluded"]
    assert report["rows"]["read"] == 10_000 and report["rows"]["trained"] == 10_000 - excluded
    assert report["rows"]["lost"] == report["rows"]["duplicated"] == 0
    assert "learns again what came since without" in caplog.text
    newest, _ = VersionStore(str(tmp_path / "storage")).newest_whole()
    assert newest is not None
    wrong = OffsetSet(OffsetRange(*each) for each in newest.about["excluded"]).overlap(OffsetRange("stream.csv", 128, 3_000))
    assert 0 < wrong <= excluded, "some of the wrong rows have left no trace"
    kinds = [entry["kind"] for entry in AuditLog(str(tmp_path / "storage")).read(1_000, (*MOVES, "started"))]
    assert kinds.count("started") >= 2 and kinds[kinds.index("rolled_back") + 1] == "started"


def test_an_object_store_holds_all_that_a_run_goes_on_from(ray_cluster: str, tmp_path: Path) -> None:
    with object_store() as address:
        storage = address.format(folder="run")
        settings = ("model.kind=mlp", "versions.commit_rows=2000", f"storage={storage}")
        before = learn(ray_cluster, tmp_path, "remote", *settings, "stream.rows=5000").report
        after = learn(ray_cluster, tmp_path, "remote", *settings, "stream.rows=8000").report
    assert after["versions"]["head"] > before["versions"]["head"]
    assert (after["rows"]["trained"], after["rows"]["lost"], after["rows"]["duplicated"]) == (8_000, 0, 0)
    assert "testing:testing" not in json.dumps(after)


def test_production_moves_on_evidence_and_the_audit_log_says_why(ray_cluster: str, tmp_path: Path) -> None:
    settings = ("model.kind=mlp", "stream.rows=20000", "stream.synthetic.rate_rows_per_s=null", "promotion.policy=evidence")
    done = learn(ray_cluster, tmp_path, "gated", *settings)
    versions = done.report["versions"]
    assert versions["promoted"] >= 1 and 1 < versions["production"] < versions["head"], (
        "better than the first, and not just the last"
    )
    moves = AuditLog(str(tmp_path / "storage")).read(100, MOVES)
    assert moves[0]["by"] == "gate" and "errs less than version 1" in moves[0]["reason"]
    manifest, _ = VersionStore(str(tmp_path / "storage")).newest_whole()
    assert manifest is not None
    assert f"model-{versions['production']}" in manifest.parts, "what production is can be gone on from"
