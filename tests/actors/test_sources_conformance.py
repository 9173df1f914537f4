"""What every source promises, whatever it reads."""

import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, ipc
from pyarrow import parquet as pq

from actors.feedback import FeedbackConfig, FeedbackItem
from actors.journal import Journal, JournalBatch
from actors.learning.task import TaskConfig
from actors.sources.config import StreamConfig
from actors.sources.journal_source import JournalSource
from actors.sources.open_source import open_source

_ROWS = 10_000
_MODULE = """
import numpy as np
import pyarrow as pa
from actors.sources.source import SourceChunk

class Counting:
    def __init__(self, rows):
        self.rows = rows

    def sample(self):
        return pa.table({"x": [0], "class": [0]})

    def read(self, offsets):
        for partition in ("a", "b"):
            at = np.arange(offsets.get(partition, 0), self.rows // 2)
            if len(at):
                yield SourceChunk(partition, int(at[0]), int(at[-1]) + 1, pa.table({"x": at, "class": at % 3}), at)
            yield None
"""


def table(start, stop):
    at = np.arange(start, stop)
    return pa.table({"x": at / 8, "word": pa.array([f"w{i % 7}" for i in at], pa.string()), "class": at % 3})


def write_csv(folder):
    csv.write_csv(table(0, _ROWS), folder / "a.csv")


def write_messy_csv(folder):
    with open(folder / "a.csv", "wb") as file:
        file.write(b"x,word,class\n")
        for i in range(_ROWS):
            line = b'%d,"two\nlines, ""%d""",1\n' % (i, i)
            file.write({3: b"short\n", 5: b"\n" + line, 7: b"%d,\xff,1\n" % i}.get(i % 1009, line))
        file.write(b'9,"unclosed,1\n7,after,1')


def write_parquet(folder):
    pq.write_table(table(0, _ROWS), folder / "a.parquet", row_group_size=3000)


def write_arrow_file(folder):
    with ipc.new_file(folder / "a.arrow", table(0, 0).schema) as writer:
        writer.write_table(table(0, _ROWS), max_chunksize=8500)


def write_arrow_stream(folder):
    with ipc.new_stream(folder / "a.arrows", table(0, 0).schema) as writer:
        writer.write_table(table(0, _ROWS), max_chunksize=700)


def write_folder(folder):
    (folder / "deeper").mkdir()
    csv.write_csv(table(0, 5000), folder / "deeper" / "2.csv")
    pq.write_table(table(5000, 10_000), folder / "1.parquet")
    csv.write_csv(table(0, 0), folder / "3.csv")


FILES = [write_csv, write_messy_csv, write_parquet, write_arrow_file, write_arrow_stream, write_folder]
MADE = ["abrupt", "gradual", "recurring", "new_class", "virtual", "none"]
TASKS = {"fraud": "classification", "recommendation": "classification", "chatbot": "feedback", "sensors": "regression"}


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    """Its rows are not all alike: some mix classes of values, some have a column of their own."""
    path = tmp_path_factory.mktemp("journal") / "journal.db"
    unusual = {3: {"x": "text"}, 5: {"x": True}, 7: {"x": [1, 2]}, 11: {"x": {}}, 13: {"other": 1}, 17: {}, 19: {"x": 2}}
    items = []
    for i in range(_ROWS):
        features = {"x": i / 8, "word": f"w{i % 7}"} if i < 1000 else unusual.get(i % 1009, {"x": i / 8, "word": f"w{i % 7}"})
        items.append(FeedbackItem(0.0, None, json.dumps(features), "odd" if i == 1500 else i % 3))
    opened = Journal(path, FeedbackConfig(), lambda: 0.0)
    opened.apply(JournalBatch(feedback=items))
    opened.close()
    return path


@pytest.fixture(
    scope="module", params=[*FILES, *MADE, *TASKS, "python", "journal"], ids=lambda param: getattr(param, "__name__", param)
)
def make(request, tmp_path_factory):
    """Opens the source afresh, with further keys of the stream section."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield opener(request, tmp_path_factory.mktemp("source"), monkeypatch)


def opener(request, folder, monkeypatch):
    if request.param == "journal":
        path = request.getfixturevalue("journal")
        return lambda rows=None: JournalSource(path, "class", rows, takes_scores=False, follow=False)
    if request.param == "python":
        (folder / "counting_source.py").write_text(_MODULE)
        monkeypatch.syspath_prepend(folder)
        keys = {"kind": "python", "source": "counting_source:Counting", "options": {"rows": _ROWS}}
    elif request.param in TASKS:
        keys = {"synthetic": {"scenario": request.param, "drift_every_rows": 2500}, "rows": _ROWS}
    elif request.param in MADE:
        keys = {"synthetic": {"drift": request.param, "classes": 4, "drift_every_rows": 2500}, "rows": _ROWS}
    else:
        request.param(folder)
        keys = {"kind": "files", "path": str(folder)}
    task = TaskConfig(kind=TASKS.get(request.param, "classification"))
    return lambda **more: open_source(StreamConfig.model_validate({**keys, **more}), task, seed=3)


def rows_of(chunks):
    """{partition: [row, or the BadRow]} by offset, having checked that the chunks account for every offset."""
    found = {}
    for chunk in chunks:
        if chunk is None:
            continue
        rows = found.setdefault(chunk.partition, {})
        assert 0 < chunk.stop - chunk.start <= 8192
        pairs = [
            *zip(chunk.offset_N.tolist(), chunk.table.to_pylist(), strict=True),
            *((bad.offset, bad) for bad in chunk.malformed),
        ]
        assert sorted(offset for offset, _ in pairs) == list(range(chunk.start, chunk.stop))
        assert not rows or chunk.start == max(rows) + 1
        rows.update(sorted(pairs, key=lambda pair: pair[0]))
    return found


@pytest.fixture(scope="module")
def whole(make):
    return rows_of(make().read({}))


def test_reading_twice_gives_the_same_rows(make, whole):
    assert rows_of(make().read({})) == whole
    source = make()
    assert rows_of(source.read({})) == rows_of(source.read({}))


@pytest.mark.parametrize("fraction", [0.0001, 0.31, 0.5, 0.9999, 1.0])
def test_reading_from_an_offset_gives_the_tail_of_reading_from_zero(make, whole, fraction):
    offsets = {partition: int(len(rows) * fraction) for partition, rows in whole.items()}
    tail = rows_of(make().read(offsets))
    expected = {p: {i: row for i, row in rows.items() if i >= offsets[p]} for p, rows in whole.items()}
    assert tail == {p: rows for p, rows in expected.items() if rows}


@pytest.mark.parametrize("rows", [1, 8192, 9_345])
def test_the_stream_ends_after_the_configured_rows_wherever_it_is_taken_up(make, rows):
    whole = rows_of(make(rows=rows).read({}))
    assert sum(map(len, whole.values())) == rows
    first, count = next((p, len(found)) for p, found in whole.items())
    again = rows_of(make(rows=rows).read({first: count // 2}))
    assert sum(map(len, again.values())) == rows - count // 2
    assert rows_of(make(rows=rows).read({p: len(found) for p, found in whole.items()})) == {}


def test_the_sample_is_the_first_rows_and_consumes_nothing(make, whole):
    source = make()
    sample = source.sample()
    assert 1 <= sample.num_rows <= 1000
    assert rows_of(source.read({})) == whole
    good = [row for row in next(iter(whole.values())).values() if isinstance(row, dict)]
    assert sample.to_pylist() == good[: sample.num_rows]
