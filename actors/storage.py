"""Where a run keeps what outlives it: a local folder, or what a pyarrow filesystem reaches."""

import re
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from actors.errors import ConfigError

_CREDENTIALS = re.compile(r"(\w+://)[^/?#\s]*@")


def open_storage(storage: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of `storage`, a folder or a URI, and the path of its root there.

    Raises ConfigError where `storage` names no filesystem.
    """
    if "://" not in storage:
        return fs.LocalFileSystem(), str(local_folder(storage))
    try:
        files, root = fs.FileSystem.from_uri(storage)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = shown(" ".join(str(error).split()))[:200]
        raise ConfigError(
            f"storage is {shown(storage)!r}, which cannot be opened ({reason}); set it to a folder, or to an address such as "
            "file:///folder, s3://bucket/path or gs://bucket/path"
        ) from error
    return files, root.rstrip("/")


def shown(storage: str) -> str:
    """`storage`, or a text that names it, without the key and the secret that a URI may carry."""
    return _CREDENTIALS.sub(r"\1", storage)


def local_folder(storage: str) -> Path:
    """The absolute path of a `storage` that is no URI."""
    return Path(storage).expanduser().absolute()
