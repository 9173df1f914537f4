"""The places that a run writes to, tried before it starts: hours of learning must not end at a folder that refuses them."""

import os
import tempfile
from pathlib import Path

from actors.errors import ConfigError
from actors.storage import open_storage, shown


def check_storage(storage: str) -> None:
    """Raises ConfigError where nothing can be written below `storage`; makes the folder."""
    files, root = open_storage(storage)
    probe = f"{root}/.probe-{os.getpid()}"
    try:
        files.create_dir(root, recursive=True)
        with files.open_output_stream(probe):
            pass
        files.delete_file(probe)
    except OSError as error:
        raise ConfigError(
            f"storage is {shown(storage)!r}, which cannot be written: {_reason(error)}; set it to a folder of yours"
        ) from error


def check_report(folder: Path) -> None:
    _check_folder(folder, f"--report is {str(folder)!r}", "name a folder where you may write")


def check_predictions(path: Path) -> None:
    seen = f"--predictions is {str(path)!r}"
    if path.is_dir():
        raise ConfigError(f"{seen}, which is a folder; name a file in it, such as {path / 'predictions.parquet'}")
    _check_folder(path.parent, seen, "name a file where you may write")


def check_apart(stream_path: str, outputs: dict[str, Path]) -> None:
    """Raises ConfigError where an output, by its option, would be read as part of the stream, or would replace it."""
    stream = Path(stream_path).expanduser().resolve()
    for option, path in outputs.items():
        if path.expanduser().resolve().is_relative_to(stream):
            raise ConfigError(
                f"{option} is {str(path)!r}, which belongs to stream.path, {stream_path!r}: the stream would hold what is "
                "made of it; choose another place for it"
            )


def _check_folder(folder: Path, seen: str, remedy: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"{seen}, which cannot be written: {_reason(error)}; {remedy}") from error


def _reason(error: OSError) -> str:
    if isinstance(error, FileExistsError | NotADirectoryError):
        return f"{error.filename} is a file"
    where = f" ({error.filename})" if isinstance(error.filename, str) else ""
    return f"{error.strerror}{where}" if error.strerror else " ".join(str(error).split())[:200]
