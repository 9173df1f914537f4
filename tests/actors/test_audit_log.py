from actors.audit_log import AuditLog


def test_entries_come_back_in_order_and_outlive_the_writer(tmp_path):
    for i in range(5):
        AuditLog(str(tmp_path / "storage")).append({"version": i, "reason": "ä\n"})
    assert AuditLog(str(tmp_path / "storage")).read(3) == [{"version": i, "reason": "ä\n"} for i in (2, 3, 4)]
    assert AuditLog(str(tmp_path / "nothing")).read(3) == []


def test_a_torn_line_is_left_out_and_the_next_entry_is_whole(tmp_path):
    log = AuditLog(str(tmp_path))
    log.append({"version": 1})
    with (tmp_path / "audit.jsonl").open("ab") as file:
        file.write(b'{"version": 2, "rea')
    log.append({"version": 3})
    assert log.read(10) == [{"version": 1}, {"version": 3}]


def test_what_is_appended_together_is_read_apart_and_by_its_kind(tmp_path):
    log = AuditLog(str(tmp_path))
    promoted = {"kind": "promoted", "note": "drift", "p": float("inf")}
    log.append({"kind": "drift", "row": 1}, promoted, {"kind": "drift", "row": 2})
    log.append()
    assert log.read(1, ["drift"]) == [{"kind": "drift", "row": 2}]
    assert log.read(9, ["drift", "x"]) == [{"kind": "drift", "row": 1}, {"kind": "drift", "row": 2}]
    assert log.read(9, ["promoted"]) == [{"kind": "promoted", "note": "drift", "p": None}]


def test_the_newest_are_found_in_a_long_log(tmp_path):
    log = AuditLog(str(tmp_path))
    line = b'{"version": 0, "reason": "' + b"x" * 200 + b'"}\n'
    (tmp_path / "audit.jsonl").write_bytes(line * 10_000)
    log.append({"version": 1})
    assert log.read(1) == [{"version": 1}]
    assert len(log.read(100)) == 100 and len(log.read(20_000)) == 10_001
