"""Compares optimizers, replay and round sizes of the `mlp` on several kinds of stream, in one process, without Ray.

    .venv/bin/python benchmarks/defaults.py [--csv FILE ...] [--label class] [--rows 40000] [--shards 2]

The streams are the generated ones, or CSV files. Every row is predicted first; shards take turns in this process and are
consolidated as in a run, so the accuracies are those of a run with the same settings.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from actors.learning.consolidation import Contribution, consolidate
from actors.learning.dealing import deal
from actors.learning.encoding import RowEncoder
from actors.learning.inputs import InputLayout
from actors.learning.learner import Learner, LocalRound
from actors.learning.models.config import ModelConfig
from actors.learning.optimizers import OptimizerConfig
from actors.learning.replay import ReplayMemory
from actors.learning.state import ModelState
from actors.learning.task import TaskConfig
from actors.sources.config import StreamConfig
from actors.sources.inference import infer_schema
from actors.sources.open_source import open_source
from actors.sources.validation import RowValidator


@dataclass(frozen=True)
class Setting:
    optimizer: str = "rmsprop"
    rate: float = 2e-3
    replay: str = "fifo"
    capacity: int = 1000
    ratio: float = 1.0
    round_rows: int = 256

    def __str__(self) -> str:
        replay = f"{self.replay} {self.capacity}" if self.ratio else "none"
        return f"{self.optimizer:8} {self.rate:g}  replay {replay:14}  round {self.round_rows}"


SETTINGS = [
    Setting(),
    Setting(ratio=0.0),
    Setting(replay="reservoir"),
    Setting(replay="reservoir", capacity=5000),
    Setting(round_rows=128),
    Setting(round_rows=512),
    Setting(optimizer="adam"),
    Setting(optimizer="adam", rate=1e-3),
    Setting(optimizer="rmsprop", rate=1e-3),
    Setting(optimizer="sgd", rate=1e-1),
]


def rows_of(stream: StreamConfig) -> tuple[np.ndarray, np.ndarray, InputLayout]:
    """Encoded rows, class codes in order of appearance, and what the rows consist of."""
    task = TaskConfig()
    source = open_source(stream, task, 1)
    schema = infer_schema(source.sample(), stream, task)
    validator, features, labels = RowValidator(schema, task), [], []
    for chunk in source.read({}):
        assert chunk is not None
        clean, _ = validator.check(chunk)
        features.append(clean.x_ND)
        labels.extend(clean.labels)
    code: dict[object, int] = {}
    y_N = np.array([code.setdefault(label, len(code)) for label in labels], np.int64)
    return np.concatenate(features), y_N, RowEncoder(schema).layout


def accuracy(
    x_ND: np.ndarray, y_N: np.ndarray, inputs: InputLayout, setting: Setting, shards: int, micro_batch: int = 32
) -> float:
    optimizer = OptimizerConfig(name=setting.optimizer, learning_rate=setting.rate)
    learners = [Learner(ModelConfig(), optimizer, TaskConfig(), inputs, seed=1, shards=shards) for _ in range(shards)]
    memory = ReplayMemory(setting.replay, setting.capacity, 10**9, np.random.default_rng(1))
    head, right, row_N = ModelState.empty(int(inputs), 0), 0, np.arange(len(x_ND))
    for start in range(0, len(x_ND), setting.round_rows * shards):
        part = slice(start, start + setting.round_rows * shards)
        contributions = []
        for learner, hand in zip(learners, deal(len(row_N[part]), shards, micro_batch), strict=True):
            if not hand:
                continue
            at_N = np.concatenate([np.arange(a, b) for a, b in hand])
            learner.load(head)
            replayed = memory.sample(int(setting.ratio * len(at_N)))
            rows = (row_N[part], x_ND[part])
            work = LocalRound(*rows, *rows, y_N[part], hand, hand, 0, replay_x_ND=replayed.x_ND, replay_y_N=replayed.y_N)
            right += int((learner.round(work).code_N == y_N[part][at_N]).sum())
            contributions.append(Contribution(head, 0, learner.change()))
        head = consolidate(head, contributions, shards)
        memory.add(x_ND[part], y_N[part])
    return right / len(y_N)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", nargs="*", default=[])
    parser.add_argument("--label", default="class")
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--shards", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if options.csv:
        configs = {
            Path(f).stem: StreamConfig(kind="files", path=f, label=options.label, rows=options.rows) for f in options.csv
        }
    else:
        made = {"drift_every_rows": 8000, "classes": 4}
        kinds = ["abrupt", "gradual", "recurring", "new_class", "virtual"]
        configs = {kind: StreamConfig(rows=options.rows, synthetic=made | {"drift": kind}) for kind in kinds}
    streams = {name: rows_of(config) for name, config in configs.items()}
    print(f"{'':54}" + "".join(f"{name[:10]:>12}" for name in streams))
    for setting in SETTINGS:
        scores = [accuracy(*rows, setting, options.shards) for rows in streams.values()]
        print(f"{setting!s:54}" + "".join(f"{100 * score:12.2f}" for score in scores), flush=True)


if __name__ == "__main__":
    main()
