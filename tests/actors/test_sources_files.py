import tracemalloc

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import ipc
from pyarrow import parquet as pq

from actors.errors import ConfigError, InputUnusableError
from actors.sources.config import StreamConfig
from actors.sources.csv_file import end_of_record, end_of_records
from actors.sources.files import FilesSource
from actors.sources.python_source import PythonSource
from actors.sources.source import BadRowReason


def source(path, **keys):
    return FilesSource(StreamConfig(kind="files", path=str(path), **keys))


def read(path, **keys):
    return [chunk for chunk in source(path, **keys).read({}) if chunk is not None]


def values(chunks):
    return [row for chunk in chunks for row in chunk.table.to_pylist()]


def malformed(chunks):
    return {bad.offset: bad for chunk in chunks for bad in chunk.malformed}


def csv_file(folder, text, name="a.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_cells_of_a_csv_arrive_as_strings_and_empty_ones_as_null(tmp_path):
    chunks = read(csv_file(tmp_path, '\ufeffx,word,class\r\n1.5,"a, ""b""\nc",0\r\n\r\n,NA,1'))
    assert values(chunks) == [{"x": "1.5", "word": 'a, "b"\nc', "class": "0"}, {"x": None, "word": "NA", "class": "1"}]
    assert (chunks[0].partition, chunks[0].start, chunks[-1].stop) == ("a.csv", 0, 2)


def test_a_record_of_another_length_is_malformed_at_its_offset(tmp_path):
    chunks = read(csv_file(tmp_path, 'x,class\n1,2\n\n3,4,"5, 6"\n"7\n7",8\n9\n10,11\n'))
    assert chunks[0].offset_N.tolist() == [0, 2, 4]
    bad = malformed(chunks)
    assert sorted(bad) == [1, 3]
    assert bad[1].reason is BadRowReason.MALFORMED
    assert bad[1].raw == {"line": '3,4,"5, 6"'}
    assert "3 fields where the header names 2 columns" in bad[1].message


def test_a_row_that_is_not_utf8_is_malformed_and_its_neighbours_are_not(tmp_path):
    chunks = read(csv_file(tmp_path, b"x,class\n1,a\n2,caf\xe9\n3,\xe9,4\n5,caf\xc3\xa9\n"))
    assert [row["class"] for row in values(chunks)] == ["a", "café"]
    assert sorted(malformed(chunks)) == [1, 2]
    assert all("not UTF-8" in bad.message for bad in malformed(chunks).values())


def test_a_quote_that_is_never_closed_costs_its_own_line_only(tmp_path):
    rows = "".join(f"{i},ok\n" for i in range(20_000))
    chunks = read(csv_file(tmp_path, f'x,class\n0,"oops\n{rows}'))
    assert list(malformed(chunks)) == [0]
    assert "never closed" in malformed(chunks)[0].message
    assert len(values(chunks)) == 20_000


def test_a_file_is_read_in_bounded_memory(tmp_path):
    path = csv_file(tmp_path, "x,class\n" + "0.123456789,a\n" * 1_500_000)
    before, rows = pa.total_allocated_bytes(), 0
    tracemalloc.start()
    for chunk in source(path).read({}):
        rows += chunk.table.num_rows
        assert pa.total_allocated_bytes() - before < 16 << 20
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 1_500_000
    assert peak < 8 << 20 < path.stat().st_size


@given(st.lists(st.lists(st.text('ab,"\n\r \x00é', max_size=4), min_size=2, max_size=2), min_size=1, max_size=6))
def test_records_are_cut_where_they_end_whatever_is_quoted(rows):
    records = [",".join('"' + cell.replace('"', '""') + '"' for cell in row).encode() + b"\n" for row in rows]
    data = b"".join(records)
    assert end_of_record(data) == len(records[0])
    for cut in range(len(data) + 1):
        ends = [len(b"".join(records[:i])) for i in range(len(records) + 1)]
        assert end_of_records(data[:cut]) == max(end for end in ends if end <= cut)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is empty"),
        (b"\n\n1,2\n", "is blank"),
        (b"x,class\n", "no row that can be read"),
        (b"x,class\n1\n", "its first row is malformed: 1 fields where the header names 2"),
        (b"x;class\n1;2\n", "separates its columns by ';'"),
        (b"x,class,x\n1,2,3\n", "two columns called 'x'"),
        ("x,class\n1,2\n".encode("utf-16"), "iconv -t UTF-8"),
        (b"x,classe caf\xe9\n1,2\n", "first line of .* is not UTF-8"),
        (b"x,class\r1,2\r", "end in CR alone"),
    ],
)
def test_a_csv_that_cannot_be_used_is_refused_with_the_fix(tmp_path, text, message):
    with pytest.raises(InputUnusableError, match=message):
        source(csv_file(tmp_path, text)).sample()


