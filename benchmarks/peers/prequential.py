"""Runs the peers row by row over one CSV file, in an environment of their own: `make peers`, then benchmarks/accuracy.py.

    .venv-peers/bin/python benchmarks/peers/prequential.py FILE.csv --methods vw_nn16,arf10 --delays 0,32 [--rows 20000]

Every row is predicted first; with a label delay of D, the row D rows earlier is learned next. So does `perennial run` with
`stream.label_delay_rows`. Prints one JSON document a line for each method and delay. `cpu_s` is what predicting and learning
took, all threads of this process together; reading the file and starting the JVM are not in it. `right` are the rows predicted
rightly. Needs numpy; each method imports the rest when it is asked for.
"""

import argparse
import csv
import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class Stream:
    """Features in the order of the file: numbers (NaN where missing) and, where a column is `words`, codes of its words."""

    names: list[str]
    x_ND: np.ndarray
    words: dict[str, list[str]]
    y_N: np.ndarray
    classes: list[str]


class Peer(Protocol):
    """`predict` answers the code of a class, or None; then the row, or an earlier one, is learned."""

    def predict(self, row: int) -> int | None: ...

    def learn(self, row: int) -> None: ...


def read(path: Path, rows: int | None) -> Stream:
    """The classes and the words of the whole stream are told to the peers beforehand, which most of them cannot do without."""
    with path.open(encoding="utf-8", newline="") as file:
        names, *table = islice(csv.reader(file), None if rows is None else rows + 1)
    *columns, labels = zip(*table, strict=True)
    words: dict[str, list[str]] = {}
    x_ND = np.empty((len(table), len(columns)))
    for at, (name, texts) in enumerate(zip(names, columns, strict=False)):
        try:
            x_ND[:, at] = [float(text) if text else np.nan for text in texts]
        except ValueError:
            words[name] = sorted({text for text in texts if text})
            code_of = {word: float(code) for code, word in enumerate(words[name])}
            x_ND[:, at] = [code_of.get(text, np.nan) for text in texts]
    classes, y_N = np.unique(labels, return_inverse=True)
    return Stream(names[:-1], x_ND, words, y_N, classes.tolist())


class NoChange:
    """The last label that is visible."""

    def __init__(self, stream: Stream, seed: int) -> None:
        self._y_N, self._last = stream.y_N, None

    def predict(self, row: int) -> int | None:
        return self._last

    def learn(self, row: int) -> None:
        self._last = self._y_N[row]


class VowpalWabbit:
    """One hidden layer of 16 units, one against all, logistic loss, an example at a time; the rest as it comes."""

    def __init__(self, stream: Stream, seed: int) -> None:
        import vowpalwabbit

        self._stream = stream
        classes = max(2, len(stream.classes))
        self._vw = vowpalwabbit.Workspace(f"--oaa {classes} --nn 16 --loss_function logistic --quiet --random_seed {seed}")

    def predict(self, row: int) -> int | None:
        return int(self._vw.predict(self._example(row, ""))) - 1

    def learn(self, row: int) -> None:
        self._vw.learn(self._example(row, str(self._stream.y_N[row] + 1)))

    def _example(self, row: int, label: str) -> str:
        parts = []
        for at, (name, value) in enumerate(zip(self._stream.names, self._stream.x_ND[row].tolist(), strict=True)):
            if value == value:
                parts.append(f"w{at}={int(value)}" if name in self._stream.words else f"f{at}:{value}")
        return f"{label} | {' '.join(parts)}"


class River:
    """A row is a dictionary without the values that are missing; words are words."""

    def __init__(self, stream: Stream, model: Any) -> None:
        self._stream, self._model = stream, model

    def predict(self, row: int) -> int | None:
        return self._model.predict_one(self._row(row))

    def learn(self, row: int) -> None:
        self._model.learn_one(self._row(row), int(self._stream.y_N[row]))

    def _row(self, row: int) -> dict[str, Any]:
        words = self._stream.words
        return {
            name: words[name][int(value)] if name in words else value
            for name, value in zip(self._stream.names, self._stream.x_ND[row].tolist(), strict=True)
            if value == value
        }


def river_logistic_regression(stream: Stream, seed: int) -> Peer:
    """Standardised; words as indicators; one against all where there are more than two classes."""
    from river import compose, linear_model, multiclass, preprocessing

    scaled = preprocessing.StandardScaler()
    if stream.words:
        numbers = [name for name in stream.names if name not in stream.words]
        scaled = (compose.Select(*numbers) | scaled) + (compose.Select(*stream.words) | preprocessing.OneHotEncoder())
    model = linear_model.LogisticRegression()
    return River(stream, scaled | (multiclass.OneVsRestClassifier(model) if len(stream.classes) > 2 else model))


