"""A system that serves while it learns: over HTTP, as its users meet it."""

import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Any

import httpx
import pytest
import ray
from ray_head import RayHead
from systems import LiveSystem, free_port, perennial
from waiting import wait_until

from actors.durable import model_of
from actors.learning.model_kinds import make_reader
from actors.learning.state import ModelState
from actors.release_desk import Blueprint
from actors.version_store import VersionStore
from cluster.launch import VERSION_MANAGER, namespace_of
from serve.instances import InstanceEncoder

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

NAME = "serving"


class Client:
    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._http = httpx.Client(base_url=self.url, timeout=20)

    def close(self) -> None:
        self._http.close()

    def get(self, path: str) -> Any:
        answer = self._http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, document: Any, expected: int = 200) -> Any:
        answer = self._http.post(path, json=document)
        assert answer.status_code == expected, answer.text
        return answer.json()

    def is_ready(self) -> bool:
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False


def examples(rows: int, seed: int = 1) -> list[dict[str, Any]]:
    """A rule that nobody has told the system of: the color says which way round `size` counts."""
    draw = random.Random(seed)
    made = []
    for _ in range(rows):
        size, color = draw.gauss(0, 1), draw.choice(["red", "blue"])
        label = "large" if (size > 0) is (color == "red") else "small"
        made.append({"features": {"size": size, "color": color, "noise": draw.gauss(0, 1)}, "label": label})
    return made


@pytest.fixture(scope="module")
def system(shared_ray: RayHead, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveSystem, Client]]:
    """It knows nothing at first, not even what rows look like: all it learns is what users send."""
    port = free_port()
    settings = (
        "stream.kind=journal", f"serve.port={port}", "serve.production.replicas=2", "learners.round_wait_s=0.05",
        "promotion.keep_versions=4", "learners.round_rows=64", "versions.commit_rows=300",
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("serving")
    with LiveSystem(shared_ray.address, folder, NAME, *settings, serve=True) as live:
        client = Client(port)
        wait_until(lambda: "waiting for the first labelled examples" in live.stderr, 90, "the gateway")
        answer = httpx.post(f"{client.url}/predict", json={"features": {}})
        assert answer.status_code == 503 and answer.json()["error"]["code"] == "not_ready" and "retry-after" in answer.headers
        for start in range(0, 4000, 500):
            client.post("/feedback", {"items": examples(4000)[start : start + 500]}, 202)
        wait_until(client.is_ready, 60, "a version to answer with")
        live.wait_for_rows(4000)
        yield live, client
        client.close()


def test_what_users_send_is_learned(system: tuple[LiveSystem, Client]) -> None:
    live, client = system
    unseen = examples(500, seed=2)
    answers = client.post("/predict", {"instances": [each["features"] for each in unseen]})["predictions"]
    right = sum(answer["prediction"] == each["label"] for answer, each in zip(answers, unseen, strict=True))
    assert right >= 440, "the rule is learned"
    assert len({answer["version"] for answer in answers}) == 1
    assert all(abs(sum(answer["probabilities"].values()) - 1) < 1e-5 for answer in answers)
    status = wait_until(lambda: (s := live.status()) and s["feedback"]["rows"] == 4000 and s, 20, "word of the feedback")
    assert status["stream"]["trained"] == 4000
    roles = Counter(actor["role"] for actor in status["actors"] if actor["alive"])
    assert roles == {
        "ingestor": 1, "learner": 2, "replay": 1, "version_manager": 1, "evaluator": 1, "label_joiner": 1, "gateway": 1,
        "production": 2, "shadow": 1,
    }  # fmt: skip
    assert client.get("/status")["aliases"] == status["aliases"]


def test_a_label_for_a_served_request_is_learned_once(system: tuple[LiveSystem, Client]) -> None:
    live, client = system
    before = client.get("/status")["feedback"]["rows"]
    client.post("/feedback", {"request_id": "early", "label": "large"}, 202)
    for request_id in ("one", "early"):
        features = {"size": 1.0, "color": "red", "noise": None}
        assert client.post("/predict", {"features": features, "request_id": request_id})["request_id"] == request_id
    told = wait_until(
        lambda: client.post("/feedback", {"request_id": "one", "label": "large"}, 202), 10, "an answer about the label"
    )
    assert told["accepted"] + told["unknown"] == 1
    assert client.post("/feedback", {"request_id": "one", "label": "large"}, 202)["duplicate"] == 1
    assert client.post("/feedback", {"request_id": "one", "label": "small"}, 409)["error"]["code"] == "conflict"
    wait_until(lambda: client.get("/status")["feedback"]["rows"] == before + 2, 20, "both rows in the journal")
    live.wait_for_rows(before + 2)


def test_production_moves_on_every_replica_and_the_shadow_goes_on(system: tuple[LiveSystem, Client]) -> None:
    live, client = system
    head = client.get("/aliases")["production"]
    moved = client.post("/rollback", {"version": head - 1, "reason": "to see it"})
    assert (moved["production"], moved["previous"]) == (head - 1, head) and moved["effective_ms"] < 10_000
    features = examples(1)[0]["features"]
    versions = {client.post("/predict", {"features": features})["version"] for _ in range(20)}
    assert versions == {head - 1}
    assert client.get("/aliases") == {"production": head - 1, "shadow": head, "previous": head}
    told = perennial("promote", str(head), *settings_of(live), "--reason", "back", cwd=live.folder)
    assert told.returncode == 0 and f"production is version {head}" in told.stdout, told.stderr
    assert client.post("/predict", {"features": features})["version"] == head
    refused = perennial("rollback", "100000", *settings_of(live), cwd=live.folder)
    assert refused.returncode == 1 and "version 100000 is not kept" in refused.stderr
    assert client.post("/promote", {"version": 100_000, "reason": "to see"}, 404)["error"]["code"] == "unknown_version"


def settings_of(live: LiveSystem) -> list[str]:
    return [word for override in live.overrides for word in ("--set", override)]


def test_two_hundred_moves_under_load_fail_no_request_and_mix_no_versions(system: tuple[LiveSystem, Client]) -> None:
    live, client = system
    head = client.get("/aliases")["production"]
    durable = [each["version"] for each in client.get("/versions?newest=1000")["versions"] if each["is_durable"]]
    old = [version for version in durable if version < head - 4][-3:]
    assert old and client.get(f"/versions/{old[0]}")["durable"]["files"], "some are in storage only"
    states, b = states_and_blueprint(live, [head - 2, head - 1, head], old)
    kept = [*states]
    asked = [each["features"] for each in examples(40, seed=3)]
    replies: list[tuple[int, dict[str, Any]]] = []
    done = threading.Event()

    def load(first: int) -> int:
        with httpx.Client(base_url=client.url, timeout=20) as http:
            at = first
            while not done.is_set():
                answer = http.post("/predict", json={"features": asked[at % 40]})
                assert answer.status_code == 200, answer.text
                replies.append((at % 40, answer.json()))
                at += 7
        return at

    with ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(load, first) for first in range(4)]
        try:
            for move in range(200):
                way = ("/promote", "/rollback")[move % 2]
                client.post(way, {"version": kept[move % len(kept)], "reason": "a test"})
        finally:
            done.set()
        assert all(each.result() for each in loads)
    x_ND = InstanceEncoder(b.schema).encode(asked)
    expected = {}
    for version, state in states.items():
        reader = make_reader(b.model, b.task, b.inputs, seed=b.seed, initial=b.initial)
        reader.load(state)
        answer = reader.predict(x_ND)
        expected[version] = [dict(zip(state.classes, row, strict=True)) for row in answer.probability_NK.tolist()]
    assert len({reply["version"] for _, reply in replies}) == len(kept)
    for at, reply in replies:
        assert reply["probabilities"] == pytest.approx(expected[reply["version"]][at], abs=1e-5)
    client.post("/promote", {"version": head, "reason": "where it was"})


