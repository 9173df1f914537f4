"""What is kept on an object store: S3's interface, served on this machine by moto."""

from collections.abc import Iterator

import numpy as np
import pytest
from object_store import object_store
from pyarrow import fs

from actors.audit_log import AuditLog
from actors.quarantine import Quarantine
from actors.sources.source import BadRow, BadRowReason
from actors.storage import open_storage, shown
from actors.version_store import Manifest, VersionStore


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with object_store() as address:
        yield address


@pytest.fixture
def storage(address: str, request: pytest.FixtureRequest) -> str:
    return address.format(folder=f"{abs(hash(request.node.name))}/deeper")


def commit(store: VersionStore, version: int, parent: Manifest | None = None) -> Manifest:
    parts = {"model": {"weights": np.arange(version, dtype=np.float32)}, "replay-0": [version]}
    return store.commit(version, parent, 5.0, {"rows": version}, parts, changes=["replay-0"] if parent else [])


def test_versions_come_back_and_the_oldest_are_deleted(storage):
    store = VersionStore(storage)
    assert store.versions() == [] and store.newest_whole() == (None, [])
    one = commit(store, 1)
    two = commit(store, 2, one)
    commit(store, 3)
    again = VersionStore(storage)
    assert again.versions() == [1, 2, 3]
    assert again.load(again.manifest(2), "replay-0") == [[1], [2]] and again.manifest(2) == two
    assert again.load(two, "model")[0]["weights"].tolist() == [0.0, 1.0]
    assert again.sweep([2]) == 1 and again.versions() == [1, 2], "2 needs a file of 1"
    assert again.sweep([]) == 2 and again.versions() == []


def test_a_version_whose_manifest_was_never_written_is_none_and_is_cleared_away(storage):
    store = VersionStore(storage)
    one = commit(store, 1)
    commit(store, 2)
    files, root = open_storage(storage)
    files.delete_file(f"{root}/versions/0000000002/manifest.json")
    assert store.versions() == [1] and store.newest_whole() == (one, [])
    store.sweep([1])
    assert files.get_file_info(f"{root}/versions/0000000002").type == fs.FileType.NotFound
    assert commit(store, 2).version == 2


@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors"])
def test_a_damaged_version_is_set_aside_once_and_its_number_given_again(storage, name):
    store = VersionStore(storage)
    one = commit(store, 1)
    commit(store, 2)
    files, root = open_storage(storage)
    with files.open_output_stream(f"{root}/versions/0000000002/{name}") as stream:
        stream.write(b"torn")
    assert store.newest_whole() == (one, [2])
    store.set_aside(2)
    assert store.newest_whole() == (one, [])
    two = commit(store, 2)
    assert store.newest_whole() == (two, [])


def test_the_audit_log_and_the_quarantine(storage):
    log = AuditLog(storage)
    for version in (4, 5):
        log.append({"kind": "promoted", "version": version})
    log.append({"kind": "drift"}, {"kind": "promoted", "version": 6})
    assert [move["version"] for move in AuditLog(storage).read(10, ["promoted"])] == [4, 5, 6]
    assert [entry["kind"] for entry in log.read(2)] == ["drift", "promoted"]
    held = Quarantine(storage)
    held.add([BadRow("p", 3, BadRowReason.MALFORMED, "torn", {"a": 1})])
    held.close()
    files, root = open_storage(storage)
    [part] = files.get_file_info(fs.FileSelector(f"{root}/quarantine"))
    assert part.base_name == "part-000000.parquet"


def test_the_secret_in_an_address_is_not_shown(storage):
    assert "testing" in storage and "testing" not in shown(storage)
    assert shown("s3://bucket/path@5") == "s3://bucket/path@5" and shown("a@b/c") == "a@b/c"
