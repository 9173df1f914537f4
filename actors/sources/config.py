"""Where the stream comes from and what its rows look like."""

import re
from enum import StrEnum
from typing import Any, Literal

from pydantic import model_validator

from actors.learning.schema import Column, ColumnKind, LabelType
from actors.learning.section import Section, setting
from actors.sources.synthetic import SyntheticConfig

_COLUMN = re.compile(r"(numeric|categorical|text)|vector\[([1-9][0-9]{0,5})\]")


class SourceKind(StrEnum):
    SYNTHETIC = "synthetic"
    FILES = "files"
    PYTHON = "python"
    JOURNAL = "journal"


class StreamConfig(Section):
    kind: SourceKind = setting(
        SourceKind.SYNTHETIC,
        "`synthetic`: made here; `files`: CSV, Parquet or Arrow; `python`: a source class of yours; `journal`: only what comes "
        "in at /feedback, which is learned beside every other kind, too.",
    )
    path: str | None = setting(None, "Kind `files`: a file, or a folder whose files are read in the order of their names.")
    follow: bool = setting(False, "Kind `files`: wait for lines that are appended and files that arrive, instead of ending.")
    source: str | None = setting(None, "Kind `python`: dotted path `package.module:Class` of the source.")
    options: dict[str, Any] = setting({}, "Kind `python`: keyword arguments of the class.")
    label: str = setting("class", "The column that is learned.", min_length=1)
    label_type: Literal["auto"] | LabelType = setting(
        "auto", "How labels are written: `integer`, `float`, `boolean`, `string`, or `auto`: what the first rows show."
    )
    columns: Literal["auto"] | dict[str, str] = setting(
        "auto",
        "`auto`: what the first rows show; or every feature column with its kind: `numeric`, `categorical`, `text` or "
        "`vector[8]`.",
    )
    label_delay_rows: int = setting(0, "A label becomes visible so many rows after its features.", unit="rows", ge=0)
    on_bad_row: Literal["quarantine", "stop"] = setting(
        "quarantine", "`quarantine`: set a bad row aside with the reason and go on; `stop`: end the run at the first one."
    )
    rows: int | None = setting(None, "End the stream after so many rows; null: where its source ends.", unit="rows", gt=0)
    synthetic: SyntheticConfig = setting(SyntheticConfig, "Kind `synthetic`: what is made.")

    @model_validator(mode="after")
    def _keys_agree(self) -> "StreamConfig":
        if self.kind is SourceKind.FILES and not self.path:
            raise ValueError(
                "stream.kind is files, which needs stream.path: set it to a CSV, Parquet or Arrow file or a folder of them"
            )
        if self.kind is SourceKind.PYTHON and not self.source:
            raise ValueError("stream.kind is python, which needs stream.source: set it to your class, as package.module:Class")
        if self.follow and self.kind is not SourceKind.FILES:
            raise ValueError(f"stream.follow is for stream.kind: files, and the kind is {self.kind}: remove stream.follow")
        if self.columns != "auto" and self.label in self.columns:
            raise ValueError(
                f"stream.columns.{self.label} is the label (stream.label): list only the features in stream.columns"
            )
        self.given_columns()
        return self

    @property
    def is_endless(self) -> bool:
        """Whether it is certain never to end by itself."""
        return self.rows is None and (self.kind is SourceKind.SYNTHETIC or self.follow)

    def given_columns(self) -> tuple[Column, ...] | None:
        """The features as configured, None for `auto`. Raises ValueError, naming the key, for a kind that does not exist."""
        if self.columns == "auto":
            return None
        if not self.columns:
            raise ValueError("stream.columns is empty: list at least one feature, or say auto")
        columns = []
        for name, text in self.columns.items():
            match = _COLUMN.fullmatch(text)
            if match is None:
                raise ValueError(
                    f"stream.columns.{name} is {text!r}: use numeric, categorical, text, or vector[8] for 8 numbers"
                )
            kind = ColumnKind(match[1] or "vector")
            columns.append(Column(name, kind, int(match[2] or 1)))
        return tuple(columns)
