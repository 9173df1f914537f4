"""What a row of the stream looks like: its feature columns, their kinds, and its label."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class ColumnKind(StrEnum):
    NUMERIC = "numeric"
    CATEGORICAL = "categorical"
    TEXT = "text"
    VECTOR = "vector"


class LabelType(StrEnum):
    """How a label is written; a class keeps this type in predictions and reports."""

    INTEGER = "integer"
    FLOAT = "float"
    BOOLEAN = "boolean"
    STRING = "string"


@dataclass(frozen=True, slots=True)
class Column:
    """One feature. `size` is the length of a vector column, 1 for every other kind."""

    name: str
    kind: ColumnKind
    size: int = 1


@dataclass(frozen=True, slots=True)
class Schema:
    """The features in the order in which they are encoded, and the label that is learned."""

    columns: tuple[Column, ...]
    label: str
    label_type: LabelType

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if not names:
            raise ValueError("a schema needs at least one feature column; none is left beside the label")
        if len(set(names)) != len(names) or self.label in names:
            raise ValueError(f"column names must be unique and differ from the label {self.label!r}: {names}")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Schema":
        columns = tuple(Column(c["name"], ColumnKind(c["kind"]), c["size"]) for c in document["columns"])
        return cls(columns, document["label"], LabelType(document["label_type"]))
