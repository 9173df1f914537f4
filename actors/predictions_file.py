"""Every prediction with the label that came later, as Parquet: what the report's scores can be recomputed from."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from actors.errors import ConfigError
from actors.learning.schema import LabelType
from actors.learning.task import TaskKind

ROW_GROUP_ROWS = 65_536

_VALUE_TYPES = {
    LabelType.INTEGER: pa.int64(),
    LabelType.FLOAT: pa.float64(),
    LabelType.BOOLEAN: pa.bool_(),
    LabelType.STRING: pa.string(),
}


def _given_fields(answer: pa.DataType) -> list[pa.Field]:
    """A feedback task: the answer that was given, where a score came for it; then the label is null, otherwise these are."""
    return [
        pa.field("answer", answer),
        pa.field("score", pa.float32()),
        pa.field("propensity", pa.float32()),  # with which it was given
        pa.field("answered_by", pa.int64()),  # the version that gave it
        pa.field("probability", pa.float32()),  # with which this row's version would have given it, or the label
    ]


def partial_path(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


class PredictionsFile:
    """Written as `PATH.partial` and renamed by `close`, so that a file at PATH is whole; it replaces an older one.

    Holds less than 65,536 rows, and those of one `write`, in memory. `value_type` is the Arrow type of the columns
    `prediction` and `label`: the label's own, or float64 in regression.
    """

    def __init__(self, path: str, label_type: LabelType, task_kind: TaskKind) -> None:
        self.value_type: pa.DataType = pa.float64() if task_kind is TaskKind.REGRESSION else _VALUE_TYPES[label_type]
        self._path = Path(path)
        self._partial = partial_path(self._path)
        self._schema = pa.schema(
            [
                pa.field("row", pa.int64(), nullable=False),
                pa.field("prediction", self.value_type),
                pa.field("confidence", pa.float32()),
                pa.field("label", self.value_type),
                pa.field("version", pa.int64(), nullable=False),
                pa.field("shard", pa.int32(), nullable=False),
                *(_given_fields(self.value_type) if task_kind is TaskKind.FEEDBACK else ()),
            ]
        )
        if self._path.is_dir():
            raise ConfigError(f"predictions cannot be written to {path!r}: it is a folder; name a file in it")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer: pq.ParquetWriter | None = pq.ParquetWriter(self._partial, self._schema)
        except OSError as error:
            raise ConfigError(
                f"predictions cannot be written to {path!r}: {error.strerror or error}; name a file where you may write"
            ) from error
        self._buffer: list[pa.RecordBatch] = []
        self._buffered_rows = 0

    def write(
        self,
        row_N: np.ndarray,
        prediction: pa.Array,
        confidence: pa.Array,
        label: pa.Array,
        version_N: np.ndarray,
        shard_N: np.ndarray,
        given: Mapping[str, pa.Array] = MappingProxyType({}),
    ) -> None:
        """Appends rows; `prediction` and `label` are of `value_type`, `confidence` of float32, null where there is none.

        `given`: the columns that a feedback task has beside the others, by name.
        """
        if len(row_N) == 0:
            return
        columns = [pa.array(row_N, pa.int64()), prediction, confidence, label, pa.array(version_N, pa.int64())]
        columns += [pa.array(shard_N, pa.int32()), *(given[field.name] for field in list(self._schema)[len(columns) + 1 :])]
        self._buffer.append(pa.record_batch(columns, schema=self._schema))
        self._buffered_rows += len(row_N)
        if self._buffered_rows >= ROW_GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._writer is None:
            raise ValueError(f"the predictions file {str(self._path)!r} is closed")
        self._writer.write_table(pa.Table.from_batches(self._buffer, self._schema), row_group_size=ROW_GROUP_ROWS)
        self._buffer, self._buffered_rows = [], 0

    def close(self) -> None:
        """Makes the file appear under its name, on disk; closing again does nothing."""
        if self._writer is None:
            return
        if self._buffer:
            self._flush()
        self._writer.close()
        self._writer = None
        with self._partial.open("rb") as written:
            os.fsync(written.fileno())
        self._partial.replace(self._path)