def test_a_path_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputUnusableError, match=r"nowhere\.csv does not exist"):
        source(tmp_path / "nowhere.csv").sample()
    with pytest.raises(InputUnusableError, match="folder without files"):
        source(tmp_path).sample()


def test_a_file_that_cannot_be_read_shows_at_the_start_and_not_when_its_turn_comes(tmp_path):
    csv_file(tmp_path, "x,class\n1,a\n", "1.csv")
    csv_file(tmp_path, "hello", "readme.md")
    with pytest.raises(InputUnusableError, match=r"readme\.md is not known to be CSV"):
        source(tmp_path).sample()


def test_a_folder_is_read_by_name_and_unfinished_files_are_not_part_of_it(tmp_path):
    (tmp_path / "b").mkdir()
    csv_file(tmp_path, "x,class\n3,c\n", "c.csv")
    csv_file(tmp_path, "x,class\n2,b\n", "b/1.csv")
    csv_file(tmp_path, "x,class\n1,a\n", "a.csv")
    for name in ("d.csv.tmp", "_SUCCESS", ".hidden.csv"):
        csv_file(tmp_path, "?", name)
    assert [(chunk.partition, chunk.table["x"][0].as_py()) for chunk in read(tmp_path)] == [
        ("a.csv", "1"),
        ("b/1.csv", "2"),
        ("c.csv", "3"),
    ]


@pytest.mark.parametrize("name", ["more.json", "more.csv.gz", "more.parquet"])
def test_a_file_in_a_folder_that_cannot_be_read_is_not_skipped(tmp_path, name):
    csv_file(tmp_path, "x,class\n1,a\n")
    csv_file(tmp_path, "{}", name)
    with pytest.raises(InputUnusableError, match=name):
        read(tmp_path)


def test_files_of_other_columns_keep_their_own(tmp_path):
    csv_file(tmp_path, "x,class\n1,a\n", "1.csv")
    csv_file(tmp_path, "y,class\n2,b\n", "2.csv")
    assert values(read(tmp_path)) == [{"x": "1", "class": "a"}, {"y": "2", "class": "b"}]
    assert source(tmp_path).sample().column_names == ["x", "class"]


def write_parquet(path, table):
    pq.write_table(table, path, row_group_size=1000, compression="none", use_dictionary=False, write_page_checksum=True)


def write_arrow(path, table):
    with ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=1000)


@pytest.mark.parametrize(("write", "name"), [(write_parquet, "a.parquet"), (write_arrow, "a.arrow")])
def test_a_truncated_file_is_refused_by_name(tmp_path, write, name):
    path = tmp_path / name
    write(path, pa.table({"x": range(5000), "class": range(5000)}))
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(InputUnusableError, match=rf"{name} cannot be read beyond row .* truncated or corrupt"):
        read(path)


def test_rows_before_the_damage_are_delivered(tmp_path):
    path = tmp_path / "a.parquet"
    write_parquet(path, pa.table({"x": range(5000), "class": range(5000)}))
    broken = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(3).column(0).data_page_offset
    broken[start + 100 : start + 4000] = b"\xaa" * 3900
    path.write_bytes(broken)
    rows = 0
    with pytest.raises(InputUnusableError, match=r"a\.parquet cannot be read beyond row"):
        for chunk in source(path).read({}):
            rows = chunk.stop
    assert rows <= 3000


def test_an_arrow_file_without_its_end_delivers_its_whole_batches(tmp_path):
    path = tmp_path / "a.arrow"
    write_arrow(path, pa.table({"x": range(5000), "class": range(5000)}))
    path.write_bytes(path.read_bytes()[:40_000])
    rows = 0
    with pytest.raises(InputUnusableError, match=r"a\.arrow cannot be read beyond row 2000"):
        for chunk in source(path).read({}):
            rows = chunk.stop
    assert rows == 2000


def test_an_empty_parquet_file_is_refused(tmp_path):
    (tmp_path / "a.parquet").touch()
    with pytest.raises(InputUnusableError, match=r"a\.parquet is empty"):
        read(tmp_path)


def test_a_followed_csv_gives_whole_lines_only(tmp_path):
    path = csv_file(tmp_path, "x,class\n1,a\n2,")
    chunks = source(path, follow=True).read({})
    assert next(chunks).table["x"].to_pylist() == ["1"]
    assert next(chunks) is None
    with path.open("a") as file:
        file.write('b\n3,"c\n')
    chunk = next(chunks)
    assert (chunk.start, chunk.table["class"].to_pylist()) == (1, ["b"])
    assert next(chunks) is None
    with path.open("a") as file:
        file.write('c"\n')
    chunk = next(chunks)
    assert (chunk.start, chunk.table["class"].to_pylist()) == (2, ["c\nc"])


