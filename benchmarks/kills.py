"""A run that is killed again and again, and the same run left in peace: nothing lost, nothing twice, the same model.

    .venv/bin/python benchmarks/kills.py [--rows 200000] [--kills 100] [--seed 1]

Each life of the run is started with the same command, so it goes on from the newest durable version. It is hit by kill -9 of
one role after another, at random instants, and ended by kill -9 of every process that belongs to it, now and then before it
stands. Prints a line for each life, and at the end the counts from the lineage and the digests of both models.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from memory import ROOT, descendants

from actors.version_store import VersionStore

START_TIMEOUT_S = 300.0
ROLES = ("Ingestor", "LearnerShard", "ReplayShard", "VersionManager", "Evaluator")


def command(folder: Path, rows: int) -> list[str]:
    settings = (
        f"name={folder.name}", f"storage={folder / 'storage'}", f"stream.rows={rows}", "stream.synthetic.rate_rows_per_s=null",
        "learners.micro_batch_rows=1", "versions.commit_rows=5000", "ray.dashboard=false",
    )  # fmt: skip
    overrides = [word for setting in settings for word in ("--set", setting)]
    return [sys.executable, "-m", "cluster", "run", "--once", "--no-serve", "--report", str(folder / "out"), *overrides]


def kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def role_pids(pid: int) -> list[tuple[str, int]]:
    """The processes of the run's roles."""
    found = []
    for each in descendants(pid):
        try:
            name = Path(f"/proc/{each}/cmdline").read_bytes().decode(errors="replace").strip("\0 ")
        except OSError:
            continue
        found += [(role, each) for role in ROLES if name.startswith(f"ray::{role}")]
    return found


def one_life(folder: Path, rows: int, draw: random.Random, kills: Counter[str], most: int) -> bool:
    """Whether the run has come to its end."""
    run = subprocess.Popen(command(folder, rows), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=(folder / "log").open("ab"))
    # Most lives end a while after every role stands, some before: how long that takes is the machine's matter.
    ends_early, stood = draw.random() < 0.15, False
    deadline = time.monotonic() + (draw.uniform(1.0, 20.0) if ends_early else START_TIMEOUT_S)
    while run.poll() is None and time.monotonic() < deadline and kills.total() < most:
        alive = role_pids(run.pid)
        if len({role for role, _ in alive}) == len(ROLES):
            if not stood and not ends_early:
                stood, deadline = True, time.monotonic() + draw.uniform(2.0, 40.0)
            time.sleep(draw.uniform(0.0, 1.2))
            role, pid = draw.choice(alive)
            kills[role] += kill(pid)
        time.sleep(0.05)
    if kills.total() >= most:
        return run.wait() == 0
    if run.poll() is None:
        kills["everything"] += 1
        for pid in [run.pid, *descendants(run.pid)]:
            kill(pid)
    return run.wait() == 0


def result(folder: Path) -> tuple[dict, str]:
    newest, damaged = VersionStore(str(folder / "storage")).newest_whole()
    assert newest is not None and not damaged, damaged
    return json.loads((folder / "out/report.json").read_text()), newest.about["lineage"]["digest"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    draw, kills = random.Random(options.seed), Counter[str]()
    with tempfile.TemporaryDirectory() as home:
        undisturbed, disturbed = Path(home, "undisturbed"), Path(home, "disturbed")
        for folder in (undisturbed, disturbed):
            folder.mkdir()
        subprocess.run(command(undisturbed, options.rows), cwd=ROOT, check=True, capture_output=True)
        is_over = False
        for life in range(1, 10 * options.kills):
            is_over = one_life(disturbed, options.rows, draw, kills, options.kills)
            versions = VersionStore(str(disturbed / "storage")).versions()
            told = ", ".join(f"{role} {count}" for role, count in sorted(kills.items()))
            print(
                f"life {life}: newest durable version {versions[-1] if versions else 'none'}; killed so far: {told}", flush=True
            )
            if is_over:
                break
        (peace, digest), (war, other) = result(undisturbed), result(disturbed)
        print(f"{'':12}  {'read':>9}  {'learned':>9}  {'lost':>5}  {'twice':>5}  {'version':>8}  digest")
        for name, report, found in (("undisturbed", peace, digest), ("disturbed", war, other)):
            r = report["rows"]
            counts = f"{r['read']:>9,}  {r['trained']:>9,}  {r['lost']:>5}  {r['duplicated']:>5}"
            print(f"{name:12}  {counts}  {report['versions']['head']:>8,}  {found[:16]}")
        print(f"{kills.total()} kills; the models are {'bit-identical' if digest == other else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
