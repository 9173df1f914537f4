"""Resident memory of every process of a run, after 200,000 rows and after 2,000,000.

    .venv/bin/python benchmarks/memory.py [--early 200000] [--late 2000000]

Runs the system on the endless synthetic stream without a pace, in a process of its own, and reads /proc of every process
that belongs to it. Prints one line per process and the largest growth.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def status(overrides: list[str]) -> dict | None:
    command = [sys.executable, "-m", "cluster", "status", "--json", *overrides]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    return json.loads(done.stdout) if done.returncode == 0 else None


def descendants(pid: int) -> dict[int, str]:
    """Every process below `pid`, by name."""
    children: dict[int, list[int]] = {}
    names: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                names[int(entry.name)] = name_of((entry / "cmdline").read_text().split("\0"))
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, open_ = {}, [pid]
    while open_:
        each = open_.pop()
        found[each] = names.get(each, "")
        open_ += children.get(each, [])
    return found


def name_of(arguments: list[str]) -> str:
    """Python's processes by their script or module, others by their program."""
    program = Path(arguments[0]).name
    if not program.startswith("python"):
        return program[:40]
    script = next((Path(each).name for each in arguments[1:] if each.endswith(".py")), None)
    module = next((after for flag, after in pairwise(arguments) if flag == "-m"), "")
    return f"python {script or module}"[:40]


def resident_mb(pid: int) -> float:
    """Private and shared pages that are not the object store's: those belong to all processes at once."""
    text = Path(f"/proc/{pid}/status").read_text()
    fields = {line.split(":")[0]: line.split()[1] for line in text.splitlines() if line.startswith("Rss")}
    return (int(fields["RssAnon"]) + int(fields["RssFile"])) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--early", type=int, default=200_000)
    parser.add_argument("--late", type=int, default=2_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as storage:
        overrides = [part for s in ("name=memory", f"storage={storage}", "ray.dashboard=false") for part in ("--set", s)]
        endless = ["--set", "stream.synthetic.rate_rows_per_s=null", "--set", "learners.micro_batch_rows=128"]
        command = [sys.executable, "-m", "cluster", "run", "--no-serve", *overrides, *endless]
        run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            taken: list[tuple[int, dict[int, float], dict[int, str]]] = []
            for mark in (options.early, options.late):
                while True:
                    seen = status(overrides)
                    if seen and seen["stream"]["trained"] >= mark:
                        break
                    if run.poll() is not None:
                        raise SystemExit(f"the run ended with exit code {run.returncode}")
                    time.sleep(1.0)
                names = descendants(run.pid)
                taken.append((seen["stream"]["trained"], {pid: resident_mb(pid) for pid in names}, names))
            (early_rows, early, names), (late_rows, late, _) = taken
            print(f"{'process':40}  {early_rows:>10,}  {late_rows:>10,}  growth")
            worst = 0.0
            for pid in sorted(early.keys() & late.keys(), key=lambda p: -late[p]):
                growth = late[pid] / early[pid] - 1
                worst = max(worst, growth)
                print(f"{names[pid]:40}  {early[pid]:7.1f} MB  {late[pid]:7.1f} MB  {growth:+6.1%}")
            print(f"largest growth {worst:+.1%}")
        finally:
            run.terminate()
            run.wait(timeout=60)


if __name__ == "__main__":
    main()