def test_a_followed_folder_gives_files_as_they_arrive_from_the_given_offsets(tmp_path):
    csv_file(tmp_path, "x,class\n1,a\n2,b\n", "b.csv")
    chunks = source(tmp_path, follow=True).read({"b.csv": 1})
    assert next(chunks).table["x"].to_pylist() == ["2"]
    assert next(chunks) is None
    csv_file(tmp_path, "x,class\n0,z\n", "a.csv")
    csv_file(tmp_path, "", "c.csv")
    chunk = next(chunks)
    assert (chunk.partition, chunk.table["x"].to_pylist()) == ("a.csv", ["0"])
    assert next(chunks) is None


def test_a_followed_parquet_file_is_read_once_it_is_whole(tmp_path):
    write_parquet(tmp_path / "whole", pa.table({"x": [1, 2], "class": [0, 1]}))
    data = (tmp_path / "whole").read_bytes()
    (tmp_path / "whole").unlink()
    csv_file(tmp_path, "x,class\n1,0\n")
    chunks = source(tmp_path, follow=True).read({"a.csv": 1})
    for part in (b"", data[:3], data[:40]):
        (tmp_path / "b.parquet").write_bytes(part)
        assert next(chunks) is None
    (tmp_path / "b.parquet").write_bytes(data)
    assert next(chunks).table["x"].to_pylist() == [1, 2]
    assert next(chunks) is None


def test_a_followed_file_that_is_taken_away_is_named(tmp_path):
    path = csv_file(tmp_path, "x,class\n1,a\n")
    chunks = source(path, follow=True).read({})
    next(chunks)
    path.unlink()
    with pytest.raises(InputUnusableError, match=r"a\.csv"):
        next(chunks)


def test_a_followed_file_that_shrinks_is_refused(tmp_path):
    path = csv_file(tmp_path, "x,class\n1,a\n2,b\n")
    chunks = source(path, follow=True).read({})
    next(chunks)
    csv_file(tmp_path, "x,class\n")
    with pytest.raises(InputUnusableError, match="shrank from 16 to 8 bytes"):
        next(chunks)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "files"}, "needs stream.path"),
        ({"kind": "python"}, "needs stream.source"),
        ({"follow": True}, "stream.follow is for stream.kind: files"),
        ({"columns": {"x": "number"}}, "stream.columns.x is 'number'"),
        ({"columns": {"x": "vector[0]"}}, r"stream.columns.x is 'vector\[0\]'"),
        ({"columns": {}}, "stream.columns is empty"),
        ({"columns": {"class": "numeric"}}, "stream.columns.class is the label"),
    ],
)
def test_keys_that_do_not_go_together_are_refused_by_their_path(keys, message):
    with pytest.raises(ValueError, match=message):
        StreamConfig(**keys)


def python_source(tmp_path, monkeypatch, code, path="users_source:Mine", **options):
    (tmp_path / "users_source.py").write_text(
        "import numpy as np, pyarrow as pa\nfrom actors.sources.source import SourceChunk\n"
        "T = pa.table({'x': [1], 'class': [0]})\n" + code
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "users_source", raising=False)
    return PythonSource(StreamConfig(kind="python", source=path, options=options))


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        ("users_source", "", "write it as package.module:Class"),
        ("no_such_module:Mine", "", "module 'no_such_module' cannot be imported"),
        ("serve.no_such:Mine", "", "'serve' is a package of Perennial's .* rename yours"),
        ("users_source:Mine", "", "has no 'Mine'"),
        ("users_source:Mine", "1 / 0", "ZeroDivisionError"),
        ("users_source:Mine", "Mine = 3", "is a int"),
        ("users_source:Mine", "class Mine: pass", r"has no method sample\(\)"),
        ("users_source:Mine", "class Mine:\n def __init__(self, topic): pass", "stream.options .*topic"),
    ],
)
def test_a_source_class_that_cannot_be_used_is_refused_with_the_reason(tmp_path, monkeypatch, path, code, message):
    with pytest.raises(ConfigError, match=message):
        python_source(tmp_path, monkeypatch, code, path)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("yield T", "gave a Table; it must give SourceChunk or None"),
        ("yield SourceChunk('p', 4, 5, T, np.array([4]))", "gave offset 4 of partition 'p' where 0 comes next"),
        ("yield 1 / 0", r"read\(\) failed: ZeroDivisionError"),
    ],
)
def test_a_source_class_that_breaks_its_promise_ends_the_stream_with_the_reason(tmp_path, monkeypatch, body, message):
    code = f"class Mine:\n def sample(self): return T\n def read(self, offsets): {body}"
    with pytest.raises(InputUnusableError, match=message):
        list(python_source(tmp_path, monkeypatch, code).read({}))
