"""Versions on `storage`: each whole or not there, checked when it is read, never changed.

    versions/0000000042/manifest.json        what it is, and the checksum of every file; written last
    versions/0000000042/<part>.safetensors   the arrays of a part: model, replay-0, evaluator, ...

A part is a chain of files: a whole one and the changes since, the older ones in the folders of earlier versions. On a local
filesystem a version is made under another name, fsynced and renamed; on an object store its manifest comes last, in one step.
"""

import hashlib
import json
import logging
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyarrow import fs
from safetensors import SafetensorError
from safetensors.numpy import load, save

from actors.errors import DamagedVersionError, LearningError
from actors.learning.part import Part, Tree, pack, unpack
from actors.storage import open_storage, shown

logger = logging.getLogger(__name__)

LAYOUT = 1
_FOLDER, _MANIFEST = "versions", "manifest.json"
_DIGITS = 10
_ASIDE, _UNFINISHED = ".damaged", ".unfinished"
_LONGEST_CHAIN = 32


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a part, in the folder of `version`. `plain` is what the part has besides arrays, as of that file."""

    version: int
    name: str
    nbytes: int
    sha256: str
    plain: Any


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a version is. `about` is what whoever committed it says: lineage, scores, trigger, configuration."""

    version: int
    parent: int | None  # the durable version before it
    created_at: float  # seconds since 1970, UTC
    about: Mapping[str, Any]
    parts: Mapping[str, tuple[FileEntry, ...]]

    @property
    def owners(self) -> set[int]:
        """The versions whose folders hold its files."""
        return {self.version, *(entry.version for chain in self.parts.values() for entry in chain)}

    @property
    def nbytes(self) -> int:
        """Of the files that came with it."""
        return sum(entry.nbytes for chain in self.parts.values() for entry in chain if entry.version == self.version)

    def to_json(self) -> dict[str, Any]:
        parts = {
            name: [{field: getattr(entry, field) for field in FileEntry.__slots__} for entry in chain]
            for name, chain in self.parts.items()
        }
        return {
            "layout": LAYOUT,
            "version": self.version,
            "parent": self.parent,
            "created_at": self.created_at,
            "about": dict(self.about),
            "parts": parts,
        }


