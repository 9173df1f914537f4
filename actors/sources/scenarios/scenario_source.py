"""An application's stream as a source."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from actors.errors import ConfigError
from actors.learning.task import TaskKind
from actors.sources.chunks import CHUNK_ROWS, SAMPLE_ROWS, paced, stop_after
from actors.sources.scenarios.chatbot import ChatbotScenario
from actors.sources.scenarios.fraud import FraudScenario
from actors.sources.scenarios.recommendation import RecommendationScenario
from actors.sources.scenarios.scenario import BLOCK_ROWS, Scenario, ScenarioKind
from actors.sources.scenarios.sensors import SensorsScenario
from actors.sources.source import SourceChunk

if TYPE_CHECKING:  # it contains the section of the synthetic stream, which names the scenarios
    from actors.sources.config import StreamConfig

_TASKS = {
    ScenarioKind.FRAUD: (TaskKind.CLASSIFICATION,),
    ScenarioKind.RECOMMENDATION: (TaskKind.CLASSIFICATION,),
    ScenarioKind.CHATBOT: (TaskKind.CLASSIFICATION, TaskKind.FEEDBACK),
    ScenarioKind.SENSORS: (TaskKind.REGRESSION,),
}


def scenario_of(kind: ScenarioKind, seed: int, every: int, task_kind: TaskKind) -> Scenario:
    """Raises ConfigError where the scenario's label is of another task."""
    if task_kind not in _TASKS[kind]:
        fitting = " or ".join(_TASKS[kind])
        raise ConfigError(
            f"stream.synthetic.scenario is {kind}, whose label is for task.kind: {fitting}, and task.kind is {task_kind}; "
            f"set task.kind={_TASKS[kind][0]}"
        )
    match kind:
        case ScenarioKind.FRAUD:
            return FraudScenario(seed, every)
        case ScenarioKind.RECOMMENDATION:
            return RecommendationScenario(seed, every)
        case ScenarioKind.CHATBOT:
            return ChatbotScenario(seed, every, takes_scores=task_kind is TaskKind.FEEDBACK)
        case _:
            return SensorsScenario(seed, every)


class ScenarioSource:
    """One partition, `synthetic`, without an end unless `stream.rows` says so."""

    partition = "synthetic"

    def __init__(
        self, config: "StreamConfig", task_kind: TaskKind, seed: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream, self._clock = config, clock
        made = config.synthetic
        self._scenario = scenario_of(made.scenario, seed, made.drift_every_rows, task_kind)
        if config.label in self._scenario.block(0).features:
            raise ConfigError(
                f"stream.label is {config.label!r}, which is a feature of the {made.scenario} stream; call the label otherwise"
            )

    def sample(self) -> pa.Table:
        return self._chunk(0, min(SAMPLE_ROWS, self._stream.rows or SAMPLE_ROWS)).table

    def read(self, offsets: Mapping[str, int]) -> Iterator[SourceChunk | None]:
        chunks: Iterator[SourceChunk | None] = self._chunks(offsets.get(self.partition, 0))
        if self._stream.synthetic.rate_rows_per_s is not None:
            chunks = paced(chunks, self._stream.synthetic.rate_rows_per_s, self._clock)
        return stop_after(chunks, offsets, self._stream.rows)

    def _chunks(self, start: int) -> Iterator[SourceChunk]:
        while True:
            stop = (start // CHUNK_ROWS + 1) * CHUNK_ROWS
            yield self._chunk(start, stop)
            start = stop

    def _chunk(self, start: int, stop: int) -> SourceChunk:
        first = start // BLOCK_ROWS
        blocks = [self._scenario.block(number) for number in range(first, -(-stop // BLOCK_ROWS))]
        table = pa.concat_tables([pa.table({**block.features, self._stream.label: block.label}) for block in blocks])
        wanted = slice(start - first * BLOCK_ROWS, stop - first * BLOCK_ROWS)
        scored = [each for block in blocks for each in block.scored or ()]
        return SourceChunk(
            self.partition,
            start,
            stop,
            table.slice(wanted.start, stop - start).combine_chunks(),
            np.arange(start, stop),
            scored=tuple(scored[wanted]) if scored else None,
        )
