"""Predictions over HTTP beside the same torch model in a bare FastAPI deployment on the same Ray Serve.

    .venv/bin/python benchmarks/serving.py [--seconds 5] [--repeats 3]

For each state of the shadow (off, on, killed, slow, raising, hung, deleted) the two take turns, with 16 clients and with one.
Prints requests per second and percentiles, how many answers were not 200, and the ratio of the two.
"""

import argparse
import http.client
import json
import multiprocessing
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FEATURES = [f"x{i}" for i in range(10)]
NAME = "bench"
START_TIMEOUT_S = 120.0


def a_row(draw: random.Random) -> dict[str, float]:
    return {name: draw.gauss(0, 1) for name in FEATURES}


def ask(port: int, path: str, document: Any, timeout_s: float = 30.0) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("POST", path, json.dumps(document), {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    finally:
        connection.close()


def _client(port: int, path: str, seconds: float, seed: int, results: list[tuple[int, float]]) -> None:
    draw = random.Random(seed)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        body = json.dumps({"features": a_row(draw)})
        started = time.monotonic()
        connection.request("POST", path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        results.append((answer.status, time.monotonic() - started))
    connection.close()


def _clients(port: int, path: str, clients: int, seconds: float, out: Any) -> None:
    results: list[tuple[int, float]] = []
    threads = [threading.Thread(target=_client, args=(port, path, seconds, seed, results)) for seed in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    out.send(results)


def measure(port: int, path: str, clients: int, seconds: float) -> tuple[float, float, float, int]:
    """Requests per second, p50 and p99 in ms, and answers that were not 200; clients in a process of their own."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_clients, args=(port, path, clients, seconds, there))
    process.start()
    results = here.recv()
    process.join()
    times = sorted(took * 1000 for _, took in results)
    bad = sum(status != 200 for status, _ in results)
    return len(results) / seconds, times[len(times) // 2], times[int(len(times) * 0.99)], bad


@contextmanager
def a_system(folder: Path, port: int, *overrides: str) -> Iterator[str]:
    """A system that has learned a little and then only serves; yields its Ray address."""
    settings = [f"storage={folder / 'storage'}", f"name={NAME}", f"serve.port={port}", "stream.kind=journal", *overrides]
    settings = ["ray.dashboard=false", "ray.num_cpus=4", "promotion.policy=manual", *settings]
    command = [sys.executable, "-m", "cluster", "run", *[word for each in settings for word in ("--set", each)]]
    log = (folder / "log.txt").open("wb")
    process = subprocess.Popen(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=log, stdout=log)
    try:
        draw = random.Random(0)
        rows = [a_row(draw) for _ in range(1000)]
        items = [{"features": row, "label": "yes" if row["x0"] > 0 else "no"} for row in rows]
        until(lambda: ask(port, "/feedback", {"items": items})[0] == 202)
        until(lambda: ask(port, "/predict", {"features": rows[0]})[0] == 200)
        yield json.loads((folder / "storage/run.json").read_text())["address"]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        log.close()


def until(condition: Any) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            if condition():
                return
        except (OSError, ValueError):  # it starts, and Serve answers in plain text
            pass
        if time.monotonic() > deadline:
            raise SystemExit("the system has not come up; see its log")
        time.sleep(0.5)


def deploy_bare() -> None:
    """The same model in as few lines as a user would need."""
    import torch
    from fastapi import FastAPI
    from pydantic import BaseModel
    from ray import serve as ray_serve

    from actors.learning.models.mlp import MLP

    app = FastAPI()

    class Body(BaseModel):
        features: dict[str, float]

    @ray_serve.deployment(ray_actor_options={"num_cpus": 0}, max_ongoing_requests=100)
    @ray_serve.ingress(app)
    class Bare:
        def __init__(self) -> None:
            torch.set_num_threads(1)
            self._model = MLP(len(FEATURES), 2, (128, 128)).eval()

        @app.post("/")
        async def predict(self, body: Body) -> dict[str, Any]:
            with torch.no_grad():
                row = torch.tensor([[body.features[name] for name in FEATURES]])
                probabilities = torch.softmax(self._model(row), dim=1)[0].tolist()
            best = int(probabilities[1] > probabilities[0])
            return {"prediction": ["no", "yes"][best], "probabilities": {"no": probabilities[0], "yes": probabilities[1]}}

    ray_serve.run(Bare.bind(), name="bare", route_prefix="/bare")


def deploy_shadow(kind: str) -> None:
    """Another app in the shadow's place, that misbehaves."""
    from ray import serve as ray_serve

    @ray_serve.deployment(name="replica", ray_actor_options={"num_cpus": 0}, max_ongoing_requests=16, max_queued_requests=16)
    class Shadow:
        async def answer(self, instances: Any, request_ids: Any) -> Any:
            import asyncio

            if kind == "raising":
                raise ValueError("a shadow that raises")
            await asyncio.sleep(1.0 if kind == "slow" else 3600.0)

    ray_serve.run(Shadow.bind(), name=f"{NAME}-shadow", route_prefix=None)


def compare(state: str, port: int, options: argparse.Namespace) -> None:
    for clients in (16, 1):
        bare, ours = [], []
        for _ in range(options.repeats):
            bare.append(measure(port, "/bare/", clients, options.seconds))
            ours.append(measure(port, "/predict", clients, options.seconds))
        ratio = statistics.median(o[0] / b[0] for o, b in zip(ours, bare, strict=True))
        for name, runs in (("bare", bare), ("perennial", ours)):
            rps, p50, p99 = (statistics.median(run[i] for run in runs) for i in range(3))
            shown = f"{ratio:5.2f}" if name == "perennial" else "     "
            bad = sum(run[3] for run in runs)
            print(f"{state:9} {clients:7} {name:10} {rps:8.1f} {p50:9.1f} {p99:9.1f} {bad:8} {shown}", flush=True)


def kill_shadow(stop: threading.Event, namespace: str) -> None:
    """Kills the shadow's process whenever there is one."""
    import ray

    manager = ray.get_actor("version_manager", namespace=namespace)
    while not stop.wait(1.0):
        status = ray.get(manager.status.remote(), timeout=20)
        for actor in status.actors:
            if actor.role == "shadow" and actor.alive and actor.pid:
                try:
                    os.kill(actor.pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement (%(default)g)")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each (%(default)s)")
    parser.add_argument("--states", default="off,on,killed,slow,raising,hung,deleted", help="of the shadow (%(default)s)")
    options = parser.parse_args()
    states = options.states.split(",")
    sys.path.insert(0, str(ROOT))
    os.environ["RAY_AUTH_MODE"] = "disabled"  # of the cluster and of this process alike
    print(f"{'shadow':9} {'clients':>7} {'server':10} {'req/s':>8} {'p50 ms':>9} {'p99 ms':>9} {'not 200':>8} ratio")
    import ray
    from ray import serve as ray_serve

    for first, chosen in ((["serve.shadow.replicas=0"], ["off"]), ([], [s for s in states if s != "off"])):
        if not set(chosen) & set(states):
            continue
        with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            probe.close()
            with a_system(Path(folder), port, *first) as address:
                ray.init(address=address, log_to_driver=False, configure_logging=False, namespace=f"perennial-{NAME}")
                deploy_bare()
                for state in chosen:
                    stop = threading.Event()
                    killer = threading.Thread(target=kill_shadow, args=(stop, f"perennial-{NAME}"))
                    if state in ("slow", "raising", "hung"):
                        deploy_shadow(state)
                    elif state == "killed":
                        killer.start()
                    elif state == "deleted":
                        ray_serve.delete(f"{NAME}-shadow")
                    compare(state, port, options)
                    stop.set()
                    if killer.ident:
                        killer.join()
                ray.shutdown()


if __name__ == "__main__":
    main()
