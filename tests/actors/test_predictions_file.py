"""The predictions file: its columns, its types, and that it is either whole or not there."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.errors import ConfigError
from actors.learning.schema import LabelType
from actors.learning.task import TaskKind
from actors.predictions_file import ROW_GROUP_ROWS, PredictionsFile


def write(file: PredictionsFile, row_N: np.ndarray, values: list[object]) -> None:
    column = pa.array(values, file.value_type)
    ones = np.ones(len(row_N), dtype=np.int64)
    file.write(row_N, column, pa.array(np.full(len(row_N), 0.5), pa.float32()), column, ones, ones.astype(np.int32))


@pytest.mark.parametrize(
    ("label_type", "task_kind", "expected", "value"),
    [
        (LabelType.INTEGER, TaskKind.CLASSIFICATION, pa.int64(), 3),
        (LabelType.FLOAT, TaskKind.CLASSIFICATION, pa.float64(), 0.5),
        (LabelType.BOOLEAN, TaskKind.CLASSIFICATION, pa.bool_(), True),
        (LabelType.STRING, TaskKind.CLASSIFICATION, pa.string(), "yes"),
        (LabelType.INTEGER, TaskKind.REGRESSION, pa.float64(), 2.0),
    ],
)
def test_predictions_and_labels_have_the_type_in_which_the_label_is_written(tmp_path, label_type, task_kind, expected, value):
    file = PredictionsFile(str(tmp_path / "p.parquet"), label_type, task_kind)
    write(file, np.array([7]), [value])
    file.close()
    table = pq.read_table(tmp_path / "p.parquet")
    assert table.schema.names == ["row", "prediction", "confidence", "label", "version", "shard"]
    assert [table.schema.field(name).type for name in ("row", "confidence", "version", "shard")] == [
        pa.int64(),
        pa.float32(),
        pa.int64(),
        pa.int32(),
    ]
    assert table.schema.field("prediction").type == table.schema.field("label").type == expected
    assert table["label"].to_pylist() == [value]


def test_the_file_appears_under_its_name_only_when_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "er" / "p.parquet"
    file = PredictionsFile(str(path), LabelType.INTEGER, TaskKind.CLASSIFICATION)
    write(file, np.arange(3), [1, 2, 3])
    assert not path.exists()
    file.close()
    file.close()
    assert [child.name for child in path.parent.iterdir()] == ["p.parquet"]


def test_a_file_that_is_there_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "p.parquet"
    path.write_text("the last run's")
    file = PredictionsFile(str(path), LabelType.INTEGER, TaskKind.CLASSIFICATION)
    write(file, np.arange(1), [1])
    assert path.read_text() == "the last run's"
    file.close()
    assert pq.read_table(path).num_rows == 1


def test_rows_reach_the_file_in_groups_and_in_order_however_many_are_written_at_once(tmp_path):
    path = tmp_path / "p.parquet"
    file = PredictionsFile(str(path), LabelType.INTEGER, TaskKind.CLASSIFICATION)
    sizes, start = [1, 40_000, 30_000, 150_000, 10], 0
    for size in sizes:
        write(file, np.arange(start, start + size), list(range(size)))
        start += size
    file.close()
    parquet = pq.ParquetFile(path)
    groups = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
    assert max(groups) <= ROW_GROUP_ROWS
    assert np.array_equal(parquet.read()["row"].to_numpy(), np.arange(sum(sizes)))


def test_a_run_without_a_row_leaves_an_empty_table(tmp_path):
    file = PredictionsFile(str(tmp_path / "p.parquet"), LabelType.STRING, TaskKind.CLASSIFICATION)
    file.close()
    assert pq.read_table(tmp_path / "p.parquet").num_rows == 0


def test_a_path_that_cannot_be_written_is_refused_before_the_run_begins(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "p.parquet"):
        with pytest.raises(ConfigError, match="predictions cannot be written"):
            PredictionsFile(str(path), LabelType.STRING, TaskKind.CLASSIFICATION)
