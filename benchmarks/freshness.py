"""Seconds from a label sent over HTTP until production answers with a version that learned it, and what is learned by then.

    .venv/bin/python benchmarks/freshness.py [--labels-per-s 100] [--seconds 20]

Starts a system whose only stream is what users send (`promotion.policy: always`), teaches it a rule it did not know, and asks
all the while. Two figures: what the system measures itself, and what its user sees: how long after a label was acknowledged
the first answer came from a version whose lineage holds the label's row.
"""

import argparse
import json
import random
import socket
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from serving import FEATURES, a_row, a_system, ask, until

_SENDERS = 4


def get(port: int, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
        return json.loads(answer.read())


def rule(row: dict[str, float]) -> str:
    return "yes" if row["x1"] + row["x2"] > 0 else "no"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels-per-s", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder, a_system(Path(folder), port, "promotion.policy=always"):
        sent: dict[str, float] = {}
        answered: list[tuple[float, int]] = []
        done = threading.Event()

        def watch() -> None:
            draw = random.Random(7)
            while not done.is_set():
                status, answer = ask(port, "/predict", {"features": a_row(draw)})
                assert status == 200, answer
                answered.append((time.time(), answer["version"]))
                time.sleep(0.02)

        until(lambda: get(port, "/status")["feedback"]["rows"] > 0)
        watcher = threading.Thread(target=watch)
        watcher.start()
        started = time.time()

        def send(first: int) -> None:
            """Every fourth label, each in its time."""
            draw = random.Random(first)
            for i in range(first, int(options.labels_per_s * options.seconds), _SENDERS):
                time.sleep(max(0.0, started + i / options.labels_per_s - time.time()))
                row = a_row(draw)
                sent[f"label-{i}"] = time.time()
                status, answer = ask(port, "/feedback", {"features": row, "label": rule(row), "request_id": f"label-{i}"})
                assert status == 202, answer

        senders = [threading.Thread(target=send, args=(first,)) for first in range(_SENDERS)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        took = time.time() - started
        time.sleep(3)
        done.set()
        watcher.join()
        learned_by: dict[int, int] = {}  # version -> rows of the journal learned
        for record in get(port, "/versions?newest=1000")["versions"]:
            learned_by[record["version"]] = record["offsets"].get("feedback", 0)
        fresh = []
        with sqlite3.connect(Path(folder) / "storage/journal.sqlite") as journal:
            offsets = dict(journal.execute("SELECT request_id, offset FROM rows WHERE request_id LIKE 'label-%'"))
        for label, at in sent.items():
            offset = offsets[label]
            seen = next((t for t, version in answered if t >= at and learned_by.get(version, 0) > offset), None)
            if seen is not None:
                fresh.append(seen - at)
        fresh.sort()
        draw = random.Random(-1)
        unseen = [a_row(draw) for _ in range(500)]
        _, answer = ask(port, "/predict", {"instances": unseen})
        right = statistics.mean(p["prediction"] == rule(row) for p, row in zip(answer["predictions"], unseen, strict=True))
        own = get(port, "/status")["freshness_s"]
    print(f"labels sent       {len(sent)} at {len(sent) / took:.0f}/s, {len(FEATURES)} features")
    p50, p95 = fresh[len(fresh) // 2], fresh[int(len(fresh) * 0.95)]
    print(f"seen by the user  p50 {p50:.3f} s   p95 {p95:.3f} s   of {len(fresh)} labels")
    print(f"its own measure   p50 {own['p50']:.3f} s   p95 {own['p95']:.3f} s   max {own['max']:.3f} s")
    print(f"right afterwards  {right:.1%} of 500 rows that it had not seen")


if __name__ == "__main__":
    main()
