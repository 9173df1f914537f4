"""`perennial submit`: the same command as a job on a Ray cluster.

The job lives on the cluster: closing the terminal does not end it.
"""

import argparse
import asyncio
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from actors.errors import ConfigError, PerennialError
from cluster.config import PerennialConfig

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

_END_TIMEOUT_S = 30.0  # the log may end a moment before the job's status says so
_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Submission:
    """`address`: URL of the dashboard; `working_dir`: the folder sent along; `command`: what follows `perennial`."""

    address: str
    working_dir: Path
    command: tuple[str, ...]

    @property
    def entrypoint(self) -> str:
        return shlex.join(["python", "-m", "cluster", *self.command])


def submit(submission: Submission, *, wait: bool) -> int:
    """Submits the job and, with `wait`, follows it: 0 where it succeeded, 1 where it did not."""
    if not submission.working_dir.is_dir():
        raise ConfigError(f"--working-dir {submission.working_dir}: there is no such folder")
    client = _connect(submission.address)
    try:
        job = client.submit_job(
            entrypoint=submission.entrypoint, runtime_env={"working_dir": str(submission.working_dir.resolve())}
        )
    except (RuntimeError, ValueError) as error:
        raise PerennialError(f"the cluster at {submission.address} refused the job: {_first_line(error)}") from error
    print(f"submitted {job}: {submission.entrypoint}", flush=True)
    if not wait:
        print(_how_to_stop(submission.address, job))
        return 0
    try:
        return asyncio.run(_follow(client, job))
    except KeyboardInterrupt:
        print(f"\nno longer following {job}, which goes on. {_how_to_stop(submission.address, job)}", file=sys.stderr)
        return 0
    except (RuntimeError, OSError) as error:
        raise PerennialError(
            f"the log of {job} broke off, the job may go on: {_first_line(error)}. {_how_to_stop(submission.address, job)}"
        ) from error


def warn_of_what_stays_behind(folder: Path, options: argparse.Namespace, config: PerennialConfig) -> None:
    """Tells on stderr which files the job will miss, and which it will write where nobody looks."""
    for warning in what_stays_behind(folder, options, config):
        print(f"perennial: warning: {warning}", file=sys.stderr)


def what_stays_behind(folder: Path, options: argparse.Namespace, config: PerennialConfig) -> Iterator[str]:
    """One sentence for each path that means something else on the cluster than it does here."""
    read = (("--config", options.config), ("stream.path", config.stream.path), ("model.init_from", config.model.init_from))
    for key, path in read:
        if path is None or "://" in str(path):
            continue
        if Path(path).is_absolute():
            if key != "--config":
                yield f"{key} {path} is absolute: it must be there on every node of the cluster"
        elif not (folder / path).exists():
            yield f"{key} {path} is not in {folder.resolve()}: the job will not find it"
        elif (ignored_by := ignore_file_of(folder, Path(path))) is not None:
            yield f"{key} {path} is excluded by {ignored_by}: Ray does not send it, and the job will not find it"
    if options.command == "run":
        written = (("storage", config.storage), ("--report", options.report), ("--predictions", options.predictions))
        for key, path in written:
            if path is not None and "://" not in str(path) and not Path(path).is_absolute():
                yield f"{key} {path} is relative: the job writes it in its folder on the cluster; name a path all nodes share"


def ignore_file_of(folder: Path, path: Path) -> Path | None:
    """The .gitignore or .rayignore that keeps the relative `path` from being sent with `folder`, by Ray's own rules."""
    from ray._private.runtime_env.packaging import _get_ignore_file  # private, but the very rule; the Ray version is pinned

    within = Path(os.path.normpath(folder.absolute() / path))
    parents = [parent for parent in reversed([within, *within.parents]) if parent.is_relative_to(folder.absolute())]
    rules: list[tuple[Path, Callable[[Path], bool]]] = []
    for at in parents:
        for file, excludes in rules:
            if excludes(at):
                return file
        if at.is_dir():
            found = ((at / name, _get_ignore_file(at, name)) for name in (".gitignore", ".rayignore"))
            rules += [(file, excludes) for file, excludes in found if excludes is not None]
    return None


def _connect(address: str) -> "JobSubmissionClient":
    if not address.startswith(("http://", "https://")):
        raise ConfigError(
            f"--address {address}: wanted the URL of the cluster's dashboard, for example http://{address.split(':')[0]}:8265"
        )
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    if not logging.getLogger().isEnabledFor(logging.DEBUG):
        for handler in logging.getLogger("ray").handlers:
            handler.setLevel(logging.ERROR)  # or it tells of every ignore file it reads, three times
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise PerennialError(
            f"the cluster at {address} wants a token, and the one it was shown is missing or wrong: copy the cluster's "
            f"~/.ray/auth_token here, or name it with RAY_AUTH_TOKEN_PATH. ({_first_line(error)})"
        ) from error
    except (ConnectionError, RuntimeError, OSError) as error:
        raise PerennialError(
            f"no Ray dashboard answers at {address}: is the cluster up (`ray start --head`), and is this the port of its "
            f"dashboard? It listens on 127.0.0.1 alone unless it was started with --dashboard-host. ({_first_line(error)})"
        ) from error


async def _follow(client: "JobSubmissionClient", job: str) -> int:
    async for lines in client.tail_job_logs(job):
        print(lines, end="", flush=True)
    deadline = time.monotonic() + _END_TIMEOUT_S
    while not (status := client.get_job_status(job)).is_terminal() and time.monotonic() < deadline:
        await asyncio.sleep(_POLL_S)
    if status == "SUCCEEDED":
        return 0
    reason = (client.get_job_info(job).message or "").partition(", last available logs")[0]  # the log has been shown
    print(f"perennial: job {job} has ended as {status}: {reason}", file=sys.stderr)
    return 1


def _how_to_stop(address: str, job: str) -> str:
    return f"Follow it: ray job logs --address {address} --follow {job}  End it: ray job stop --address {address} {job}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
