import datetime
import json

import pytest
from pyarrow import parquet as pq

from actors.quarantine import Quarantine, refusals
from actors.sources.source import BadRow, BadRowReason


def bad(offset, reason=BadRowReason.MALFORMED, **raw):
    return BadRow("a.csv", offset, reason, f"row {offset}", raw or {"line": "?"})


def parts(storage):
    return sorted(path.name for path in (storage / "quarantine").iterdir())


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_bad_rows_are_kept_with_everything_needed_to_find_and_mend_them(tmp_path, prefix):
    quarantine = Quarantine(prefix + str(tmp_path))
    quarantine.add([bad(7, BadRowReason.WRONG_TYPE, x="abc", é=None, at=datetime.date(2024, 1, 2))])
    quarantine.close()
    assert parts(tmp_path) == ["part-000000.parquet"]
    row = pq.read_table(tmp_path / "quarantine" / "part-000000.parquet").to_pylist()[0]
    assert json.loads(row.pop("raw")) == {"x": "abc", "é": None, "at": "2024-01-02"}
    assert row == {"partition": "a.csv", "offset": 7, "reason": "wrong_type", "message": "row 7"}


def test_nothing_is_written_before_there_is_a_bad_row(tmp_path):
    quarantine = Quarantine(str(tmp_path / "storage"))
    quarantine.flush()
    quarantine.close()
    assert not (tmp_path / "storage").exists()


def test_the_buffer_is_bounded_in_rows_and_in_bytes(tmp_path):
    quarantine = Quarantine(str(tmp_path), buffer_rows=10)
    quarantine.add(bad(i) for i in range(25))
    assert len(parts(tmp_path)) == 2
    quarantine.add([bad(25, text="x" * (9 << 20))])
    assert len(parts(tmp_path)) == 3
    quarantine.add([bad(26)])
    quarantine.close()
    assert pq.read_table(tmp_path / "quarantine")["offset"].to_pylist() == list(range(27))


def test_parts_are_numbered_on_after_a_restart_whatever_a_crash_left_behind(tmp_path):
    for offset in (0, 1):
        quarantine = Quarantine(str(tmp_path))
        quarantine.add([bad(offset)])
        quarantine.close()
    (tmp_path / "quarantine" / ".part-000002.tmp").write_bytes(b"half")
    quarantine = Quarantine(str(tmp_path))
    quarantine.add([bad(2)])
    quarantine.close()
    assert parts(tmp_path) == ["part-000000.parquet", "part-000001.parquet", "part-000002.parquet"]


def test_rows_are_counted_by_reason(tmp_path):
    quarantine = Quarantine(str(tmp_path), buffer_rows=2)
    assert quarantine.counts == {}
    quarantine.add([bad(0), bad(1, BadRowReason.NOT_FINITE), bad(2)])
    assert quarantine.counts == {BadRowReason.MALFORMED: 2, BadRowReason.NOT_FINITE: 1}


def test_rows_stay_held_while_the_storage_fails(tmp_path):
    quarantine = Quarantine(str(tmp_path))
    (tmp_path / "quarantine").write_text("in the way")
    quarantine.add([bad(0)])
    with pytest.raises(OSError, match="quarantine"):
        quarantine.flush()
    (tmp_path / "quarantine").unlink()
    quarantine.close()
    assert pq.read_table(tmp_path / "quarantine")["offset"].to_pylist() == [0]


def test_refusals_are_told_by_reason_the_most_frequent_first_with_the_newest_example(tmp_path):
    assert refusals(str(tmp_path), {}) == ""
    quarantine = Quarantine(str(tmp_path))
    for offset in (7, 1200):
        quarantine.add([bad(offset), bad(offset + 1)])
        quarantine.flush()
    told = refusals(str(tmp_path), {"malformed": 4, "not_finite": 1300})
    assert told == "1,300 not_finite, 4 malformed; for example row 1,200 of a.csv: row 1200"
