"""`perennial bisect`: the first durable version that made the score on a file worse, in O(log n) evaluations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from actors.catalogue import Document
from actors.durable import model_of
from actors.errors import ConfigError, DamagedVersionError, InputUnusableError, UnknownVersionError
from actors.initial_weights import initial_weights
from actors.learning.encoding import RowEncoder
from actors.learning.inputs import InputLayout
from actors.learning.model_kinds import make_reader
from actors.learning.models.config import ModelConfig
from actors.learning.schema import Schema
from actors.learning.task import TaskConfig, TaskKind
from actors.sources.config import SourceKind
from actors.sources.open_source import open_source
from actors.sources.source import BadRow
from actors.sources.validation import RowValidator
from actors.storage import shown
from actors.version_store import Manifest, VersionStore
from cluster.config import PerennialConfig
from cluster.history import lines_of_lineage

_MOST_ROWS = 100_000


@dataclass(slots=True)
class Examination:
    """Scores versions on the same rows, each once. Higher is better: accuracy, or minus the mean absolute error."""

    store: VersionStore
    config: PerennialConfig
    inputs: InputLayout
    x_ND: np.ndarray
    labels: list[Any] | np.ndarray
    initial: Mapping[str, np.ndarray] | None  # what is frozen is not in the versions
    scores: dict[int, float] = field(default_factory=dict)

    @property
    def metric(self) -> str:
        return "mae" if self.config.task.kind is TaskKind.REGRESSION else "accuracy"

    def score(self, version: int) -> float:
        if version not in self.scores:
            self.scores[version] = self._score(self.store.manifest(version))
        return self.scores[version]

    def shown(self, score: float) -> float:
        """As the metric is read: an error is positive."""
        return -score if self.metric == "mae" else score

    def _score(self, manifest: Manifest) -> float:
        state = model_of(self.store, manifest)
        c = self.config
        reader = make_reader(c.model, c.task, self.inputs, seed=c.seed, initial=self.initial)
        reader.load(state)
        answer = reader.predict(self.x_ND)
        if answer.value_N is not None:
            return -float(np.abs(answer.value_N - np.asarray(self.labels)).mean())
        assert answer.code_N is not None
        given = [state.classes[code] if code >= 0 else None for code in answer.code_N.tolist()]
        return float(np.mean([a == b for a, b in zip(given, self.labels, strict=True)]))


def first_worse(versions: list[int], is_worse: Callable[[int], bool]) -> int:
    """The first of `versions`, ascending, that is worse, where none after it is better again; the last one is worse."""
    low, high = 0, len(versions) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_worse(versions[middle]) else (middle + 1, high)
    return versions[low]


def bisect(config: PerennialConfig, data: Path, threshold: float | None, good: int | None, bad: int | None) -> Document:
    """`threshold`: what a good version reaches, half-way between the scores of `good` and `bad` where it is None.

    `good` and `bad` are the oldest and the newest durable versions where they are None. Raises PerennialError where these are
    not durable, the file cannot be used, or the score is not worse at `bad`.
    """
    store = VersionStore(config.storage)
    versions = [version for version in store.versions() if _is_whole(store, version)]
    for version in (good, bad):
        if version is not None and version not in versions:
            raise UnknownVersionError(
                f"version {version} is not durable in {shown(config.storage)}; `perennial log` lists them"
            )
    versions = [v for v in versions if (good is None or v >= good) and (bad is None or v <= bad)]
    if len(versions) < 2:
        raise UnknownVersionError(
            f"there are {len(versions)} durable versions to look through in {shown(config.storage)}, wanted 2 or more"
        )
    about = store.manifest(versions[-1]).about  # of what was learned, whatever the configuration says now
    schema, task = Schema.from_json(dict(about["schema"])), TaskConfig.model_validate(about["task"])
    config = config.model_copy(update={"task": task, "model": ModelConfig.model_validate(about["model"])})
    rows, initial = _rows_of(data, config, schema), initial_weights(config.model)
    examination = Examination(store, config, RowEncoder(schema).layout, *rows, initial)
    at_good, at_bad = examination.score(versions[0]), examination.score(versions[-1])
    sign = -1 if examination.metric == "mae" else 1
    wanted = (at_good + at_bad) / 2 if threshold is None else sign * threshold
    if not at_bad < wanted <= at_good:
        raise ConfigError(
            f"the {examination.metric} on {data} is {examination.shown(at_good):.4f} with version {versions[0]} and "
            f"{examination.shown(at_bad):.4f} with version {versions[-1]}, so no version between them made it worse than "
            f"{examination.shown(wanted):.4f}: name other versions (--good, --bad) or another --threshold"
        )
    found = store.manifest(first_worse(versions, lambda version: examination.score(version) < wanted))
    return {
        "version": found.version,
        "parent": found.parent,
        "metric": examination.metric,
        "threshold": examination.shown(wanted),
        "rows": len(examination.x_ND),
        "candidates": len(versions),
        "scores": {str(v): examination.shown(score) for v, score in sorted(examination.scores.items())},
        "lineage": dict(found.about["lineage"]),
    }


def print_bisection(console: Console, document: Document) -> None:
    for version, score in document["scores"].items():
        mark = "  <- the first that is worse" if int(version) == document["version"] else ""
        console.print(f"v{version:<8} {document['metric']} {score:.4f}{mark}", highlight=False)
    looked = f"{len(document['scores'])} of {document['candidates']} versions on {document['rows']:,} rows"
    console.print(
        f"version {document['version']} made it worse than {document['threshold']:.4f}; looked at {looked}", highlight=False
    )
    for line in lines_of_lineage(document["lineage"]):
        console.print(line, highlight=False)


def _is_whole(store: VersionStore, version: int) -> bool:
    try:
        store.manifest(version)
    except DamagedVersionError:
        return False
    return True


def _rows_of(data: Path, config: PerennialConfig, schema: Schema) -> tuple[np.ndarray, list[Any] | np.ndarray]:
    """The file's good rows, at most 100,000, encoded, and their labels."""
    if not data.exists():
        raise ConfigError(f"--data is {str(data)!r}, and there is no such file")
    stream = config.stream.model_copy(update={"kind": SourceKind.FILES, "path": str(data), "follow": False, "rows": _MOST_ROWS})
    stream = stream.model_copy(update={"label": schema.label})
    task = TaskConfig(kind=TaskKind.REGRESSION if config.task.kind is TaskKind.REGRESSION else TaskKind.CLASSIFICATION)
    validator, encoded = RowValidator(schema, task), [np.empty((0, RowEncoder(schema).width), np.float32)]
    labels: list[Any] = []
    bad_rows: list[BadRow] = []
    for chunk in open_source(stream, task, config.seed).read({}):
        if chunk is not None:
            rows, bad = validator.check(chunk)
            encoded.append(rows.x_ND)
            labels.extend(rows.labels)
            bad_rows += bad[:1]
    x_ND = np.concatenate(encoded)
    if not len(x_ND):
        reason = f": {bad_rows[0].message}" if bad_rows else ""
        raise InputUnusableError(f"no row of {data} can be used{reason}")
    return x_ND, labels
