"""A small system behind the HTTP surface, in one process: a threshold for a model, dicts for its memory."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from actors.feedback import FeedbackItem, FeedbackOutcome
from actors.learning.schema import Column, ColumnKind, LabelType, Schema
from actors.learning.task import TaskKind
from serve.interfaces import Event, MetricFamily, Moved, Reply, RequestError, Served

MIXED = Schema(
    (Column("age", ColumnKind.NUMERIC), Column("amount", ColumnKind.NUMERIC), Column("country", ColumnKind.CATEGORICAL)),
    "label",
    LabelType.STRING,
)
NUMERIC = Schema((Column("a", ColumnKind.NUMERIC), Column("b", ColumnKind.NUMERIC)), "label", LabelType.FLOAT)
RICH = Schema(
    (Column("amount", ColumnKind.NUMERIC), Column("place", ColumnKind.VECTOR, 2), Column("note", ColumnKind.TEXT)),
    "label",
    LabelType.INTEGER,
)
CLASSES: dict[LabelType, tuple[Any, Any]] = {
    LabelType.STRING: ("fraud", "genuine"),
    LabelType.INTEGER: (1, 0),
    LabelType.BOOLEAN: (True, False),
}


@dataclass
class SmallSystem:
    """Production's answers and the desk. Version v takes more than 10 * v for the first class; regression adds v to the sum.

    `failure` is raised by every call; while `is_stuck` no call returns.
    """

    schema: Schema = MIXED
    task: TaskKind = TaskKind.CLASSIFICATION
    production: int | None = 1
    failure: Exception | None = None
    is_stuck: bool = False
    previous: int | None = None
    kept: tuple[int, ...] = (0, 1, 2)
    moves: list[tuple[int, str, str]] = field(default_factory=list)
    labels: dict[str, Any] = field(default_factory=dict)
    items: list[FeedbackItem] = field(default_factory=list)
    requests: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    told: list[Event] = field(default_factory=list)

    async def predict(self, instances: Sequence[Mapping[str, Any]], request_ids: Sequence[str]) -> list[Reply]:
        await self._go()
        if self.production is None:
            raise RequestError(503, "not_ready", "there is no version yet", retry_after_s=2.5)
        for i, features in enumerate(instances):
            self._check(features, f"[{i}]")
        self.requests.update(zip(request_ids, instances, strict=True))
        return [self._reply(features, name) for features, name in zip(instances, request_ids, strict=True)]

    async def served(self) -> Served | None:
        await self._go()
        if self.production is None:
            return None
        return Served(self.production, self.schema, self.task, CLASSES.get(self.schema.label_type, ()))

    async def feedback(self, items: Sequence[FeedbackItem]) -> list[FeedbackOutcome]:
        await self._go()
        for i, item in enumerate(items):
            if isinstance(item.label, str) and item.label not in CLASSES[LabelType.STRING]:
                raise RequestError(422, "wrong_value", f"label {item.label!r} is no class", f"[{i}].label")
        return [self._take(item) for item in items]

    async def versions(self, newest: int, below: int | None) -> list[dict[str, Any]]:
        await self._go()
        found = [number for number in sorted(self.kept, reverse=True) if below is None or number < below]
        return [{"version": number, "parent": number - 1} for number in found[:newest]]

    async def version(self, number: int) -> dict[str, Any] | None:
        await self._go()
        return {"version": number, "parent": number - 1} if number in self.kept else None

    async def aliases(self) -> dict[str, int | None]:
        await self._go()
        return {"production": self.production, "shadow": None, "previous": self.previous}

    async def promote(self, version: int | None, reason: str, by: str) -> Moved:
        await self._go()
        version = max(self.kept) if version is None else version
        if version not in self.kept:
            raise RequestError(404, "unknown_version", f"version {version} is not kept", "version")
        self.production, self.previous = version, self.production
        self.moves.append((version, reason, by))
        self.tell("promoted", version=version)
        return Moved(version, self.previous, 1.5)

    async def rollback(self, version: int | None, reason: str, by: str) -> Moved:
        if version is None and self.previous is None:
            raise RequestError(404, "unknown_version", "there is no previous version")
        return await self.promote(self.previous or 0 if version is None else version, reason, by)

    async def status(self) -> dict[str, Any]:
        await self._go()
        return {
            "name": "small",
            "stream": {"offsets": {"0": 7}, "rows": 7},
            "rows_per_s": 3.5,
            "evidence": {"e_value": math.inf, "labels": 4, "decision": "wait"},
            "aliases": await self.aliases(),
        }

    async def events(self, after: int, timeout_s: float) -> list[Event]:
        await self._go()
        end = asyncio.get_running_loop().time() + timeout_s
        while not (newer := [event for event in self.told if event.id > after]):
            if asyncio.get_running_loop().time() >= end:
                break
            await asyncio.sleep(0.01)
        return newer

    async def metrics(self) -> Sequence[MetricFamily]:
        await self._go()
        delays = ({0.5: 1, 2.0: 3, math.inf: 4}, 6.5)
        return [
            MetricFamily("perennial_feedback", "counter", "Feedback.", ("outcome",), {("accepted",): len(self.labels)}),
            MetricFamily("perennial_version", "gauge", "Versions.", ("alias",), {("production",): self.production or 0}),
            MetricFamily("perennial_label_delay_seconds", "histogram", "Delays.", (), {(): delays}),
        ]

    def tell(self, kind: str, **data: Any) -> None:
        self.told.append(Event(len(self.told) + 1, 1_767_225_600.0, kind, data))

    async def _go(self) -> None:
        if self.is_stuck:
            await asyncio.Event().wait()
        if self.failure is not None:
            raise self.failure

    def _check(self, features: Mapping[str, Any], path: str) -> None:
        names = {column.name for column in self.schema.columns}
        for name in features:
            if name not in names:
                raise RequestError(422, "unknown_field", f"feature {name!r} is not known", f"{path}.{name}")
        for column in self.schema.columns:
            where = f"{path}.{column.name}"
            if column.name not in features:
                raise RequestError(422, "missing_field", f"feature {column.name!r} is missing", where)
            if not _fits(features[column.name], column):
                raise RequestError(422, "wrong_type", f"feature {column.name!r} must be {column.kind}", where)

    def _reply(self, features: Mapping[str, Any], request_id: str) -> Reply:
        assert self.production is not None
        if self.task is TaskKind.REGRESSION:
            total = sum(value for value in features.values() if value is not None)
            return Reply(request_id, float(total) + self.production, None, self.production)
        high, low = CLASSES[self.schema.label_type]
        is_high = (features["amount"] or 0) > 10 * self.production
        probabilities = {str(high).lower(): 0.75 if is_high else 0.25, str(low).lower(): 0.25 if is_high else 0.75}
        return Reply(request_id, high if is_high else low, probabilities, self.production)

    def _take(self, item: FeedbackItem) -> FeedbackOutcome:
        key = item.request_id or f"example {item.features}"
        given = item.label if item.score is None else item.score
        if key in self.labels:
            return FeedbackOutcome.DUPLICATE if self.labels[key] == given else FeedbackOutcome.CONFLICT
        self.labels[key] = given
        self.items.append(replace(item))
        return FeedbackOutcome.ACCEPTED if item.features or key in self.requests else FeedbackOutcome.UNKNOWN


def _fits(value: Any, column: Column) -> bool:
    if value is None:
        return True
    if column.kind is ColumnKind.NUMERIC:
        return isinstance(value, (int, float))
    if column.kind is ColumnKind.VECTOR:
        return isinstance(value, list) and len(value) == column.size
    return isinstance(value, (str, int)) if column.kind is ColumnKind.CATEGORICAL else isinstance(value, str)
