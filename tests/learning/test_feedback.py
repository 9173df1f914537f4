"""Scores of the answers that were given, in place of labels: learned without bias, answered with exploration."""

import numpy as np
import pytest
import torch

from actors.learning.answer import drawn
from actors.learning.labels import FEEDBACK
from actors.learning.learner import Learner
from actors.learning.models.config import ModelConfig
from actors.learning.optimizers import OptimizerConfig
from actors.learning.prequential import FeedbackScore
from actors.learning.row_losses import mean_loss, targets_of
from actors.learning.running_stats import RunningStats
from actors.learning.task import TaskConfig

INPUTS, ANSWERS = 4, 3


def labels(*codes):
    return np.array([(code, np.nan, 1.0, -1) for code in codes], FEEDBACK)


def scores(codes, values, propensities):
    return np.array([(*each, 7) for each in zip(codes, values, propensities, strict=True)], FEEDBACK)


def gradient(out, y):
    out = torch.tensor(out, requires_grad=True)
    task = TaskConfig(kind="feedback")
    mean_loss(out, targets_of(y, out.shape[1], RunningStats.empty(0), task, "cpu"), task).backward()
    return out.grad.numpy()


def test_scores_of_drawn_answers_teach_in_expectation_what_a_label_teaches():
    out, probability = np.array([[0.3, -1.0, 2.0]], np.float32), [0.2, 0.3, 0.5]
    expected = sum(
        p * gradient(out, scores([a], [float(a == 1)], [p])) for a, p in enumerate(probability)
    )  # users who like answer 1 and no other
    assert expected == pytest.approx(gradient(out, labels(1)), abs=1e-6)


def test_an_improbable_answer_counts_ten_times_at_most():
    out = np.zeros((1, 2), np.float32)
    assert gradient(out, scores([0], [1.0], [1e-9])) == pytest.approx(10 * gradient(out, scores([0], [1.0], [1.0])))


def test_answers_are_drawn_by_their_probability_and_the_same_request_draws_the_same():
    probability = np.tile(np.array([0.05, 0.6, 0.35], np.float32), (20_000, 1))
    ids = [f"r{i}" for i in range(20_000)]
    codes = drawn(probability, ids)
    assert np.bincount(codes) / 20_000 == pytest.approx(probability[0], abs=0.012)
    assert drawn(probability[:9], ids[5:14]) == codes[5:14]
    assert drawn(np.array([[0.0, 1.0, 0.0]] * 100, np.float32), ids[:100]) == [1] * 100


def users(rng, rows):
    """Contexts, and the answer that each user would like."""
    x = rng.normal(size=(rows, INPUTS)).astype(np.float32)
    return x, np.abs(x[:, :ANSWERS]).argmax(axis=1)


def test_what_users_like_is_learned_from_the_scores_of_what_they_got():
    rng = np.random.default_rng(3)
    task = TaskConfig(kind="feedback", classes=["a", "b", "c"], exploration=0.2)
    model = ModelConfig(kind="mlp", hidden=[32])
    learner = Learner(model, OptimizerConfig(name="adam", learning_rate=1e-2), task, INPUTS, seed=1)
    learner.train(*_first_label(rng))
    given = []
    for i in range(0, 6_000, 20):
        x, liked = users(rng, 20)
        answer = learner.predict(x)
        codes = np.array(drawn(answer.probability_NK, [f"{i + j}" for j in range(20)]))
        given.append((codes == liked).mean())
        learner.train(x, scores(codes, (codes == liked).astype(float), answer.probability_NK[np.arange(20), codes]))
    x, liked = users(rng, 2_000)
    assert np.mean(given[:10]) < 0.55
    assert (learner.predict(x).code_N == liked).mean() > 0.85


def _first_label(rng):
    x, liked = users(rng, 1)
    return x, labels(*liked)


def test_every_listed_answer_is_explored_from_the_first_row_on():
    task = TaskConfig(kind="feedback", classes=["a", "b", "c"], exploration=0.3)
    learner = Learner(ModelConfig(kind="linear"), OptimizerConfig(), task, INPUTS, seed=1)
    learner.train(np.ones((1, INPUTS), np.float32), labels(1))
    [probability_K] = learner.predict(np.ones((1, INPUTS), np.float32)).probability_NK
    assert probability_K == pytest.approx([0.1, 0.8, 0.1])
    assert len(learner.change(classes=("a", "b", "c")).classes) == 3


def test_the_estimated_score_is_that_of_the_model_and_the_score_that_of_the_answers_given():
    rng = np.random.default_rng(5)
    rows = 20_000
    logged, model, worth = [0.6, 0.3, 0.1], np.array([0.1, 0.1, 0.8]), np.array([0.2, 0.5, 0.9])
    code_N = rng.choice(3, rows, p=logged)
    score_N = (rng.random(rows) < worth[code_N]).astype(float)
    score = FeedbackScore()
    for start in range(0, rows, 500):
        part = slice(start, start + 500)
        y_N = scores(code_N[part], score_N[part], np.array(logged)[code_N[part]])
        told_N = score.update(np.arange(rows)[part], y_N, np.full(500, 2), np.tile(model, (500, 1)))
        assert np.array_equal(told_N, score_N[part])
    found = score.to_json()
    assert found["score"] == pytest.approx(worth @ logged, abs=0.02)
    assert found["estimated_score"] == pytest.approx(worth @ model, abs=0.03)
    assert found["accuracy"] is None and found["rows"] == rows
    assert score.recent_json()["rows"] == 1_000


def test_a_label_scores_the_best_answer():
    score = FeedbackScore()
    told_N = score.update(np.arange(4), labels(0, 1, 1, 3), np.array([0, 1, 0, 0]), np.array([[0.9, 0.1], [0.1, 0.9]] * 2))
    assert told_N.tolist() == [1, 1, 0, 0]
    assert score.to_json()["accuracy"] == 0.5
    assert score.overall == 0.5