def river_hoeffding_adaptive_tree(stream: Stream, seed: int) -> Peer:
    from river import tree

    return River(stream, tree.HoeffdingAdaptiveTreeClassifier(seed=seed))


class Moa:
    """A classifier of MOA through CapyMOA, an instance at a time. Words are nominal attributes."""

    def __init__(self, stream: Stream, make: Callable[[Any], Any]) -> None:
        from capymoa.core import LabeledInstance
        from capymoa.stream import Schema

        categories = dict(stream.words) | {"(label)": stream.classes}
        self._schema = Schema.from_custom([*stream.names, "(label)"], target="(label)", categories=categories, name="stream")
        self._instance, self._x_ND, self._y_N = LabeledInstance.from_array, stream.x_ND, stream.y_N
        self._learner = make(self._schema)

    def predict(self, row: int) -> int | None:
        return self._learner.predict(self._instance(self._schema, self._x_ND[row], -1))

    def learn(self, row: int) -> None:
        self._learner.train(self._instance(self._schema, self._x_ND[row], int(self._y_N[row])))


class SamKnn(Moa):
    """MOA keeps book, as it predicts, of which of its memories would have been right, once it has chosen the one that answers.

    So the row has its label with it then; where labels are late this favours SAM-kNN a little. Missing values are filled in,
    for it has no notion of them.
    """

    def __init__(self, stream: Stream, seed: int) -> None:
        from capymoa.classifier import SAMkNN

        super().__init__(stream, lambda schema: SAMkNN(schema=schema, random_seed=seed))
        self._x_ND = _filled_in(stream)

    def predict(self, row: int) -> int | None:
        return self._learner.predict(self._instance(self._schema, self._x_ND[row], int(self._y_N[row])))


def _filled_in(stream: Stream) -> np.ndarray:
    """Missing values become the mean of the earlier ones."""
    there_ND = ~np.isnan(stream.x_ND)
    sum_ND, count_ND = np.cumsum(np.where(there_ND, stream.x_ND, 0), axis=0), np.cumsum(there_ND, axis=0)
    return np.where(there_ND, stream.x_ND, sum_ND / np.maximum(count_ND, 1))


def moa_hoeffding_adaptive_tree(stream: Stream, seed: int) -> Peer:
    from capymoa.classifier import HoeffdingAdaptiveTree

    return Moa(stream, lambda schema: HoeffdingAdaptiveTree(schema=schema, random_seed=seed))


def adaptive_random_forest(stream: Stream, seed: int) -> Peer:
    from capymoa.classifier import AdaptiveRandomForestClassifier

    return Moa(stream, lambda schema: AdaptiveRandomForestClassifier(schema=schema, ensemble_size=10, random_seed=seed))


def streaming_random_patches(stream: Stream, seed: int) -> Peer:
    from capymoa.classifier import StreamingRandomPatches

    return Moa(stream, lambda schema: StreamingRandomPatches(schema=schema, ensemble_size=10, random_seed=seed))


def leveraging_bagging(stream: Stream, seed: int) -> Peer:
    from capymoa.classifier import LeveragingBagging

    return Moa(stream, lambda schema: LeveragingBagging(schema=schema, ensemble_size=10, random_seed=seed))


METHODS: dict[str, Callable[[Stream, int], Peer]] = {
    "no_change": NoChange,
    "vw_nn16": VowpalWabbit,
    "river_lr": river_logistic_regression,
    "river_hat": river_hoeffding_adaptive_tree,
    "moa_hat": moa_hoeffding_adaptive_tree,
    "arf10": adaptive_random_forest,
    "srp10": streaming_random_patches,
    "levbag10": leveraging_bagging,
    "sam_knn": SamKnn,
}


def run(peer: Peer, y_N: np.ndarray, delay: int) -> tuple[np.ndarray, float]:
    """Which rows were predicted rightly, and the CPU seconds that it took."""
    right_N, waiting = np.zeros(len(y_N), bool), deque[int]()
    started = time.process_time()
    for row in range(len(y_N)):
        right_N[row] = peer.predict(row) == y_N[row]
        waiting.append(row)
        if len(waiting) > delay:
            peer.learn(waiting.popleft())
    return right_N, time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--delays", default="0")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    stream = read(options.csv, options.rows)
    for delay in map(int, options.delays.split(",")):
        for method in options.methods.split(","):
            told: dict[str, Any] = {"method": method, "delay": delay, "rows": len(stream.y_N)}
            try:
                right_N, cpu_s = run(METHODS[method](stream, options.seed), stream.y_N, delay)
                told |= {"right": int(right_N.sum()), "cpu_s": cpu_s}
            except Exception as error:  # one method must not cost the others
                told["error"] = f"{type(error).__name__}: {error}"
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
