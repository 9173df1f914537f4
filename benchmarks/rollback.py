"""How long a rollback takes until every replica answers with the older version, under load, and whether a request suffers.

    .venv/bin/python benchmarks/rollback.py [--moves 60] [--clients 8] [--replicas 2]

Production goes back and forth between its versions while clients ask without pause. Prints percentiles of `effective_ms`, as
the system tells them and as the caller sees them, and how many answers were not 200 or came from neither version.
"""

import argparse
import http.client
import json
import os
import random
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from serving import a_row, a_system, ask, until


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def load(port: int, seed: int, done: threading.Event, answers: list[tuple[int, int | None]]) -> None:
    draw = random.Random(seed)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    while not done.is_set():
        connection.request("POST", "/predict", json.dumps({"features": a_row(draw)}), {"content-type": "application/json"})
        answer = connection.getresponse()
        body = json.loads(answer.read())
        answers.append((answer.status, body.get("version")))
    connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moves", type=int, default=60)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--replicas", type=int, default=2)
    options = parser.parse_args()
    os.environ["RAY_AUTH_MODE"] = "disabled"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = (f"serve.production.replicas={options.replicas}",)
    with tempfile.TemporaryDirectory() as folder, a_system(Path(folder), port, *settings):
        until(lambda: ask(port, "/promote", {"version": "head", "reason": "two versions"})[1].get("previous") is not None)
        _, moved = ask(port, "/rollback", {"reason": "warm"})
        pair = {moved["production"], moved["previous"]}
        answers: list[tuple[int, int | None]] = []
        done = threading.Event()
        clients = [threading.Thread(target=load, args=(port, seed, done, answers)) for seed in range(options.clients)]
        for client in clients:
            client.start()
        told, seen = [], []
        for _ in range(options.moves):
            time.sleep(0.2)
            started = time.monotonic()
            status, moved = ask(port, "/rollback", {"reason": "there and back"})
            seen.append(1000 * (time.monotonic() - started))
            assert status == 200, moved
            told.append(moved["effective_ms"])
        done.set()
        for client in clients:
            client.join()
    print(f"{'':12}  {'p50 ms':>7}  {'p95 ms':>7}  {'max ms':>7}")
    for name, values in (("effective_ms", told), ("as seen", seen)):
        print(f"{name:12}  {percentile(values, 0.5):7.0f}  {percentile(values, 0.95):7.0f}  {max(values):7.0f}")
    failed = sum(status != 200 for status, _ in answers)
    strange = sum(version not in pair for _, version in answers)
    print(f"{options.moves} moves on {options.replicas} replicas")
    print(f"{len(answers):,} requests, {failed} failed, {strange} answered by neither version")


if __name__ == "__main__":
    main()
