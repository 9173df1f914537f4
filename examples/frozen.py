"""The frozen model: the first durable version of a run, asked about every row that came."""

from typing import Any

import numpy as np

from actors.durable import model_of
from actors.learning.encoding import RowEncoder
from actors.learning.model_kinds import make_reader
from actors.learning.schema import Schema
from actors.learning.task import TaskKind
from actors.sources.open_source import open_source
from actors.sources.validation import RowValidator
from actors.version_store import VersionStore
from cluster.config import PerennialConfig
from examples.study import Told


def frozen(config: PerennialConfig) -> tuple[int, Told, np.ndarray]:
    """How many rows it has learned, what it tells, and the labels."""
    store = VersionStore(config.storage)
    manifest = store.manifest(store.versions()[0])
    state = model_of(store, manifest)
    schema = Schema.from_json(dict(manifest.about["schema"]))
    validator = RowValidator(schema, config.task)
    reader = make_reader(config.model, config.task, RowEncoder(schema).layout, seed=config.seed)
    reader.load(state)
    prediction: list[Any] = []
    confidence, labels = [], []
    for chunk in open_source(config.stream, config.task, config.seed).read({}):
        if chunk is None:
            continue
        rows, _ = validator.check(chunk)
        answer = reader.predict(rows.x_ND)
        if answer.value_N is not None:
            prediction += answer.value_N.tolist()
            confidence.append(np.ones(len(rows.x_ND)))
        else:
            assert answer.code_N is not None and answer.probability_NK is not None
            prediction += [state.classes[code] if code >= 0 else None for code in answer.code_N.tolist()]
            confidence.append(answer.probability_NK.max(axis=1))
        is_feedback = config.task.kind is TaskKind.FEEDBACK
        labels += [each.answer for each in rows.labels] if is_feedback else list(rows.labels)
    return state.rows, Told(prediction, np.concatenate(confidence)), np.array(labels)
