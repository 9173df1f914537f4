"""The source that the configuration asks for."""

from actors.learning.task import TaskConfig
from actors.sources.config import SourceKind, StreamConfig
from actors.sources.files import FilesSource
from actors.sources.python_source import PythonSource
from actors.sources.source import Source
from actors.sources.synthetic import SyntheticSource


def open_source(config: StreamConfig, task: TaskConfig, seed: int) -> Source:
    match config.kind:
        case SourceKind.SYNTHETIC:
            return SyntheticSource(config, task.kind, seed)
        case SourceKind.FILES:
            return FilesSource(config)
        case SourceKind.PYTHON:
            return PythonSource(config)
