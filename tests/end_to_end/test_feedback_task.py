"""A chatbot's thumbs: answers are given over HTTP, their scores come back, and the answers become better."""

import random
from pathlib import Path
from typing import Any

import httpx
import pytest
from ray_head import RayHead
from systems import LiveSystem, free_port
from waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

LIKED = {"order": "where is my parcel", "refund": "send it back", "account": "reset the password"}


def requests(rows: int, seed: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    return [{"topic": draw.choice(list(LIKED)), "length": draw.gauss(0, 1)} for _ in range(rows)]


def test_answers_that_users_like_are_given_more_often(shared_ray: RayHead, tmp_path: Path) -> None:
    port = free_port()
    settings = (
        "stream.kind=journal", "task.kind=feedback", "task.exploration=0.3", f"serve.port={port}", "learners.round_wait_s=0.05",
        "learners.shards=1", "replay.ratio=0", "serve.shadow.replicas=0",
    )  # fmt: skip
    with (
        LiveSystem(shared_ray.address, tmp_path, "thumbs", *settings, serve=True) as system,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as http,
    ):
        # One example of each answer: what it may say, and no more than a hint of when.
        starters = [{"features": each, "label": answer} for each, answer in zip(requests(3, 0), LIKED.values(), strict=True)]
        wait_until(lambda: _status(http, "/feedback", {"items": starters}) == 202, 90, "the gateway")
        wait_until(lambda: _status(http, "/readyz") == 200, 60, "a version to answer with")
        mean_scores = []
        for turn in range(4):
            asked = requests(400, 1 + turn)
            replies = http.post("/predict", json={"instances": asked}).raise_for_status().json()["predictions"]
            given = [float(r["prediction"] == LIKED[each["topic"]]) for r, each in zip(replies, asked, strict=True)]
            mean_scores.append(sum(given) / 400)
            items = [{"request_id": r["request_id"], "score": s} for r, s in zip(replies, given, strict=True)]
            assert http.post("/feedback", json={"items": items}).status_code == 202
            system.wait_for_rows(3 + 400 * (turn + 1))
        assert mean_scores[-1] > mean_scores[0] + 0.2, mean_scores
        wrong = http.post("/feedback", json={"request_id": replies[0]["request_id"] + "x", "score": 3})
        assert wrong.status_code == 422 and wrong.json()["error"]["field"] == "score"
        assert (system.status() or {})["prequential"]["metric"] == "score"


def _status(http: httpx.Client, path: str, document: Any = None) -> int | None:
    try:
        return http.request("GET" if document is None else "POST", path, json=document).status_code
    except httpx.TransportError:
        return None
