"""Whole systems under test: one that learns a finite stream in this process, and one that goes on in a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ray_head import ROOT
from waiting import wait_until

START_TIMEOUT_S = 90.0
END_TIMEOUT_S = 60.0
_COMMAND = (sys.executable, "-m", "cluster")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run left behind; the predictions with columns row, prediction, confidence, label, version and shard."""

    report: dict[str, Any]
    predictions: pa.Table

    @property
    def correct_N(self) -> np.ndarray:
        """Per row of the stream, whether the prediction was right; no prediction is a wrong one."""
        rows = self.predictions.sort_by("row")
        labels, predictions = rows["label"].to_pylist(), rows["prediction"].to_pylist()
        return np.array([label == prediction for label, prediction in zip(labels, predictions, strict=True)])

    def rows_add_up(self, rows: int) -> None:
        """Fails the test unless each of `rows` rows was predicted once and learned once, in the report and in the file."""
        counted = self.report["rows"]
        assert {key: counted[key] for key in ("read", "tested", "trained", "quarantined", "lost", "duplicated")} == {
            "read": rows, "tested": rows, "trained": rows, "quarantined": 0, "lost": 0, "duplicated": 0,
        }  # fmt: skip
        assert sum(learner["rows"] for learner in self.report["learners"]) == rows
        assert np.array_equal(np.sort(self.predictions["row"].to_numpy()), np.arange(rows))
        assert self.predictions["label"].null_count == 0


def overrides_of(address: str, folder: Path, name: str, overrides: Sequence[str]) -> list[str]:
    return [f"ray.address={json.dumps(address)}", f"storage={folder / 'storage'}", f"name={name}", *overrides]


def outcome_of(folder: Path) -> Outcome:
    return Outcome(json.loads((folder / "report/report.json").read_text()), pq.read_table(folder / "p.parquet"))


def learn(address: str, folder: Path, name: str, *overrides: str) -> Outcome:
    """`perennial run --once` in this process, for the seconds that starting Python and importing torch would take."""
    _run(address, folder, name, overrides, folder / "p.parquet")
    return outcome_of(folder)


def learn_only(address: str, folder: Path, name: str, *overrides: str) -> dict[str, Any]:
    """The same without a file of predictions: the report."""
    _run(address, folder, name, overrides, None)
    report: dict[str, Any] = json.loads((folder / "report/report.json").read_text())
    return report


def _run(address: str, folder: Path, name: str, overrides: Sequence[str], predictions: Path | None) -> None:
    from cluster.config import load_config
    from cluster.run import RunOptions, run

    config = load_config(None, overrides_of(address, folder, name, overrides))
    assert run(config, RunOptions(once=True, report=folder / "report", predictions=predictions, serve=False)) == 0


class LiveSystem:
    """`perennial run` as a user starts it, in `folder`; `with` ends it in any case. Its stderr is kept in a file."""

    def __init__(
        self,
        address: str,
        folder: Path,
        name: str,
        *overrides: str,
        command: Sequence[str] = _COMMAND,
        once: bool = False,
        serve: bool = False,
        predictions: bool = True,
    ) -> None:
        self.folder, self.name, self.address = folder, name, address
        self.overrides = overrides_of(address, folder, name, overrides)
        self._stderr = folder / "stderr.txt"
        settings = [word for override in self.overrides for word in ("--set", override)]
        choices = [*(["--once"] if once else []), *([] if serve else ["--no-serve"])]
        files = ["--report", str(folder / "report"), *(["--predictions", str(folder / "p.parquet")] if predictions else [])]
        with self._stderr.open("wb") as stderr:
            # A session of its own, as a terminal gives to a command: Ctrl-C goes to all of its process group.
            self.process = subprocess.Popen(
                [*command, "run", *choices, *files, *settings],
                cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=stderr, start_new_session=True,
            )  # fmt: skip

    def __enter__(self) -> "LiveSystem":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(END_TIMEOUT_S)
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(END_TIMEOUT_S)

    @property
    def stderr(self) -> str:
        return self._stderr.read_text()

    def status(self) -> dict[str, Any] | None:
        """The document of `perennial status --json`, asked for in this process; None while it starts, or has no time."""
        from ray.exceptions import GetTimeoutError

        from actors.errors import LearningError
        from cluster.config import load_config
        from cluster.connect import fetch_status

        assert self.process.poll() is None, f"the run has ended with {self.process.returncode}:\n{self.stderr}"
        if self.address == "local" and not (self.folder / "storage/run.json").exists():
            return None  # it has not said yet where its Ray is
        with suppress(LearningError, GetTimeoutError):
            return fetch_status(self.address, load_config(None, self.overrides)).to_json()
        return None

    def wait_for_rows(self, rows: int, timeout_s: float = START_TIMEOUT_S) -> dict[str, Any]:
        """The first status by which so many rows have been learned."""

        def learned() -> dict[str, Any] | None:
            status = self.status()
            return status if status and status["stream"]["trained"] >= rows else None

        found = wait_until(learned, timeout_s, f"{rows} rows learned by {self.name}")
        assert found is not None
        return found

    def stop(self) -> Outcome:
        """`perennial stop`, asked for in this process; fails the test unless the run then ends well."""
        from cluster.config import load_config
        from cluster.connect import request_stop

        request_stop(self.address, load_config(None, self.overrides), END_TIMEOUT_S)
        return self.end()

    def end(self) -> Outcome:
        """Waits for the run to end by itself; fails the test unless it ends well."""
        code = self.process.wait(END_TIMEOUT_S)
        assert code == 0, f"the run has ended with {code}:\n{self.stderr}"
        return outcome_of(self.folder)


def perennial(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """One command in a process of its own."""
    return subprocess.run(
        [*_COMMAND, *arguments], cwd=cwd, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=END_TIMEOUT_S,
    )  # fmt: skip


def free_port() -> int:
    """Of this machine; nobody else takes it in the meantime, one hopes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def descendants(pid: int) -> set[int]:
    """The processes that `pid` has started, and those that they have."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it has ended meanwhile
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found: set[int] = set()
    queue = [pid]
    while queue:
        new = [child for child in children.get(queue.pop(), []) if child not in found]
        found.update(new)
        queue.extend(new)
    return found


def alive(pids: set[int]) -> set[int]:
    """Those of `pids` that still run; one that waits to be reaped has ended."""
    found = set()
    for pid in pids:
        with suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                found.add(pid)
    return found
