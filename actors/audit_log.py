"""Who moved which alias, when and why, and what else is worth remembering: appended to, never changed.

On a local filesystem `audit.jsonl`, an fsynced line for each entry; on an object store, which cannot append, an object each
under `audit/`, named so that they sort by time.
"""

import json
import os
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from pyarrow import fs

from actors.errors import LearningError
from actors.storage import open_storage, shown

_TAIL_BYTES = 1 << 20  # the newest entries are looked for in the last so many bytes


class AuditLog:
    """Raises LearningError where storage cannot be reached or written."""

    def __init__(self, storage: str) -> None:
        self._storage = shown(storage)
        self._files, self._root = open_storage(storage)
        self._is_local = isinstance(self._files, fs.LocalFileSystem)

    def append(self, entry: Mapping[str, Any]) -> None:
        """Durable on return."""
        content = json.dumps(dict(entry), allow_nan=False).encode()
        try:
            if self._is_local:
                os.makedirs(self._root, exist_ok=True)
                descriptor = os.open(f"{self._root}/audit.jsonl", os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
                try:
                    os.write(descriptor, (b"" if _ends_a_line(descriptor) else b"\n") + content + b"\n")
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                return
            with self._files.open_output_stream(f"{self._root}/audit/{time.time_ns():020d}.json") as stream:
                stream.write(content)
        except (OSError, pa.ArrowException) as error:
            raise LearningError(f"the audit log in {self._storage} cannot be written: {error}; make room there") from error

    def read(self, newest: int) -> list[dict[str, Any]]:
        """At most `newest` entries, the oldest of them first. What was torn when its writer died is left out."""
        try:
            texts = self._lines() if self._is_local else self._objects(newest)
        except (OSError, pa.ArrowException) as error:
            raise LearningError(f"the audit log in {self._storage} cannot be read: {error}") from error
        found: deque[dict[str, Any]] = deque(maxlen=newest)
        for text in texts:
            try:
                found.append(json.loads(text))
            except ValueError:
                continue
        return list(found)

    def _lines(self) -> list[bytes]:
        try:
            with open(f"{self._root}/audit.jsonl", "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL_BYTES))
                lines = file.read().splitlines()
        except FileNotFoundError:
            return []
        return lines[1:] if size > _TAIL_BYTES else lines

    def _objects(self, newest: int) -> list[bytes]:
        infos = self._files.get_file_info(fs.FileSelector(f"{self._root}/audit", allow_not_found=True))
        texts = []
        for info in sorted(infos, key=lambda each: each.base_name)[-newest:]:
            with self._files.open_input_stream(info.path) as stream:
                texts.append(stream.read())
        return texts


def _ends_a_line(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"
