import numpy as np
import pytest

from actors.errors import ConfigError
from actors.learning.task import TaskKind
from actors.sources.config import StreamConfig
from actors.sources.synthetic import SyntheticSource


def source(seed=0, task=TaskKind.CLASSIFICATION, label="class", **synthetic):
    config = StreamConfig.model_validate({"label": label, "synthetic": {"drift_every_rows": 8000, **synthetic}})
    return SyntheticSource(config, task, seed)


def rows(made, start, stop):
    xs, ys, at = [], [], start
    for chunk in made.read({"synthetic": start}):
        columns = [column.to_numpy() for column in chunk.table.columns]
        xs.append(np.stack(columns[:-1], axis=1).astype(float))
        ys.append(columns[-1])
        at = chunk.stop
        if at >= stop:
            return np.concatenate(xs)[: stop - start], np.concatenate(ys)[: stop - start]
    raise AssertionError(f"the stream ended at {at}")


def fit(x, y, classes):
    """Least squares on one-hot labels: what a linear model can learn."""
    return np.linalg.lstsq(np.c_[x, np.ones(len(x))], np.eye(classes)[y], rcond=None)[0]


def accuracy(weights, x, y):
    return float((np.argmax(np.c_[x, np.ones(len(x))] @ weights, axis=1) == y).mean())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("drift", ["abrupt", "recurring", "gradual", "virtual"])
def test_a_linear_model_learns_a_concept_and_the_drift_breaks_it(drift, seed):
    made = source(seed, drift=drift)
    weights = fit(*rows(made, 0, 5000), 2)
    before = accuracy(weights, *rows(made, 5000, 8000))
    after = accuracy(weights, *rows(made, 10_000, 16_000))
    assert before > 0.8
    assert after < before - 0.1


def test_a_linear_model_learns_most_of_a_rule_of_many_classes():
    made = source(classes=5)
    assert accuracy(fit(*rows(made, 0, 5000), 5), *rows(made, 5000, 8000)) > 0.6


def test_a_recurring_concept_comes_back():
    made = source(drift="recurring")
    weights = fit(*rows(made, 0, 5000), 2)
    assert accuracy(weights, *rows(made, 16_000, 24_000)) > 0.8


def test_a_gradual_drift_mixes_both_concepts_while_it_lasts():
    made = source(drift="gradual", noise=0)
    old, new = fit(*rows(made, 0, 8000), 2), fit(*rows(made, 10_000, 16_000), 2)
    between = rows(made, 8000, 10_000)
    assert accuracy(old, *rows(made, 14_000, 16_000)) < accuracy(old, *between) < accuracy(old, *rows(made, 6000, 8000))
    assert accuracy(new, *rows(made, 6000, 8000)) < accuracy(new, *between) < accuracy(new, *rows(made, 14_000, 16_000))


def test_new_classes_appear_one_at_a_time_at_the_drift_rows():
    made = source(drift="new_class", classes=4)
    assert made.drift_rows(100_000) == [8000, 16_000]
    assert [sorted(set(rows(made, start, start + 8000)[1].tolist())) for start in (0, 8000, 16_000, 24_000)] == [
        [0, 1],
        [0, 1, 2],
        [0, 1, 2, 3],
        [0, 1, 2, 3],
    ]


def test_virtual_drift_moves_the_inputs_and_keeps_the_rule():
    made = source(drift="virtual", noise=0)
    means = [rows(made, start, start + 8000)[0].mean(axis=0) for start in (0, 8000, 16_000, 24_000)]
    assert [round(float(np.linalg.norm(mean))) for mean in means] == [0, 3, 3, 0]
    assert np.allclose(means[1], -means[2], atol=0.2)
    assert accuracy(fit(*rows(made, 0, 8000), 2), *rows(made, 24_000, 32_000)) > 0.8


def test_without_drift_a_model_stays_as_good_as_it_was():
    made = source(drift="none")
    weights = fit(*rows(made, 0, 5000), 2)
    assert made.drift_rows(1_000_000) == []
    assert accuracy(weights, *rows(made, 500_000, 508_000)) > 0.8


def test_regression_can_be_learned_and_drifts():
    made = source(task=TaskKind.REGRESSION)
    x, y = rows(made, 0, 8000)
    weights = np.linalg.lstsq(x, y, rcond=None)[0]
    x_after, y_after = rows(made, 8000, 16_000)
    assert y.dtype == np.float64
    assert np.var(y - x @ weights) < 0.5 * np.var(y) < np.var(y_after - x_after @ weights)


def test_drift_rows_are_the_known_drift_points_before_a_row():
    assert source().drift_rows(8000) == []
    assert source().drift_rows(24_001) == [8000, 16_000, 24_000]


def test_noise_is_the_fraction_of_labels_that_are_drawn_at_random():
    clean, noisy = rows(source(noise=0), 0, 8000)[1], rows(source(noise=0.4), 0, 8000)[1]
    assert (clean != noisy).mean() == pytest.approx(0.2, abs=0.03)


def test_another_seed_gives_another_stream():
    assert not np.array_equal(rows(source(0), 0, 100)[0], rows(source(1), 0, 100)[0])


def test_a_far_offset_is_as_near_as_the_first():
    far = 10**12 + 5
    chunk = next(iter(source().read({"synthetic": far})))
    assert (chunk.start, chunk.offset_N[0]) == (far, far)


def test_a_label_that_is_called_like_a_feature_is_refused():
    with pytest.raises(ConfigError, match=r"stream\.label is 'x3'"):
        source(label="x3")


@pytest.mark.parametrize(("classes", "task"), [(2, TaskKind.CLASSIFICATION), (5, TaskKind.REGRESSION)])
def test_new_classes_need_classification_and_three_classes(classes, task):
    with pytest.raises(ConfigError, match=r"stream\.synthetic\.drift: new_class"):
        source(drift="new_class", classes=classes, task=task)