def states_and_blueprint(live: LiveSystem, kept: list[int], durable: list[int]) -> tuple[dict[int, ModelState], Blueprint]:
    """The versions as the version manager keeps them, and as storage does."""
    store = VersionStore(str(live.folder / "storage"))
    ray.init(address=live.address, log_to_driver=False, configure_logging=False)
    try:
        manager = ray.get_actor(VERSION_MANAGER, namespace=namespace_of(live.name))
        # Copied: Ray's memory goes with the connection.
        states = deepcopy(ray.get([manager.state.remote(version) for version in kept], timeout=20))
        stored = {version: model_of(store, store.manifest(version)) for version in durable}
        blueprint = deepcopy(ray.get(manager.blueprint.remote(), timeout=20))
        return stored | dict(zip(kept, states, strict=True)), blueprint
    finally:
        ray.shutdown()


def test_the_shadow_sees_the_requests_and_metrics_tell_of_all(system: tuple[LiveSystem, Client]) -> None:
    _, client = system

    def metrics() -> dict[str, float]:
        lines = httpx.get(f"{client.url}/metrics").text.splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}

    client.post("/predict", {"features": examples(1)[0]["features"]})
    production = client.get("/aliases")["production"]
    found = wait_until(
        lambda: (
            (m := metrics()).get("perennial_shadow_mirrored_total", 0) > 0
            and m['perennial_version{alias="production"}'] == production
            and m
        ),
        20,
        "a mirrored request, and news of production",
    )
    assert found["perennial_requests_total"] > 0
    assert found['perennial_feedback_total{outcome="accepted"}'] >= 4000
    assert found["perennial_freshness_seconds_count"] >= 1
