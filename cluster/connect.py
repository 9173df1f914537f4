"""Finding or starting the Ray cluster, and finding a running system in it."""

import getpass
import json
import os
import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from actors.errors import ConfigError, LearningError
from actors.release_desk import WAITING_GROUP, Moved
from actors.status import RunState, Snapshot
from actors.storage import local_folder
from cluster.config import PerennialConfig

_CALL_TIMEOUT_S = 15.0
_NAME_TIMEOUT_S = 5.0
_KNOCK_TIMEOUT_S = 5.0
_HOST_PORT = re.compile(r"([^/]+):([0-9]+)")
_TOKEN_FILE = Path("~/.ray/auth_token")


def use_token_if_there_is_one() -> None:
    """Lets Ray's clients send the token that a cluster of this user asks for; without it they fail with no clear word.

    To be called before Ray is imported. An explicit RAY_AUTH_MODE stays as it is.
    """
    has_token = (
        any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")) or _TOKEN_FILE.expanduser().exists()
    )
    if has_token:
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def is_in_job() -> bool:
    """Whether this process is the entrypoint of a Ray job: its cluster is then the one that runs it."""
    return "RAY_JOB_ID" in os.environ or "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


@contextmanager
def cluster(config: PerennialConfig) -> Iterator[None]:
    """Ray, connected; what was started here ends here."""
    address = "auto" if is_in_job() and config.ray.address == "local" else config.ray.address
    if address == "local":
        # What Ray does by default, without a line about it on every start; and nobody is told of a cluster on this machine.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    else:
        use_token_if_there_is_one()
    # Of what fails, every error that matters is asked for; Ray would print the others with their tracebacks.
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "namespace": None, "configure_logging": False}
    if address == "local":
        r = config.ray
        options |= {
            "num_cpus": r.num_cpus,
            "include_dashboard": r.dashboard,
            "object_store_memory": r.object_store_memory_bytes,
            "_metrics_export_port": r.metrics_export_port,
            # Ray keeps a note of the last 100,000 calls; a hundredth is plenty for the dashboard, and its memory stays put.
            "_system_config": {"task_events_max_num_task_in_gcs": 1_000},
        }
        options |= {"dashboard_port": r.dashboard_port} if r.dashboard else {}
    try:
        _knock(address)
        ray.init(address=address, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(_unreachable(address, error)) from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raises OSError where nobody listens at HOST:PORT: Ray would try for minutes."""
    if address == "auto":
        from ray._private.utils import read_ray_address  # what `auto` means to Ray: a cluster that may be long gone

        address = os.environ.get("RAY_ADDRESS") or read_ray_address() or ""
    if (where := _HOST_PORT.fullmatch(address)) is None:
        return
    try:
        socket.create_connection((where[1].strip("[]"), int(where[2])), _KNOCK_TIMEOUT_S).close()
    except OSError as error:
        raise ConnectionError(f"{address}: {error.strerror or error}") from error


def refuse_taken_name(name: str) -> None:
    """Raises ConfigError where a system called `name` runs on the cluster. One that has just ended may take a moment to go."""
    from ray.util import list_named_actors

    from cluster.launch import namespace_of

    deadline = time.monotonic() + _NAME_TIMEOUT_S
    while any(actor["namespace"] == namespace_of(name) for actor in list_named_actors(all_namespaces=True)):
        if time.monotonic() > deadline:
            raise ConfigError(
                f"a system named {name!r} runs on this cluster already: give this one another name (--set name=...) and "
                "storage, or end the other (`perennial stop`)"
            )
        time.sleep(0.2)


def await_gone(name: str, actors: Sequence[str]) -> None:
    """Waits until actors that were ended have left their names to others of the system called `name`."""
    from ray.util import list_named_actors

    from cluster.launch import namespace_of

    deadline, space = time.monotonic() + _CALL_TIMEOUT_S, namespace_of(name)
    while any(a["namespace"] == space and a["name"] in actors for a in list_named_actors(all_namespaces=True)):
        if time.monotonic() > deadline:
            raise LearningError(f"actors of system {name!r} do not end: {', '.join(actors)}")
        time.sleep(0.1)


def _unreachable(address: str, error: Exception) -> str:
    if address == "local":
        return f"Ray cannot be started on this machine: {error}"
    return (
        f"no Ray cluster can be joined at {address!r} ({error}). Does it run, and is that the port of its head (`ray "
        "start --head --port`)? If it asks for a token, put it into ~/.ray/auth_token or name its file: RAY_AUTH_TOKEN_PATH."
    )


class RunFile:
    """A note in `storage` that says where the run that writes to it lives, so that `perennial status` finds it."""

    def __init__(self, storage: str) -> None:
        self._path = None if "://" in storage else local_folder(storage) / "run.json"

    def write(self, address: str) -> None:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps({"pid": os.getpid(), "address": address}))

    def remove(self) -> None:
        if self._path is not None and self._mine():
            self._path.unlink(missing_ok=True)

    def address(self) -> str | None:
        """The cluster of a run that is alive on this machine."""
        note = self._read()
        if note is None or not Path(f"/proc/{note['pid']}").exists():
            return None
        return str(note["address"])

    def _mine(self) -> bool:
        note = self._read()
        return note is not None and note["pid"] == os.getpid()

    def _read(self) -> dict[str, Any] | None:
        if self._path is None or not self._path.exists():
            return None
        try:
            note: dict[str, Any] = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return None
        return note


@contextmanager
def _version_manager(address: str, config: PerennialConfig) -> Iterator[Any]:
    """The desk of the running system of this name."""
    use_token_if_there_is_one()
    import ray

    from cluster.launch import VERSION_MANAGER, namespace_of

    found = RunFile(config.storage).address() if address in {"auto", "local"} else None
    try:
        _knock(found or address)
        ray.init(address=found or ("auto" if address == "local" else address), log_to_driver=False, configure_logging=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise LearningError(_unreachable(found or address, error)) from error
    try:
        yield ray.get_actor(VERSION_MANAGER, namespace=namespace_of(config.name))
    except ValueError as error:
        raise LearningError(
            f"no system named {config.name!r} runs on the cluster at {found or address!r}: start one with `perennial run`, "
            "or name another (--set name=...)"
        ) from error
    finally:
        ray.shutdown()


def fetch_status(address: str, config: PerennialConfig) -> Snapshot:
    """The running system's latest snapshot. Raises LearningError where none can be had."""
    with _version_manager(address, config) as desk:
        snapshot: Snapshot | None = _asked(config, desk.status)
    if snapshot is None:
        raise LearningError(f"system {config.name!r} is still starting; ask again in a few seconds")
    return snapshot


def move_production(address: str, config: PerennialConfig, method: str, version: int | None, reason: str) -> Moved:
    """`promote` or `rollback`. Raises PerennialError where the version is not kept, or a replica does not follow."""
    with _version_manager(address, config) as desk:
        from ray.exceptions import RayActorError

        from cluster.calls import value_of

        call = getattr(desk, method).options(concurrency_group=WAITING_GROUP)
        try:
            moved: Moved = value_of(call.remote(version, reason, getpass.getuser(), _CALL_TIMEOUT_S), 2 * _CALL_TIMEOUT_S)
        except RayActorError as error:
            raise LearningError(
                f"the version manager died over it ({error}): look where production is (`perennial status`), and say it again "
                "if need be"
            ) from error
    return moved


def _asked(config: PerennialConfig, method: Any) -> Any:
    """The version manager's answer; while it is being started again, it is asked again. Raises LearningError."""
    from ray.exceptions import RayActorError

    from cluster.calls import value_of

    deadline = time.monotonic() + _CALL_TIMEOUT_S
    while True:
        try:
            return value_of(method.remote(), _CALL_TIMEOUT_S)
        except RayActorError as error:
            if _has_ended(config) or time.monotonic() > deadline:
                raise LearningError(f"system {config.name!r} has ended, or does not answer: {error}") from error
            time.sleep(0.2)


def _has_ended(config: PerennialConfig) -> bool:
    """Whether there is no version manager; one that is being started again keeps its name."""
    import ray

    from cluster.launch import VERSION_MANAGER, namespace_of

    try:
        ray.get_actor(VERSION_MANAGER, namespace=namespace_of(config.name))
    except ValueError:
        return True
    return False


def request_stop(address: str, config: PerennialConfig, timeout_s: float) -> None:
    """Asks the running system to end, and waits until it has. Raises LearningError where it has not by `timeout_s`."""
    with _version_manager(address, config) as desk:
        import ray
        from ray.exceptions import RayActorError, RaySystemError

        deadline = time.monotonic() + timeout_s
        _asked(config, desk.request_stop)
        while time.monotonic() < deadline:
            try:
                snapshot = ray.get(desk.status.remote(), timeout=_CALL_TIMEOUT_S)
            except (RayActorError, RaySystemError):
                if _has_ended(config):
                    return
                time.sleep(0.2)
                continue
            if snapshot is not None and snapshot.state is RunState.STOPPED:
                return
            time.sleep(0.2)
    raise LearningError(f"system {config.name!r} has not stopped within {timeout_s:g} s; `perennial status` shows what it does")
