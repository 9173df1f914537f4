"""A source class of the user's, found by its dotted path."""

import importlib
import sys
from collections.abc import Iterator, Mapping
from typing import cast

import pyarrow as pa

from actors.errors import ConfigError, InputUnusableError, PerennialError
from actors.sources.chunks import SAMPLE_ROWS, pieces, stop_after
from actors.sources.config import StreamConfig
from actors.sources.source import Source, SourceChunk

_OURS = ("actors", "serve", "cluster")


def _load(path: str) -> object:
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise ConfigError(f"stream.source is {path!r}; write it as package.module:Class")
    top = module_name.split(".")[0]
    note = ""
    if top in _OURS:
        where = getattr(sys.modules.get(top), "__file__", None) or "Perennial"
        note = f"; {top!r} is a package of Perennial's ({where}), which hides a folder of yours with that name: rename yours"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"stream.source: module {module_name!r} cannot be imported ({error}); "
            f"run from the folder that contains it, or install it{note}"
        ) from error
    except Exception as error:  # whatever the user's module raises while it is imported
        raise ConfigError(f"stream.source: importing {module_name!r} failed: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise ConfigError(
            f"stream.source: {module_name!r} ({getattr(module, '__file__', '?')}) has no {name!r}; check the spelling{note}"
        )
    return getattr(module, name)


class PythonSource:
    """Holds the user's source to what the rest relies on: consecutive offsets, chunks of at most 8,192 rows, `stream.rows`."""

    def __init__(self, config: StreamConfig) -> None:
        self._path, self._rows = str(config.source), config.rows
        made = _load(self._path)
        if not callable(made):
            raise ConfigError(
                f"stream.source {self._path} is a {type(made).__name__}; it must be a class with sample() and read(offsets)"
            )
        try:
            source = made(**config.options)
        except Exception as error:  # whatever the user's class raises
            raise ConfigError(
                f"stream.source {self._path} cannot be made with stream.options {sorted(config.options)}: "
                f"{type(error).__name__}: {error}"
            ) from error
        absent = [name for name in ("sample", "read") if not callable(getattr(source, name, None))]
        if absent:
            raise ConfigError(
                f"stream.source {self._path} has no method {absent[0]}(); see actors.sources.source.Source for what it must do"
            )
        self._source = cast(Source, source)

    def sample(self) -> pa.Table:
        try:
            table = self._source.sample()
        except PerennialError:
            raise
        except Exception as error:  # whatever the user's method raises
            raise InputUnusableError(f"{self._path}.sample() failed: {type(error).__name__}: {error}") from error
        if not isinstance(table, pa.Table):
            raise InputUnusableError(f"{self._path}.sample() returned a {type(table).__name__}; it must return a pyarrow.Table")
        if not table.num_rows:
            raise InputUnusableError(f"{self._path}.sample() returned no rows; at least one is needed to infer the schema")
        return table.slice(0, min(SAMPLE_ROWS, self._rows or SAMPLE_ROWS))

    def read(self, offsets: Mapping[str, int]) -> Iterator[SourceChunk | None]:
        return stop_after(self._chunks(dict(offsets)), offsets, self._rows)

    def _chunks(self, offsets: dict[str, int]) -> Iterator[SourceChunk | None]:
        try:
            yield from self._checked(offsets)
        except PerennialError:
            raise
        except Exception as error:  # whatever the user's method raises
            raise InputUnusableError(f"{self._path}.read() failed: {type(error).__name__}: {error}") from error

    def _checked(self, offsets: dict[str, int]) -> Iterator[SourceChunk | None]:
        for chunk in self._source.read(dict(offsets)):
            if chunk is None:
                yield None
                continue
            if not isinstance(chunk, SourceChunk):
                raise InputUnusableError(f"{self._path}.read() gave a {type(chunk).__name__}; it must give SourceChunk or None")
            expected = offsets.get(chunk.partition, 0)
            if chunk.start != expected:
                raise InputUnusableError(
                    f"{self._path}.read() gave offset {chunk.start} of partition {chunk.partition!r} where {expected} comes "
                    "next; "
                    "rows must come in order, each once"
                )
            chunk.table.validate(full=True)
            offsets[chunk.partition] = chunk.stop
            yield from pieces(chunk)
