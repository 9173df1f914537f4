"""A Ray of the tests' own: a head in a process of its own, on free ports and in a folder of its own, ended by its pid."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from waiting import wait_until

ROOT = Path(__file__).parents[1]
OBJECT_STORE_BYTES = 200_000_000
_START_TIMEOUT_S = 90.0
_END_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class RayHead:
    """`address` is HOST:PORT; `dashboard` a URL, where there is one; `metrics_port` serves Ray's metrics to Prometheus."""

    address: str
    dashboard: str
    metrics_port: int


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    with ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def ray_head(*, num_cpus: int = 4, dashboard: bool = False, **environment: str) -> Iterator[RayHead]:
    """A running cluster of one node. Its workers can import the project and what lies in tests/."""
    # Not below pytest's folders: a Unix socket's path has to be shorter than 108 characters.
    folder = Path(tempfile.mkdtemp(prefix="perennial-ray-"))
    port, dashboard_port, agent_port, metrics_port, client_port = free_ports(5)
    environment = {
        **os.environ,
        "HOME": str(folder),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "RAY_metrics_report_interval_ms": "4000",
        **environment,
    }
    command = [
        str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--disable-usage-stats",
        "--node-ip-address", "127.0.0.1", "--port", str(port), "--num-cpus", str(num_cpus),
        "--include-dashboard", str(dashboard).lower(), "--dashboard-port", str(dashboard_port),
        "--dashboard-agent-listen-port", str(agent_port), "--metrics-export-port", str(metrics_port),
        "--ray-client-server-port", str(client_port),
        "--object-store-memory", str(OBJECT_STORE_BYTES), "--temp-dir", str(folder / "ray"),
    ]  # fmt: skip
    log = folder / "start.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        wait_until(lambda: process.poll() is not None or b"runtime started" in log.read_bytes(), _START_TIMEOUT_S, "Ray's head")
        assert process.poll() is None, f"`ray start` has ended with {process.returncode}:\n{log.read_text()}"
        yield RayHead(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard_port}" if dashboard else "", metrics_port)
    finally:
        _end(process)
        shutil.rmtree(folder, ignore_errors=True)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_END_TIMEOUT_S)
    with suppress(ProcessLookupError):  # whatever of it is left; the group is its own
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(_END_TIMEOUT_S)
