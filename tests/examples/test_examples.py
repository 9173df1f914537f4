"""The four examples: what they measure, and that one of them runs on the real system."""

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from ray_head import RayHead

from cluster.config import load_config
from examples.command import FOLDER, main
from examples.scores import area_under_curve, caught, mean_absolute_error, share_right
from examples.study import Curve, Study, Told, curve, probability_of

NAMES = ("fraud", "recommendation", "chatbot", "sensors")


def study(name):
    return import_module(f"examples.{name}").STUDY


def test_caught_is_the_part_of_the_positives_among_the_most_suspected():
    suspicion, positive = np.array([0.9, 0.1, 0.8, 0.2, 0.0]), np.array([1, 1, 0, 0, 0])
    assert caught(0.2)(suspicion, positive) == 0.5
    assert caught(0.8)(suspicion, positive) == 1.0
    assert np.isnan(caught(0.2)(suspicion, np.zeros(5)))


def test_the_area_under_the_curve_counts_pairs_and_ties_by_half():
    score, positive = np.array([0.1, 0.4, 0.4, 0.8]), np.array([0, 0, 1, 1])
    pairs = [(p > n) + 0.5 * (p == n) for p in score[positive == 1] for n in score[positive == 0]]
    assert area_under_curve(score, positive) == pytest.approx(np.mean(pairs))
    assert np.isnan(area_under_curve(score, np.ones(4)))


def test_the_other_scores_are_means():
    assert share_right(np.array(["a", "b"]), np.array(["a", "c"])) == 0.5
    assert mean_absolute_error(np.array([1.0, 4.0]), np.array([2.0, 2.0])) == 1.5


def test_the_probability_of_a_class_is_the_rest_where_the_other_was_told():
    told = Told([1, 0, None], np.array([0.9, 0.7, 0.0]))
    assert probability_of(1)(told) == pytest.approx([0.9, 0.3, 0.0])


def test_a_curve_has_a_point_for_each_quarter_of_a_window_on_the_same_rows_for_both():
    made = Study("x", "", "", "", share_right, lambda told: np.array(told.prediction), window_rows=8)
    right = np.array([1] * 10 + [0] * 6)
    whole, tail = curve(made, right, np.ones(16)), curve(made, right, np.ones(16), first_row=5)
    assert whole.row_W.tolist() == [2, 4, 6, 8, 10, 12, 14, 16]
    assert whole.value_W.tolist() == [1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    assert (tail.row_W.tolist(), tail.value_W[0]) == ([8, 10, 12, 14, 16], 1)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_documented_and_its_configuration_is_whole(name):
    made, config = study(name), load_config(FOLDER / f"{name}.yaml")
    assert (made.name, str(config.stream.synthetic.scenario)) == (name, name)
    assert config.stream.rows and config.stream.rows > 4 * config.versions.commit_rows
    assert f"make example-{name}" in (FOLDER / "README.md").read_text()


def test_a_picture_is_a_png():
    from examples.picture import draw

    rows, values = np.arange(1, 9) * 100, np.linspace(0.4, 0.9, 8)
    png = draw(
        study("fraud"), Curve(rows, values), Curve(rows[2:], values[2:] / 2), {"perennial": 0.8, "frozen": 0.4}, 200, [400]
    )
    assert png.startswith(b"\x89PNG") and len(png) > 10_000


@pytest.mark.ray
def test_an_example_runs_on_the_real_system(shared_ray: RayHead, tmp_path: Path) -> None:
    settings = (
        f"ray.address={shared_ray.address}", "stream.rows=16000", "stream.synthetic.drift_every_rows=4000",
        "versions.commit_rows=4000",
    )  # fmt: skip
    options = [word for each in settings for word in ("--set", each)]
    assert main(study("chatbot"), ["--out", str(tmp_path), *options]) == 0
    found = json.loads((tmp_path / "comparison.json").read_text())
    assert found["rows"] == 16_000 and 4000 <= found["frozen_after_rows"] < 8000
    assert found["after_the_freeze"]["perennial"] > found["after_the_freeze"]["frozen"] + 0.05
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "report.json").read_text())["rows"]["lost"] == 0


@pytest.mark.ray
def test_an_example_runs_with_the_default_model_too(shared_ray: RayHead, tmp_path: Path) -> None:
    settings = (
        f"ray.address={shared_ray.address}", "stream.rows=6000", "stream.synthetic.drift_every_rows=1500",
        "versions.commit_rows=1500", "model.kind=ensemble",
    )  # fmt: skip
    options = [word for each in settings for word in ("--set", each)]
    assert main(study("sensors"), ["--out", str(tmp_path), *options]) == 0
    found = json.loads((tmp_path / "comparison.json").read_text())
    assert found["rows"] == 6_000
    assert found["after_the_freeze"]["perennial"] < found["after_the_freeze"]["frozen"]
