"""Versions on storage: whole or not there, whatever happens to the writer or to the files."""

import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from actors.errors import ConfigError, DamagedVersionError, LearningError
from actors.learning.labels import FEEDBACK
from actors.version_store import VersionStore

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path):
    return VersionStore(str(tmp_path / "storage"))


def model(version):
    draw = np.random.default_rng(version)
    return {
        "weights": draw.normal(size=(3, 4)).astype(np.float32),
        "step": np.array(version),
        "none": None,
        "nan": float("nan"),
    }


def commit(store, version, parent=None, **more):
    return store.commit(
        version, parent, 5.0, {"rows": 10 * version}, {"model": model(version), **more.pop("parts", {})}, **more
    )


def same(found, version):
    assert repr(found) == repr(model(version))
    assert found["weights"].tobytes() == model(version)["weights"].tobytes()


def test_what_was_committed_comes_back(store):
    y = np.array([(1, np.nan, 0.5, 7)], FEEDBACK)
    written = commit(store, 42, parts={"replay-0": {"y": y, "empty": np.zeros((0, 3)), "flag": np.array(True)}})
    found, damaged = store.newest_whole()
    assert (found, damaged) == (written, [])
    [tree] = store.load(found, "model")
    same(tree, 42)
    [replay] = store.load(found, "replay-0")
    assert replay["y"].tobytes() == y.tobytes() and replay["empty"].shape == (0, 3) and bool(replay["flag"])
    assert (found.version, found.parent, found.about, store.versions()) == (42, None, {"rows": 420}, [42])


def test_a_version_is_never_written_again(store):
    commit(store, 1)
    with pytest.raises(ValueError, match=r"version 1 is in .* already"):
        commit(store, 1)


def test_changes_and_what_is_the_same_are_found_in_the_folders_of_earlier_versions(store, tmp_path):
    one = commit(store, 1, parts={"replay-0": [1], "production": [9]})
    two = commit(store, 2, one, parts={"replay-0": [2]}, changes=["replay-0"], same=["production"])
    three = commit(store, 3, two, parts={"replay-0": [3]}, changes=["replay-0"], same=["production"])
    assert store.load(three, "replay-0") == [[1], [2], [3]]
    assert store.load(three, "production") == [[9]]
    assert three.owners == {1, 2, 3}
    assert sorted(path.name for path in (tmp_path / "storage/versions/0000000003").iterdir()) == [
        "manifest.json", "model.safetensors", "replay-0.safetensors",
    ]  # fmt: skip


def test_a_heavy_chain_is_to_be_written_whole_again(store):
    manifest = commit(store, 1, parts={"replay-0": np.zeros(1000)})
    assert store.may_extend(manifest, "replay-0") and not store.may_extend(manifest, "replay-1")
    for version in (2, 3, 4):
        manifest = commit(store, version, manifest, parts={"replay-0": np.zeros(400)}, changes=["replay-0"])
    assert not store.may_extend(manifest, "replay-0")


def test_what_kept_versions_build_on_is_kept(store, tmp_path):
    manifests = [commit(store, 1, parts={"replay-0": [1]})]
    for version in range(2, 8):
        changes = ["replay-0"] if version != 4 else []
        manifests.append(commit(store, version, manifests[-1], parts={"replay-0": [version]}, changes=changes))
    (tmp_path / "storage/versions/0000000099.unfinished").mkdir()
    assert store.sweep({2, 6}) == 2
    assert store.versions() == [1, 2, 4, 5, 6]
    for version in (2, 6):
        store.check(store.manifest(version))
    assert not list((tmp_path / "storage/versions").glob("*.unfinished"))


