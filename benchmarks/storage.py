"""What durable versions cost: the share of learning that they take, and whether that grows with how many there are.

    .venv/bin/python benchmarks/storage.py [--rows 1000000] [--repeats 6] [--versions 10000]

First, rows per second of `perennial run` with the shipped cadence and with none, taking turns; the one that begins changes with
every turn, so that a machine that has other work, too, hits both. Then a version manager that keeps every version it makes
durable: the time of a commit, of finding the newest whole version and of `perennial log`, and the process's memory, at a tenth
of the way and at the end.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from actors.durable import Cut
from actors.learning.consolidation import ConsolidationConfig
from actors.learning.models.config import ModelConfig
from actors.learning.promotion import Aliases, PromotionConfig
from actors.learning.retention import VersionsConfig
from actors.learning.running_stats import RunningStats
from actors.learning.schema import Column, ColumnKind, LabelType, Schema
from actors.learning.state import ModelState, layout_of
from actors.learning.task import TaskConfig
from actors.learning.versioning import VersionHistory
from actors.records import StreamPosition
from actors.release_desk import Blueprint
from actors.version_manager import VersionManager
from actors.version_store import VersionStore

ROOT = Path(__file__).resolve().parent.parent
NEVER = ("versions.commit_rows=1000000000", "versions.commit_every_s=1000000")
FEATURES, HIDDEN = 54, 128


def rows_per_s(folder: Path, rows: int, *more: str) -> float:
    settings = (f"storage={folder / 'storage'}", f"stream.rows={rows}", "stream.synthetic.rate_rows_per_s=null", *more)
    command = [sys.executable, "-m", "cluster", "run", "--once", "--no-serve", "--fresh", "--force"]
    command += ["--report", str(folder / "report"), *(word for each in settings for word in ("--set", each))]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    found: float = json.loads((folder / "report/report.json").read_text())["rows_per_s"]
    return found


def cost_of_cadence(rows: int, repeats: int) -> None:
    print("turn  durable rows/s  without rows/s  cost")
    costs = []
    with tempfile.TemporaryDirectory() as name:
        for turn in range(repeats):
            found = {is_durable: rows_per_s(Path(name), rows, *(() if is_durable else NEVER)) for is_durable in _order(turn)}
            durable, without = found[True], found[False]
            costs.append(1 - durable / without)
            print(f"{turn:4}  {durable:14,.0f}  {without:14,.0f}  {costs[-1]:+.1%}", flush=True)
    error = statistics.stdev(costs) / len(costs) ** 0.5 if len(costs) > 1 else float("nan")
    mean, median = statistics.mean(costs), statistics.median(costs)
    print(f"cost {mean:+.1%} of throughput, standard error {error:.1%}, median {median:+.1%}\n")


def _order(turn: int) -> tuple[bool, bool]:
    return (True, False) if turn % 2 == 0 else (False, True)


def a_state(version: int, draw: np.random.Generator) -> ModelState:
    layout = layout_of({"w0": (HIDDEN, FEATURES), "w1": (HIDDEN, HIDDEN), "w2": (7, HIDDEN)})
    flat_P = draw.normal(size=layout[-1].stop).astype(np.float32)
    features = RunningStats.of(draw.normal(size=(100, FEATURES)).astype(np.float32))
    return ModelState(
        layout, flat_P, {"square_avg": flat_P**2}, {}, features, RunningStats.empty(0), np.ones(7, np.int64), tuple(range(7)),
        1000 * version, version,
    )  # fmt: skip


def memory_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def timed(act, repeats: int = 5) -> float:
    """The median, in ms."""
    took = []
    for _ in range(repeats):
        started = time.perf_counter()
        act()
        took.append(1000 * (time.perf_counter() - started))
    return statistics.median(took)


def growth(versions: int) -> None:
    draw = np.random.default_rng(0)
    schema = Schema(tuple(Column(f"x{i}", ColumnKind.NUMERIC) for i in range(FEATURES)), "class", LabelType.INTEGER)
    blueprint = Blueprint(schema, TaskConfig(), ModelConfig(), FEATURES, 0)
    print("versions  commit p50 ms  p95 ms  newest whole ms  log ms  memory MB  first commit of another manager ms")
    with tempfile.TemporaryDirectory() as storage:
        history = VersionHistory(2)
        history.restore({**history.to_state(), "head": versions + 2})

        def a_manager() -> VersionManager:
            made = VersionManager(
                ConsolidationConfig(), PromotionConfig(), blueprint, 1, lambda state: [state], time.time,
                serves=False, storage=storage, versions=VersionsConfig(keep_last=max(2, versions - 100)),
            )  # fmt: skip
            made.resume(history, Aliases(), a_state(versions + 2, draw))
            return made

        manager = a_manager()
        about = {"rows": 1, "scores": None, "aliases": {}, "schema": schema.to_json(), "lineage": {}}
        replay = {"whole": True, "x": draw.normal(size=(1000, FEATURES)).astype(np.float32)}
        position, took, parent = StreamPosition(offsets={"p": 1}), [], None
        for version in range(1, versions + 1):
            cut = Cut(version, version, position, history.to_state(), Aliases(), about, parent)
            state = a_state(version, draw)
            started = time.perf_counter()
            if version in (versions // 10 + 1, versions):  # as after a restart
                manager = a_manager()
            parent = manager.archive(cut, state, {"scores": [1.0]}, replay)
            took.append(1000 * (time.perf_counter() - started))
            if version in (versions // 10 + 1, versions):
                store = VersionStore(storage)
                whole = timed(store.newest_whole)
                command = [sys.executable, "-m", "cluster", "log", "--set", f"storage={storage}"]
                log = timed(lambda command=command: subprocess.run(command, check=True, capture_output=True, cwd=ROOT))
                first, last = took[-1], sorted(took[-501:-1])
                p50, p95 = last[len(last) // 2], last[int(len(last) * 0.95)]
                row = f"{version:8,}  {p50:13.1f}  {p95:6.1f}  {whole:15.1f}  {log:6.0f}  {memory_mb():9.0f}  {first:10.0f}"
                print(row, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--versions", type=int, default=10_000)
    options = parser.parse_args()
    if options.repeats:
        cost_of_cadence(options.rows, options.repeats)
    if options.versions:
        growth(options.versions)


if __name__ == "__main__":
    main()
