"""CapyMOA's strategies for online continual learning on rows of classes that come in tasks, in the peers' environment.

    .venv-peers/bin/python benchmarks/peers/class_incremental.py digits OUT.npz
    .venv-peers/bin/python benchmarks/peers/class_incremental.py learn ROWS.npz

`digits` writes scikit-learn's digits. `learn` takes what benchmarks/class_incremental.py writes and prints one JSON document a
line: for each strategy, the accuracy on the test rows of every task after every task.
"""

import json
import sys
from types import ModuleType

import numpy as np

BATCH_ROWS, MEMORY_ROWS, HIDDEN = 10, 200, 100


def digits(path: str) -> None:
    from sklearn.datasets import load_digits

    x_ND, y_N = load_digits(return_X_y=True)
    np.savez(path, x=x_ND, y=y_N)


class _Anything(ModuleType):
    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def stand_in_for_torchvision() -> None:
    """capymoa.ocl imports it for data sets that are not used here."""
    try:
        import torchvision  # noqa: F401
    except ModuleNotFoundError:
        for name in ("", ".transforms", ".transforms.functional", ".datasets"):
            module = sys.modules[f"torchvision{name}"] = _Anything(f"torchvision{name}")
            if name:
                setattr(sys.modules[f"torchvision{name}".rpartition(".")[0]], name.rpartition(".")[2], module)


def learn(path: str) -> None:
    stand_in_for_torchvision()
    import torch
    from capymoa.classifier import Finetune
    from capymoa.core.torch.ann import Perceptron
    from capymoa.ocl import strategy
    from capymoa.stream import Schema

    rows = np.load(path)
    classes = [str(each) for each in range(int(rows["train_y"].max()) + 1)]
    columns = [f"x{i}" for i in range(rows["train_x"].shape[1])]
    schema = Schema.from_custom([*columns, "class"], "class", {"class": classes}, "rows")
    torch.set_num_threads(1)

    def network() -> torch.nn.Module:
        torch.manual_seed(0)
        return Perceptron(schema, HIDDEN)

    def replay(repeat: int):
        learner = Finetune(schema, network())
        return strategy.ExperienceReplay(learner, MEMORY_ROWS, repeat=repeat)

    strategies = {
        "Naive (Finetune)": lambda: Finetune(schema, network()),
        f"ExperienceReplay({MEMORY_ROWS})": lambda: replay(1),
        f"ExperienceReplay({MEMORY_ROWS}), repeat 10": lambda: replay(10),
        "NCM": lambda: strategy.NCM(schema),
        "SLDA": lambda: strategy.SLDA(schema),
    }
    train_x, test_x = (torch.from_numpy(rows[name].astype(np.float32)) for name in ("train_x", "test_x"))
    train_y, test_y = torch.from_numpy(rows["train_y"]), rows["test_y"]
    tasks = int(rows["train_task"].max()) + 1
    for name, make in strategies.items():
        learner, accuracy_TT = make(), np.zeros((tasks, tasks))
        for task in range(tasks):
            at_N = np.flatnonzero(rows["train_task"] == task)
            for start in range(0, len(at_N), BATCH_ROWS):
                batch_N = at_N[start : start + BATCH_ROWS]
                learner.batch_train(train_x[batch_N], train_y[batch_N])
            for other in range(tasks):
                tested_N = rows["test_task"] == other
                code_N = learner.batch_predict_proba(test_x[tested_N]).argmax(dim=1).numpy()
                accuracy_TT[task, other] = (code_N == test_y[tested_N]).mean()
        print(json.dumps({"strategy": name, "accuracy": accuracy_TT.tolist()}), flush=True)


if __name__ == "__main__":
    {"digits": digits, "learn": learn}[sys.argv[1]](sys.argv[2])