def damages(folder):
    """Every way in which each file of a version may be wrong."""
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        draw = random.Random(len(content))
        flips = [draw.randrange(8 * len(content)) for _ in range(25)]
        for bit in flips:
            changed = bytearray(content)
            changed[bit // 8] ^= 1 << bit % 8
            yield path, f"bit {bit} flipped", bytes(changed)
        for size in (0, 1, len(content) // 2, len(content) - 1):
            yield path, f"cut off at {size}", content[:size]
        yield path, "longer", content + b" x"
        yield path, "gone", None


def test_whatever_is_wrong_with_a_version_is_noticed_and_the_one_before_is_the_newest(store, tmp_path):
    commit(store, 1)
    commit(store, 2, parts={"replay-0": {"x": np.arange(6.0), "seen": 6}})
    folder = tmp_path / "storage/versions/0000000002"
    kept = tmp_path / "kept"
    shutil.copytree(folder, kept)
    for path, what, content in damages(folder):
        path.write_bytes(content) if content is not None else path.unlink()
        found, damaged = store.newest_whole()
        assert (found.version, damaged) == (1, [2]), (path.name, what)
        with pytest.raises(DamagedVersionError, match=rf"version 2 in .* is damaged: {path.name}"):
            store.check(store.manifest(2))
        shutil.copyfile(kept / path.name, path)
    assert store.newest_whole()[0].version == 2


def test_a_damaged_version_is_set_aside_and_its_number_given_again(store, tmp_path):
    commit(store, 1)
    for _ in range(2):
        commit(store, 2)
        (tmp_path / "storage/versions/0000000002/model.safetensors").write_bytes(b"torn")
        store.set_aside(2)
        assert store.versions() == [1]
    commit(store, 2)
    assert store.newest_whole()[0].version == 2
    names = {path.name for path in (tmp_path / "storage/versions").iterdir()}
    assert names == {"0000000001", "0000000002", "0000000002.damaged-0", "0000000002.damaged-1"}


def test_a_version_of_another_layout_is_named(store, tmp_path):
    commit(store, 1)
    path = tmp_path / "storage/versions/0000000001/manifest.json"
    body = json.loads(path.read_text())["manifest"].replace('"layout": 1', '"layout": 7')
    path.write_text(json.dumps({"sha256": hashlib.sha256(body.encode()).hexdigest(), "manifest": body}))
    with pytest.raises(DamagedVersionError, match="its layout is 7, and this release reads 1"):
        store.manifest(1)


def test_where_storage_cannot_be_written_is_said(tmp_path):
    (tmp_path / "storage").write_text("a file")
    with pytest.raises(LearningError, match=r"version 1 cannot be written in .*storage: .*; make room there"):
        commit(VersionStore(str(tmp_path / "storage")), 1)
    with pytest.raises(ConfigError, match="ftp"):
        VersionStore("ftp://host/folder")


_COMMITTING = """
import sys
import numpy as np
from actors.version_store import VersionStore
sys.path.insert(0, sys.argv[2])
from test_version_store import commit

store = VersionStore(sys.argv[1])
newest, damaged = store.newest_whole()
for version in range(1 + (newest.version if newest else 0), 1_000_000):
    changes = ["replay-0"] if newest and store.may_extend(newest, "replay-0") else []
    newest = commit(store, version, newest, parts={"replay-0": np.full(1000, version)}, changes=changes)
    print(version, flush=True)
    if version % 7 == 0:
        store.sweep({version, version - 1})
"""


def test_whenever_the_writer_is_killed_the_last_version_it_told_of_is_whole(store, tmp_path):
    seed, told = random.Random(3), 0
    for _ in range(4):
        command = [sys.executable, "-c", _COMMITTING, str(tmp_path / "storage"), str(Path(__file__).parent)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
            lines = [process.stdout.readline() for _ in range(seed.randrange(1, 60))]
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().split()
        told = int((rest or [lines[-1]])[-1])
        newest, damaged = store.newest_whole()
        assert newest.version in (told, told + 1) and not damaged
        same(store.load(newest, "model")[0], newest.version)
        assert store.load(newest, "replay-0")[-1].tolist() == [newest.version] * 1000
    assert told > 10