class VersionStore:
    """One writer, any number of readers. Raises LearningError where storage cannot be reached or written."""

    def __init__(self, storage: str) -> None:
        self._storage = shown(storage)
        self._files, root = open_storage(storage)
        self._root = f"{root}/{_FOLDER}"
        self._is_local = isinstance(self._files, fs.LocalFileSystem)
        self._owners: dict[int, tuple[int, ...]] = {}  # of versions whose manifests have been read: they never change

    # --- write

    def commit(
        self,
        version: int,
        parent: Manifest | None,
        created_at: float,
        about: Mapping[str, Any],
        parts: Mapping[str, Tree],
        changes: Collection[str] = (),
        same: Collection[str] = (),
    ) -> Manifest:
        """Makes `version` durable. `changes` names the parts that hold only what has changed since `parent`.

        `same` names parts that are as they were in `parent`: they are not in `parts`.

        Raises ValueError where the version is there already: versions are immutable.
        """
        with self._translated(f"version {version} cannot be written"):
            if self._exists(version):
                raise ValueError(f"version {version} is in {self._storage} already, and a version is never written again")
            folder = self._folder(version) + (_UNFINISHED if self._is_local else "")
            self._remove(folder)
            self._files.create_dir(folder, recursive=True)
            chains = {name: parent.parts[name] for name in same} if parent is not None else {}
            for name, tree in parts.items():
                before = parent.parts[name] if parent is not None and name in changes else ()
                chains[name] = (*before, self._write_part(folder, version, name, pack(tree)))
            manifest = Manifest(version, parent.version if parent else None, created_at, about, chains)
            body = json.dumps(manifest.to_json(), allow_nan=False)
            self._write(f"{folder}/{_MANIFEST}", json.dumps({"sha256": _sha256(body.encode()), "manifest": body}).encode())
            if self._is_local:
                _sync(folder)
                os.rename(folder, self._folder(version))
                _sync(self._root)
            return manifest

    def may_extend(self, manifest: Manifest, part: str) -> bool:
        """Whether changes may be added to the part's chain; a long or heavy one is to be written whole again."""
        chain = manifest.parts.get(part, ())
        return 0 < len(chain) < _LONGEST_CHAIN and sum(entry.nbytes for entry in chain[1:]) <= chain[0].nbytes

    def set_aside(self, version: int) -> None:
        """Takes a damaged version out of the way, so that its number can be given again; on an object store, its manifest."""
        with self._translated(f"version {version} cannot be set aside"):
            taken = set(self._names())
            name = self._folder(version).rpartition("/")[2]
            aside = next(n for i in range(len(taken) + 1) if (n := f"{name}{_ASIDE}-{i}") not in taken)
            if self._is_local:
                os.rename(self._folder(version), f"{self._root}/{aside}")
                _sync(self._root)
                return
            self._files.move(f"{self._folder(version)}/{_MANIFEST}", f"{self._root}/{aside}/{_MANIFEST}")

    def sweep(self, keep: Collection[int]) -> int:
        """Deletes what is neither in `keep` nor needed by those; returns how many. Interrupted, it leaves whole versions."""
        with self._translated("old versions cannot be deleted"):
            needed = set(keep)
            for version in keep:
                try:
                    if version not in self._owners:
                        self._owners[version] = tuple(self.manifest(version).owners)
                except DamagedVersionError:
                    logger.warning("version %d is damaged, and what it needs cannot be told: nothing is deleted", version)
                    return 0
                needed.update(self._owners[version])
            versions = set(self.versions())
            for version in versions - needed:  # without its manifest a folder is no version
                folder = self._folder(version)
                if self._is_local:
                    os.rename(folder, folder + _UNFINISHED)
                else:
                    self._files.delete_file(f"{folder}/{_MANIFEST}")
                self._owners.pop(version, None)
            for name in self._names():
                if name.endswith(_UNFINISHED) or set(_numbers([name])) - needed:
                    self._remove(f"{self._root}/{name}")
            return len(versions - needed)

    # --- read

    def versions(self) -> list[int]:
        """Ascending; whether they are whole shows when they are read."""
        with self._translated("the versions cannot be listed"):
            if self._is_local:
                return sorted(_numbers(self._names()))
            files = self._files.get_file_info(fs.FileSelector(self._root, allow_not_found=True, recursive=True))
            folders = (path for path, _, name in (info.path.rpartition("/") for info in files) if name == _MANIFEST)
            return sorted(_numbers(folder.rpartition("/")[2] for folder in folders))

    def manifest(self, version: int) -> Manifest:
        """Raises DamagedVersionError where it is torn, or not what was written."""
        with self._translated(f"version {version} cannot be read"):
            path = f"{self._folder(version)}/{_MANIFEST}"
            try:
                signed = json.loads(self._read(path))
                body: str = signed["manifest"]
                if _sha256(body.encode()) != signed["sha256"]:
                    raise ValueError("its checksum is another")
                return _manifest_of(json.loads(body))
            except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
                raise DamagedVersionError(f"version {version} in {self._storage} is damaged: {_MANIFEST}: {error}") from error

    def load(self, manifest: Manifest, part: str) -> list[Tree]:
        """The part as it was given, a whole one and the changes since. Raises DamagedVersionError."""
        return [self._read_part(manifest.version, entry) for entry in manifest.parts[part]]

    def check(self, manifest: Manifest) -> None:
        """Reads every file. Raises DamagedVersionError where one is missing or not what was written."""
        for part in manifest.parts:
            self.load(manifest, part)

    def newest_whole(self) -> tuple[Manifest | None, list[int]]:
        """The newest version that can be gone on from, and the damaged ones above it, each named in the log."""
        damaged: list[int] = []
        for version in reversed(self.versions()):
            try:
                manifest = self.manifest(version)
                self.check(manifest)
            except DamagedVersionError as error:
                logger.warning("%s; it is skipped", error)
                damaged.append(version)
            else:
                return manifest, damaged
        return None, damaged

    # --- files

    def _folder(self, version: int) -> str:
        return f"{self._root}/{version:0{_DIGITS}d}"

    def _names(self) -> list[str]:
        """Of the folders of versions, and of those that are none."""
        if self._is_local:
            return os.listdir(self._root) if os.path.isdir(self._root) else []
        return [info.base_name for info in self._files.get_file_info(fs.FileSelector(self._root, allow_not_found=True))]

    def _exists(self, version: int) -> bool:
        path = self._folder(version) + ("" if self._is_local else f"/{_MANIFEST}")
        return bool(self._files.get_file_info(path).type != fs.FileType.NotFound)

    def _write_part(self, folder: str, version: int, name: str, part: Part) -> FileEntry:
        content = save(dict(part.arrays))
        file = f"{name}.safetensors"
        self._write(f"{folder}/{file}", content)
        return FileEntry(version, file, len(content), _sha256(content), part.plain)

    def _read_part(self, version: int, entry: FileEntry) -> Tree:
        with self._translated(f"version {version} cannot be read"):
            try:
                content = self._read(f"{self._folder(entry.version)}/{entry.name}")
                if len(content) != entry.nbytes or _sha256(content) != entry.sha256:
                    raise ValueError(f"{len(content):,} bytes that are not the {entry.nbytes:,} that were written")
                return unpack(Part(load(content), entry.plain))
            except (FileNotFoundError, ValueError, KeyError, SafetensorError) as error:
                where = "" if entry.version == version else f" of version {entry.version}"
                message = f"version {version} in {self._storage} is damaged: {entry.name}{where}: {error}"
                raise DamagedVersionError(message) from error

    def _write(self, path: str, content: bytes) -> None:
        with self._files.open_output_stream(path) as stream:
            stream.write(content)
        if self._is_local:
            _sync(path)

    def _read(self, path: str) -> bytes:
        with self._files.open_input_stream(path) as stream:
            content: bytes = stream.read()
            return content

    def _remove(self, folder: str) -> None:
        if self._files.get_file_info(folder).type == fs.FileType.Directory:
            self._files.delete_dir(folder)

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            reason = shown(" ".join(str(error).split()))[:300]
            raise LearningError(
                f"{what} in {self._storage}: {reason}; make room there, or mend its permissions or the way to it"
            ) from error


def _numbers(names: Iterable[str]) -> Iterator[int]:
    return (int(name) for name in names if len(name) == _DIGITS and name.isdecimal())


def _manifest_of(document: Mapping[str, Any]) -> Manifest:
    if document["layout"] != LAYOUT:
        raise ValueError(f"its layout is {document['layout']}, and this release reads {LAYOUT}")
    chains = {name: tuple(FileEntry(**entry) for entry in chain) for name, chain in document["parts"].items()}
    return Manifest(document["version"], document["parent"], document["created_at"], document["about"], chains)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
