"""Classes that arrive in tasks: what is left of the first ones at the end, for each replay strategy and regularizer.

    .venv/bin/python benchmarks/class_incremental.py [--only NAME ...] [--set model.kind=mlp ...] [--seeds 3]

scikit-learn's digits (8 x 8 pixels / 16), shuffled: 1,400 rows to learn, once, in five tasks of two classes each, and 397 to
test. Learned by a learner shard and a replay shard as in a run, in one process. `accuracy`: on the test rows of all ten classes
after the last task. `forgetting`: how far the accuracy on a task has fallen from its best, the mean over the tasks before the
last (Chaudhry et al. 2018, "Riemannian walk for incremental learning", equation 3). With the peers' environment CapyMOA's
strategies follow, on the same rows in the same order; the digits come from there where scikit-learn is not installed here.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from actors.learner_shard import LearnerShard
from actors.learning.consolidation import Contribution, consolidate
from actors.learning.dealing import deal
from actors.learning.inputs import InputLayout
from actors.learning.model_kinds import make_reader
from actors.learning.state import ModelState
from actors.records import Echo, RoundBatch, Rows, Work
from actors.replay_shard import ReplayShard
from cluster.config import PerennialConfig, load_config
from cluster.launch import logits_kept

ROOT = Path(__file__).resolve().parent.parent
TRAIN_ROWS, CLASSES, TASKS = 1400, 10, 5
PEERS = Path(__file__).parent / "peers" / "class_incremental.py"

_PLAIN = (
    "model.kind=mlp",
    "model.hidden=[100]",
    "learners.micro_batch_rows=10",
    "learners.round_rows=10",
    "replay.capacity_rows=200",
)
_THOROUGH = (*_PLAIN, "replay.ratio=10", "learners.epochs=10")
_REPLAYED = {
    f"mlp, {name}": (*_PLAIN, f"replay.strategy={name}") for name in ("fifo", "reservoir", "class_balanced", "prioritized")
}
_OFTEN = {
    f"mlp, {name}, ratio 10, epochs 10": (*_THOROUGH, f"replay.strategy={name}")
    for name in ("fifo", "reservoir", "class_balanced", "prioritized")
}
_EWC = ("learners.regularization.ewc={anchor_rows: 250, strength: 1000}", "learners.regularizer=ewc")
_LWF = ("learners.regularization.lwf={anchor_rows: 250}", "learners.regularizer=lwf")
_BALANCED = (*_THOROUGH, "replay.strategy=class_balanced")
SETTINGS: dict[str, tuple[str, ...]] = {
    "mlp, no replay": (*_PLAIN, "replay.ratio=0"),
    "mlp, no replay, ewc": (*_PLAIN, "replay.ratio=0", *_EWC),
    "mlp, no replay, lwf": (*_PLAIN, "replay.ratio=0", *_LWF),
    **_REPLAYED,
    "mlp, reservoir, der": (*_PLAIN, "replay.strategy=reservoir", "learners.regularizer=der"),
    **_OFTEN,
    "mlp, class_balanced, ratio 10, epochs 10, ewc": (*_BALANCED, *_EWC),
    "mlp, class_balanced, ratio 10, epochs 10, lwf": (*_BALANCED, *_LWF),
    "mlp, class_balanced, ratio 10, epochs 10, der": (*_BALANCED, "learners.regularizer=der"),
    # 100 of the latest rows and 100 of all classes: 200 in all.
    "ensemble": ("model.kind=ensemble", "model.memory_rows=100", "learners.round_rows=10", "replay.ratio=0"),
}  # fmt: skip


@dataclass(frozen=True)
class Data:
    """Train rows in the order in which they come, task by task; test rows in any."""

    train_x: np.ndarray
    train_y: np.ndarray
    train_task: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    test_task: np.ndarray


def data_of(x_ND: np.ndarray, y_N: np.ndarray, seed: int) -> Data:
    order_N = np.random.default_rng(seed).permutation(len(y_N))
    x_ND, y_N = (x_ND[order_N] / 16).astype(np.float32), y_N[order_N].astype(np.int64)
    task_N = y_N * TASKS // CLASSES
    by_task_N = np.argsort(task_N[:TRAIN_ROWS], kind="stable")
    train, test = (
        (each[:TRAIN_ROWS][by_task_N] for each in (x_ND, y_N, task_N)),
        (each[TRAIN_ROWS:] for each in (x_ND, y_N, task_N)),
    )
    return Data(*train, *test)


def digits(peers: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        if not peers.exists():
            raise SystemExit("the digits come with scikit-learn: install it here, or run `make peers`") from None
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([peers, PEERS, "digits", f"{folder}/digits.npz"], check=True)
            found = np.load(f"{folder}/digits.npz")
            return found["x"], found["y"]
    x_ND, y_N = load_digits(return_X_y=True)
    return x_ND, y_N


def rounds_of(data: Data, config: PerennialConfig) -> Iterator[tuple[RoundBatch, bool]]:
    """And whether the round ends a task: no round has rows of two."""
    classes, number = tuple(range(CLASSES)), 0
    for task in range(TASKS):
        at_N = np.flatnonzero(data.train_task == task)
        for start in range(0, len(at_N), config.learners.rows_per_round):
            row_N = at_N[start : start + config.learners.rows_per_round]
            x_ND = data.train_x[row_N]
            yield (
                RoundBatch(number, Rows(row_N, x_ND, None), Rows(row_N, x_ND, data.train_y[row_N]), classes),
                row_N[-1] == at_N[-1],
            )
            number += 1


def accuracies(data: Data, config: PerennialConfig) -> np.ndarray:
    """[tasks, tasks]: after each task, on the test rows of each."""
    inputs, ratio = InputLayout.of(data.train_x.shape[1]), config.replay.ratio * config.learners.epochs
    learner = LearnerShard(config.model, config.learners, config.task, inputs, config.seed)
    reader = make_reader(config.model, config.task, inputs, seed=config.seed)
    memory = ReplayShard(config.replay, 0, config.seed, logits_kept(config))
    memory.begin()
    head, echo, sample, found_TT = ModelState.empty(int(inputs), 0), None, None, []
    for batch, ends_task in rounds_of(data, config):
        [slices] = deal(len(batch.train), 1, config.learners.micro_batch_rows)
        wanted = round(ratio * len(batch.train))
        work = Work(f"{batch.round}/0", batch.round, 0, tuple(slices), tuple(slices), (), 0, wanted)
        heard: Echo | None = echo
        change, _, _, echo = learner.learn(work, head, batch, sample)
        head = consolidate(head, [Contribution(head, 0, change)], 1)
        if ratio:
            sample, *_ = memory.add(batch, (round(ratio * config.learners.rows_per_round),), heard)
        if ends_task:
            reader.load(head)
            right_N = reader.predict(data.test_x).code_N == data.test_y
            found_TT.append([right_N[data.test_task == task].mean() for task in range(TASKS)])
    return np.array(found_TT)


def shown(name: str, found: list[np.ndarray], data: list[Data]) -> str:
    shares = [np.bincount(each.test_task) / len(each.test_task) for each in data]
    accuracy = [100 * float(a_TT[-1] @ share_T) for a_TT, share_T in zip(found, shares, strict=True)]
    forgetting = [100 * float((a_TT[:-1].max(axis=0) - a_TT[-1])[:-1].mean()) for a_TT in found]
    spread = f" ± {np.std(accuracy, ddof=1) / len(found) ** 0.5:.1f}" if len(found) > 1 else ""
    return f"{name:50} {np.mean(accuracy):6.1f}{spread:>8} {np.mean(forgetting):12.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="names that contain one of these")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="over all settings")
    parser.add_argument("--seeds", type=int, default=1, help="how many shuffles; the first is 0")
    parser.add_argument("--peers", type=Path, default=ROOT / ".venv-peers/bin/python")
    options = parser.parse_args()
    data = [data_of(*digits(options.peers), seed) for seed in range(options.seeds)]
    print(f"{'accuracy and forgetting in %':50} {'accuracy':>14} {'forgetting':>12}")
    for name, overrides in SETTINGS.items():
        if options.only and not any(part in name for part in options.only):
            continue
        config = load_config(None, (*overrides, *options.set))
        print(shown(name, [accuracies(each, config) for each in data], data), flush=True)
    if options.peers.exists() and not options.only:
        found: dict[str, list[np.ndarray]] = {}
        for each in data:
            with tempfile.NamedTemporaryFile(suffix=".npz") as file:
                np.savez(file, **{name: getattr(each, name) for name in Data.__dataclass_fields__})
                file.flush()
                done = subprocess.run([options.peers, PEERS, "learn", file.name], check=True, capture_output=True, text=True)
            for line in map(json.loads, done.stdout.splitlines()):
                found.setdefault(line["strategy"], []).append(np.array(line["accuracy"]))
        for name, accuracy in found.items():
            print(shown(f"CapyMOA {name}", accuracy, data))


if __name__ == "__main__":
    main()
