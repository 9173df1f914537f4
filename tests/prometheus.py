"""A real Prometheus for the tests: found on the PATH, or unpacked from Debian's package without being installed."""

import json
import math
import os
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ray_head import free_ports
from waiting import wait_until

_END_TIMEOUT_S = 20.0


def find_prometheus(kept: Path) -> Path | None:
    """The program; None where there is none and none can be had. `kept` is where an unpacked one stays for the next time."""
    if (found := shutil.which("prometheus")) is not None:
        return Path(found)
    unpacked = kept / "usr/bin/prometheus"
    # Installing the package would start it as a service, beside whatever this machine already watches.
    if not unpacked.exists() and shutil.which("apt-get") and shutil.which("dpkg"):
        with suppress(subprocess.SubprocessError, OSError):
            subprocess.run(["apt-get", "download", "prometheus"], cwd=kept, check=True, capture_output=True, timeout=120)
            package = next(kept.glob("prometheus_*.deb"))
            subprocess.run(["dpkg", "-x", package.name, "."], cwd=kept, check=True, capture_output=True, timeout=120)
            package.unlink()
    return unpacked if unpacked.exists() else None


class Prometheus:
    def __init__(self, url: str) -> None:
        self._url = url

    def query(self, expression: str) -> dict[str, float]:
        """The value of each series that matches, by its labels as sorted `key=value` text; no metric's name among them."""
        url = f"{self._url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            found = json.load(answer)["data"]["result"]
        return {
            ",".join(f"{key}={value}" for key, value in sorted(series["metric"].items()) if key != "__name__"): float(
                series["value"][1]
            )
            for series in found
        }

    def value(self, expression: str) -> float:
        """The value of the only series that matches; NaN where none does."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return next(iter(found.values()), math.nan)

    def is_ready(self) -> bool:
        with suppress(OSError):
            return urllib.request.urlopen(f"{self._url}/-/ready", timeout=5).status == 200
        return False


@contextmanager
def prometheus_of(program: Path, target_port: int, folder: Path) -> Iterator[Prometheus]:
    """Scrapes 127.0.0.1:`target_port` every second."""
    (port,) = free_ports(1)
    config = folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        f"scrape_configs: [{{job_name: ray, static_configs: [{{targets: ['127.0.0.1:{target_port}']}}]}}]\n"
    )
    log = folder / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(program), f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}",
             f"--web.listen-address=127.0.0.1:{port}"],
            env=os.environ, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        found = Prometheus(f"http://127.0.0.1:{port}")
        wait_until(lambda: process.poll() is not None or found.is_ready(), 30, "Prometheus")
        assert process.poll() is None, f"Prometheus has ended with {process.returncode}:\n{log.read_text()}"
        yield found
    finally:
        process.terminate()
        try:
            process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_END_TIMEOUT_S)
