"""The source that the configuration asks for."""

import time
from collections.abc import Callable
from pathlib import Path

from actors.learning.task import TaskConfig, TaskKind
from actors.sources.config import SourceKind, StreamConfig
from actors.sources.files import FilesSource
from actors.sources.journal_source import PARTITION as FEEDBACK
from actors.sources.journal_source import JournalSource
from actors.sources.merged import MergedSource
from actors.sources.python_source import PythonSource
from actors.sources.scenarios.scenario import ScenarioKind
from actors.sources.scenarios.scenario_source import ScenarioSource
from actors.sources.source import Source
from actors.sources.synthetic import SyntheticSource


def open_source(
    config: StreamConfig,
    task: TaskConfig,
    seed: int,
    journal: Path | None = None,
    *,
    once: bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> Source:
    """The stream, with the feedback in `journal` where there is one. `once`: it ends at what feedback there is."""
    takes_scores = task.kind is TaskKind.FEEDBACK
    if config.kind is SourceKind.JOURNAL:
        assert journal is not None
        return JournalSource(journal, config.label, config.rows, takes_scores=takes_scores, follow=not once)
    stream = _configured(config, task, seed, clock)
    if journal is None:
        return stream
    feedback = JournalSource(journal, config.label, None, takes_scores=takes_scores, follow=not once)
    return MergedSource(stream, feedback, FEEDBACK)


def _configured(config: StreamConfig, task: TaskConfig, seed: int, clock: Callable[[], float]) -> Source:
    match config.kind:
        case SourceKind.FILES:
            return FilesSource(config)
        case SourceKind.PYTHON:
            return PythonSource(config)
        case _ if config.synthetic.scenario is not ScenarioKind.RULE:
            return ScenarioSource(config, task.kind, seed, clock)
        case _:
            return SyntheticSource(config, task.kind, seed, clock)
