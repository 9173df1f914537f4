"""Who moved which alias, when and why, and what else has happened: appended to, never changed.

On a local filesystem `audit.jsonl`, an fsynced line for each entry; on an object store, which cannot append, an object for what
is appended at once under `audit/<day>/`, named so that they sort by time.
"""

import json
import math
import os
import time
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import pyarrow as pa
from pyarrow import fs

from actors.errors import LearningError
from actors.storage import open_storage, shown

_BLOCK_BYTES = 1 << 20  # read at once, from the end backwards
_SEVERAL = "several"  # kinds in one object


class AuditLog:
    """Raises LearningError where storage cannot be reached or written. Entries have a `kind`, or none."""

    def __init__(self, storage: str) -> None:
        self._storage = shown(storage)
        self._files, self._root = open_storage(storage)
        self._is_local = isinstance(self._files, fs.LocalFileSystem)

    def append(self, *entries: Mapping[str, Any]) -> None:
        """All of them, durable on return. What JSON cannot hold, such as an infinite number, becomes null."""
        lines = [json.dumps(_plain(dict(entry)), allow_nan=False).encode() for entry in entries]
        if not lines:
            return
        content = b"\n".join(lines) + b"\n"
        try:
            if self._is_local:
                self._append_here(content)
                return
            kinds = {str(entry.get("kind", "")) for entry in entries}
            now_ns = time.time_ns()
            name = f"{now_ns:020d}-{kinds.pop() if len(kinds) == 1 else _SEVERAL}.json"
            day = datetime.fromtimestamp(now_ns / 1e9, UTC).strftime("%Y-%m-%d")
            with self._files.open_output_stream(f"{self._root}/audit/{day}/{name}") as stream:
                stream.write(content)
        except (OSError, pa.ArrowException) as error:
            raise LearningError(f"the audit log in {self._storage} cannot be written: {error}; make room there") from error

    def read(self, newest: int, kinds: Collection[str] | None = None) -> list[dict[str, Any]]:
        """At most `newest` entries, of these kinds, the oldest first. What was torn when its writer died is left out."""
        try:
            found = list(islice(self._newest_first(kinds), newest))
        except (OSError, pa.ArrowException) as error:
            raise LearningError(f"the audit log in {self._storage} cannot be read: {error}") from error
        return found[::-1]

    def _newest_first(self, kinds: Collection[str] | None) -> Iterator[dict[str, Any]]:
        marks = None if kinds is None else [json.dumps(kind).encode() for kind in kinds]
        for line in self._lines() if self._is_local else self._objects(kinds):
            if marks is not None and not any(mark in line for mark in marks):
                continue  # most are not even parsed
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and (kinds is None or entry.get("kind") in kinds):
                yield entry

    # --- a file

    def _append_here(self, content: bytes) -> None:
        os.makedirs(self._root, exist_ok=True)
        descriptor = os.open(f"{self._root}/audit.jsonl", os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, (b"" if _ends_a_line(descriptor) else b"\n") + content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _lines(self) -> Iterator[bytes]:
        """From the last to the first, a block at a time."""
        try:
            file = open(f"{self._root}/audit.jsonl", "rb")  # noqa: SIM115  # closed below, once nobody reads on
        except FileNotFoundError:
            return
        with file:
            at, rest = file.seek(0, os.SEEK_END), b""
            while at > 0:
                size = min(_BLOCK_BYTES, at)
                at -= size
                file.seek(at)
                rest, *lines = (file.read(size) + rest).split(b"\n")
                yield from reversed(lines)
            yield rest

    # --- objects

    def _objects(self, kinds: Collection[str] | None) -> Iterator[bytes]:
        folders = [info for info in self._listed("audit") if info.type == fs.FileType.Directory]
        for folder in sorted(folders, key=lambda each: each.base_name, reverse=True):
            yield from self._lines_in(self._listed(f"audit/{folder.base_name}"), kinds)
        yield from self._lines_in(self._listed("audit"), None)  # where earlier releases wrote

    def _lines_in(self, infos: list[fs.FileInfo], kinds: Collection[str] | None) -> Iterator[bytes]:
        for info in sorted(infos, key=lambda each: each.base_name, reverse=True):
            kind = info.base_name.removesuffix(".json").partition("-")[2]
            if info.type == fs.FileType.File and (kinds is None or kind in {*kinds, _SEVERAL}):
                with self._files.open_input_stream(info.path) as stream:
                    yield from reversed(stream.read().splitlines())

    def _listed(self, folder: str) -> list[fs.FileInfo]:
        infos: list[fs.FileInfo] = self._files.get_file_info(fs.FileSelector(f"{self._root}/{folder}", allow_not_found=True))
        return infos


def _ends_a_line(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value
