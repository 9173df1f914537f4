"""What serves may die at any moment: what was acknowledged is learned once, and production goes on answering."""

import os
import signal
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ray_head import RayHead
from systems import LiveSystem, free_port
from waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(300)]

NAME = "mortal"
POSTS = 1_500
FEWER = ("model.kind=mlp", "learners.shards=1", "replay.ratio=0")  # processes and less to load, for both take long


@pytest.fixture(scope="module")
def live(shared_ray: RayHead, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveSystem, str]]:
    port = free_port()
    settings = (
        "stream.kind=journal",
        f"serve.port={port}",
        "learners.round_wait_s=0.05",
        "serve.production.replicas=2",
        *FEWER,
    )
    with LiveSystem(shared_ray.address, tmp_path_factory.mktemp("mortal"), NAME, *settings, serve=True) as system:
        url = f"http://127.0.0.1:{port}"
        posted = {"items": [example(i) for i in range(200)]}
        wait_until(lambda: status_of(url, "POST", "/feedback", posted) == 202, 90, "the gateway")
        system.wait_for_rows(200)
        wait_until(lambda: status_of(url, "GET", "/readyz") == 200, 60, "a version to answer with")
        yield system, url


def example(i: int) -> dict[str, Any]:
    x = (i * 37 % 100) / 50 - 1
    return {"features": {"x": x, "y": float(i)}, "label": int(x > 0)}


def kill(pid: int) -> bool:
    """False where it has ended meanwhile: the status is a moment old."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def is_taken(http: httpx.Client, item: Any) -> bool:
    try:
        return http.post("/feedback", json=item).status_code == 202
    except httpx.TransportError:
        return False


def status_of(url: str, method: str, path: str, document: Any = None) -> int | None:
    """None where nobody answers."""
    try:
        return httpx.request(method, url + path, json=document, timeout=15).status_code
    except httpx.TransportError:
        return None


def pid_of(system: LiveSystem, role: str) -> int:
    def pid() -> int | None:
        status = system.status()
        found = [actor["pid"] for actor in status["actors"] if actor["role"] == role and actor["alive"]] if status else []
        return found[0] if found else None

    found = wait_until(pid, 60, f"a living {role}")
    assert found is not None
    return found


def test_every_acknowledged_label_is_learned_once_whoever_dies(live: tuple[LiveSystem, str]) -> None:
    system, url = live
    acknowledged: list[str] = []
    todo = iter(range(POSTS))
    lock = threading.Lock()

    def post() -> None:
        with httpx.Client(base_url=url, timeout=15) as http:
            while (i := next_of(todo, lock)) is not None:
                item = {"request_id": f"mortal-{i}", **example(i)}
                # As a client does that was not answered: the same again.
                wait_until(lambda item=item: is_taken(http, item), 120, f"{item['request_id']} to be taken")
                acknowledged.append(item["request_id"])

    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    for at, role in enumerate(["gateway", "label_joiner", "gateway", "label_joiner"], 1):
        done = at * POSTS // 5
        wait_until(lambda done=done: len(acknowledged) >= done, 120, f"{done} acknowledged labels")
        wait_until(lambda role=role: kill(pid_of(system, role)), 60, f"a {role} to kill")
    for thread in threads:
        thread.join(180)
    assert len(acknowledged) == POSTS
    found = rows_of(system, "mortal-%")
    assert sorted(found) == sorted(acknowledged), "each is in the journal once"
    rows = len(rows_of(system, None))

    wait_until(lambda: learned(system) == (rows, rows), 60, f"all {rows} rows to be learned; learned are {learned(system)}")


def learned(system: LiveSystem) -> tuple[int, int] | None:
    """Rows, and the next offset of the journal."""
    stream = (system.status() or {}).get("stream")
    return (stream["trained"], stream["offsets"]["feedback"]) if stream else None


def next_of(todo: Iterator[int], lock: Any) -> int | None:
    with lock:
        return next(todo, None)


def rows_of(system: LiveSystem, like: str | None) -> list[str]:
    with sqlite3.connect(f"file:{Path(system.folder) / 'storage/journal.sqlite'}?mode=ro", uri=True) as journal:
        where, values = ("WHERE request_id LIKE ?", (like,)) if like else ("", ())
        return [row[0] for row in journal.execute(f"SELECT request_id FROM rows {where}", values)]


def test_production_answers_though_all_others_die(live: tuple[LiveSystem, str]) -> None:
    system, url = live
    before = {role: pid_of(system, role) for role in ("shadow", "version_manager", "label_joiner", "gateway")}
    body = {"features": example(1)["features"]}
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    with httpx.Client(base_url=url, timeout=15) as http:

        def answered_and_back() -> bool:
            answer = http.post("/predict", json=body)
            assert answer.status_code == 200, answer.text
            status = system.status()
            back = (
                {a["role"] for a in status["actors"] if a["alive"] and a["pid"] != before.get(a["role"])} if status else set()
            )
            return back >= before.keys()

        wait_until(answered_and_back, 90, "others in their places")


def test_a_production_replica_that_dies_comes_back_on_the_version_that_is_served(live: tuple[LiveSystem, str]) -> None:
    system, url = live
    head = httpx.get(f"{url}/aliases").json()["production"]
    httpx.post(f"{url}/rollback", json={"version": head - 1, "reason": "hold it there"}, timeout=20).raise_for_status()
    before = pid_of(system, "production")
    os.kill(before, signal.SIGKILL)

    def both_back() -> bool:
        status = system.status()
        pids = [a["pid"] for a in status["actors"] if a["role"] == "production" and a["alive"]] if status else []
        return len(pids) == 2 and before not in pids

    wait_until(both_back, 60, "two production replicas")
    versions = set()
    for i in range(40):
        answer = httpx.post(f"{url}/predict", json={"features": example(i)["features"]}, timeout=15)
        assert answer.status_code == 200, answer.text
        versions.add(answer.json()["version"])
    assert versions == {head - 1}
