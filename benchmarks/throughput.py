"""Rows per second of `perennial run` beside a plain torch loop that does the same learning in one process.

    .venv/bin/python benchmarks/throughput.py [--rows 400000] [--repeats 3] [--micro-batch 256] [--shards 1] [--replay 0]
                                              [--hidden 128,128] [--gpus 0]

Both read the same Parquet file (54 features, 7 classes, made here), standardise with running statistics, predict every
micro-batch and then learn it with the same MLP and optimizer. The two take turns, so that a change of the machine's speed hits
both, and the ratio is taken turn by turn. What is timed is learning: from the first row read to the last one learned; the
start of Python and of Ray is not in either. `--gpus`: each shard's part of a GPU; the plain loop stays on one CPU core.
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
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from actors.learning.models.mlp import MLP
from actors.learning.running_stats import RunningStats

FEATURES, CLASSES = 54, 7


def make_stream(path: Path, rows: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, FEATURES)).astype(np.float32)
    y = (x @ rng.normal(size=(FEATURES, CLASSES)) + rng.normal(size=(rows, CLASSES))).argmax(axis=1)
    columns = {f"x{i}": x[:, i] for i in range(FEATURES)} | {"class": y}
    pq.write_table(pa.table(columns), path, row_group_size=8192)


def plain_loop(path: Path, micro_batch: int, hidden: tuple[int, ...]) -> tuple[float, float]:
    """Rows per second and accuracy of the loop that anybody would write."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    model = MLP(FEATURES, CLASSES, hidden)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-3)
    stats, right, rows = RunningStats.empty(FEATURES), 0, 0
    started = time.perf_counter()
    for batch in pq.ParquetFile(path).iter_batches(batch_size=8192):
        x_all = np.stack([batch.column(i).to_numpy() for i in range(FEATURES)], axis=1)
        y_all = batch.column(FEATURES).to_numpy()
        for start in range(0, len(y_all), micro_batch):
            x, y = x_all[start : start + micro_batch], torch.from_numpy(y_all[start : start + micro_batch].copy())
            z = torch.from_numpy(stats.standardise(x))
            with torch.no_grad():
                right += int((model(z).argmax(dim=1) == y).sum())
            stats = stats.merge(RunningStats.of(x))
            optimizer.zero_grad()
            functional.cross_entropy(model(z), y).backward()
            optimizer.step()
            rows += len(y)
    return rows / (time.perf_counter() - started), right / rows


def perennial_run(path: Path, folder: Path, options: argparse.Namespace) -> tuple[float, float]:
    settings = {
        "stream.kind": "files",
        "stream.path": path,
        "storage": folder / "storage",
        "model.kind": "mlp",
        "model.hidden": list(options.hidden),
        "learners.resources.gpus": options.gpus,
        "learners.shards": options.shards,
        "learners.micro_batch_rows": options.micro_batch,
        "replay.ratio": options.replay,
    }
    if options.round_rows:
        settings["learners.round_rows"] = options.round_rows
    command = [sys.executable, "-m", "cluster", "run", "--once", "--no-serve", "--fresh", "--force"]
    command += ["--report", str(folder / "report")]
    command += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).resolve().parent.parent)
    report = json.loads((folder / "report" / "report.json").read_text())
    return report["rows_per_s"], report["prequential"]["accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--micro-batch", type=int, default=256)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--replay", type=float, default=0.0)
    parser.add_argument("--round-rows", type=int, default=0, help="0: the default")
    parser.add_argument("--hidden", type=lambda text: tuple(map(int, text.split(","))), default=(128, 128))
    parser.add_argument("--gpus", type=float, default=0.0)
    options = parser.parse_args()
    ratios = []
    print("turn  plain rows/s  accuracy  perennial rows/s  accuracy  ratio")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "stream.parquet"
        make_stream(path, options.rows)
        for turn in range(options.repeats):
            plain, plain_accuracy = plain_loop(path, options.micro_batch, options.hidden)
            ours, our_accuracy = perennial_run(path, folder, options)
            ratios.append(ours / plain)
            row = f"{turn:4}  {plain:12,.0f}  {plain_accuracy:8.4f}  {ours:16,.0f}  {our_accuracy:8.4f}  {ratios[-1]:5.2f}"
            print(row, flush=True)
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
