"""What the applications' streams promise: their quirks, and that their world changes."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from actors.errors import ConfigError
from actors.learning.task import TaskConfig, TaskKind
from actors.sources.config import StreamConfig
from actors.sources.inference import infer_schema
from actors.sources.open_source import open_source
from actors.sources.scenarios.chatbot import INTENTS, ChatbotScenario
from actors.sources.scenarios.draws import even, normal
from actors.sources.scenarios.scenario_source import ScenarioSource
from actors.sources.scenarios.sensors import SENSORS, SensorsScenario
from actors.sources.validation import RowValidator

EVERY = 10_000
TASKS = {
    "fraud": TaskKind.CLASSIFICATION,
    "recommendation": TaskKind.CLASSIFICATION,
    "chatbot": TaskKind.CLASSIFICATION,
    "sensors": TaskKind.REGRESSION,
}


def opened(scenario, task=None, seed=1, rows=None, label="class"):
    config = StreamConfig.model_validate(
        {"label": label, "rows": rows, "synthetic": {"scenario": scenario, "drift_every_rows": EVERY}}
    )
    return open_source(config, TaskConfig(kind=task or TASKS[scenario]), seed)


def table(scenario, rows, start=0, **more):
    chunks = opened(scenario, rows=start + rows, **more).read({"synthetic": start})
    return pa.concat_tables([chunk.table for chunk in chunks]).combine_chunks()


def column(made, name):
    return np.array(made[name].to_pylist())


@pytest.mark.parametrize("scenario", TASKS)
def test_a_stream_is_the_same_under_the_same_seed_and_another_under_another(scenario):
    assert table(scenario, 3000).equals(table(scenario, 3000))
    assert not table(scenario, 3000).equals(table(scenario, 3000, seed=2))


@pytest.mark.parametrize("scenario", TASKS)
def test_a_far_row_is_as_near_as_the_first(scenario):
    far = 10**10 + 5
    chunk = next(iter(opened(scenario).read({"synthetic": far})))
    assert chunk.start == chunk.offset_N[0] == far


@pytest.mark.parametrize("scenario", TASKS)
def test_every_row_can_be_learned(scenario):
    config = StreamConfig.model_validate({"rows": 3000, "synthetic": {"scenario": scenario}})
    task = TaskConfig(kind=TASKS[scenario])
    source = open_source(config, task, 1)
    schema = infer_schema(source.sample(), config, task)
    for chunk in source.read({}):
        rows, bad = RowValidator(schema, task).check(chunk)
        assert not bad and len(rows.labels) == chunk.stop - chunk.start


def test_ids_are_inferred_as_categories_and_messages_as_text():
    def kinds(scenario):
        config = StreamConfig.model_validate({"synthetic": {"scenario": scenario}})
        task = TaskConfig(kind=TASKS[scenario])
        schema = infer_schema(open_source(config, task, 1).sample(), config, task)
        return {str(kind): {c.name for c in schema.columns if c.kind is kind} for kind in {c.kind for c in schema.columns}}

    assert kinds("fraud")["categorical"] == {"channel", "kind", "country", "merchant"}
    assert kinds("recommendation")["categorical"] == {"user", "item", "genre", "device"}
    assert kinds("chatbot") == {"text": {"message"}, "categorical": {"channel"}}
    assert kinds("sensors")["categorical"] == {"machine"}


def test_one_payment_in_two_hundred_is_fraud():
    rate = column(table("fraud", 200_000), "class").mean()
    assert rate == pytest.approx(0.005, abs=0.0006)


def test_the_fraud_of_one_period_is_not_that_of_another():
    """The shops and channels that gave the fraud of the first period away say little about the third's."""
    made = table("fraud", 3 * EVERY)
    fraud, channel = column(made, "class") == 1, column(made, "channel")
    kinds = [channel[start : start + EVERY // 2][fraud[start : start + EVERY // 2]] for start in (0, EVERY, 2 * EVERY)]
    usual = [max(set(each), key=list(each).count) for each in kinds]
    assert len(set(usual)) > 1
    shops = column(made, "merchant")
    first, last = (set(shops[s : s + EVERY // 2][fraud[s : s + EVERY // 2]]) for s in (0, 2 * EVERY))
    assert len(first & last) < 0.3 * min(len(first), len(last))


def test_the_distance_of_a_payment_is_often_not_known():
    made = table("fraud", 20_000)
    assert made["distance_km"].null_count / 20_000 == pytest.approx(0.08, abs=0.01)
    assert sum(made[name].null_count for name in made.column_names) == made["distance_km"].null_count


def test_new_items_appear_all_the_time_and_old_ones_go():
    starts = range(0, 5 * EVERY, EVERY)
    seen = [set(column(table("recommendation", 4096, start), "item")) for start in starts]
    assert all(len(later - earlier) > 0.3 * len(later) for earlier, later in pairwise(seen))
    assert not seen[0] & seen[-1]
    assert max(map(len, seen)) < 300  # 200 at a time, and those that came meanwhile: the catalogue does not grow


def test_what_users_click_shifts():
    """Clicks per user and genre, learned on one period, tell the same period's clicks better than a later one's."""
    made = table("recommendation", 8 * EVERY)
    cell = np.char.add(column(made, "user"), column(made, "genre"))
    click = column(made, "class")
    first, same, later = slice(0, EVERY // 2), slice(EVERY // 2, int(0.7 * EVERY)), slice(7 * EVERY, int(7.7 * EVERY))
    rate = {c: (click[first][cell[first] == c].sum() + 3 * 0.3) / ((cell[first] == c).sum() + 3) for c in set(cell[first])}

    def correlation(rows):
        known = np.array([c in rate for c in cell[rows]])
        return np.corrcoef([rate[c] for c in cell[rows][known]], click[rows][known])[0, 1]

    assert correlation(same) > 0.1 > correlation(later) + 0.05


def test_intents_are_added_one_by_one_and_then_stay():
    seen = [len(set(column(table("chatbot", 4000, period * EVERY), "class"))) for period in range(6)]
    assert seen == [8, 9, 10, 11, 12, 12]


def test_the_words_for_an_intent_change():
    def words_at(start):
        made = table("chatbot", 4000, start)
        refunds = column(made, "message")[column(made, "class") == "refund"]
        return set(" ".join(refunds.tolist()).lower().split())

    early, late = words_at(0), words_at(int(2.0 * EVERY))
    assert {"refund", "money"} <= early
    assert len(late - early) > 10


def test_the_log_of_the_old_bot_has_scores_with_the_probability_of_each_answer():
    source = opened("chatbot", TaskKind.FEEDBACK, rows=8192)
    chunk = next(iter(source.read({})))
    given = chunk.table["class"].to_pylist()
    truth = ChatbotScenario(1, EVERY, takes_scores=True).intents(0, 8192)
    assert chunk.table["message"].equals(table("chatbot", 8192)["message"])
    assert truth == table("chatbot", 8192)["class"].to_pylist()
    right = np.array([a == b for a, b in zip(given, truth, strict=True)])
    labelled = np.array([each is None for each in chunk.scored])
    assert labelled.mean() == pytest.approx(0.05, abs=0.01)
    assert right[labelled].all()
    scores = np.array([each.score for each in chunk.scored if each is not None])
    assert scores[right[~labelled]].mean() == pytest.approx(0.95, abs=0.02)
    assert scores[~right[~labelled]].mean() == pytest.approx(0.04, abs=0.02)
    # Answers weighted by 1 / propensity are an even choice from all, whatever the bot preferred.
    weight = np.array([1 / each.propensity for each in chunk.scored if each is not None])
    answers = np.array(given)[~labelled]
    shares = np.array([weight[answers == intent].sum() for intent in INTENTS[:8]]) / weight.sum()
    assert np.abs(shares - 1 / 8).max() < 0.02


def test_sensors_age_and_one_of_them_fails_in_every_period():
    made = table("sensors", 3 * EVERY)
    y = column(made, "class")
    scenario = SensorsScenario(1, EVERY)
    for period in range(3):
        name, sticks, fails = scenario.failures(period)
        values = made[name].to_pylist()
        assert all(values[row] is None for row in fails)
        assert np.std(values[sticks.start : sticks.stop]) < 0.3 * np.std([v for v in values[: sticks.start] if v is not None])
        of_period = slice(period * EVERY, (period + 1) * EVERY)
        assert {s: n for s in SENSORS if (n := made[s].slice(of_period.start, EVERY).null_count)} == {name: len(fails)}
    x = np.array([[np.nan if v is None else v for v in made[s].to_pylist()] for s in SENSORS]).T
    x = np.c_[np.where(np.isnan(x), np.nanmean(x, axis=0), x), np.ones(len(x))]
    first, later, test = slice(0, 6000), slice(2 * EVERY, 2 * EVERY + 6000), slice(2 * EVERY + 6000, 3 * EVERY)
    old, new = (np.linalg.lstsq(x[rows], y[rows], rcond=None)[0] for rows in (first, later))
    assert np.abs(x[test] @ old - y[test]).mean() > 1.2 * np.abs(x[test] @ new - y[test]).mean()


@pytest.mark.parametrize(
    ("scenario", "task"), [("fraud", "regression"), ("sensors", "classification"), ("recommendation", "feedback")]
)
def test_a_task_that_the_stream_is_not_for_is_refused(scenario, task):
    with pytest.raises(ConfigError, match=r"stream\.synthetic\.scenario is .* set task\.kind="):
        opened(scenario, TaskKind(task))


def test_a_label_that_is_called_like_a_feature_is_refused():
    with pytest.raises(ConfigError, match=r"stream\.label is 'amount'"):
        opened("fraud", label="amount")


def test_draws_are_even_and_normal_and_belong_to_a_thing():
    drawn = even(7, 1, np.arange(20_000))
    assert np.abs(np.histogram(drawn, 10, (0, 1))[0] / 2000 - 1).max() < 0.1
    assert even(7, 1, 4) == drawn[4]
    assert abs(np.corrcoef(drawn, even(7, 2, np.arange(20_000)))[0, 1]) < 0.03
    bell = normal(7, 1, np.arange(200)[:, None], np.arange(100))
    assert bell.shape == (200, 100)
    assert (bell.mean(), bell.std()) == pytest.approx((0, 1), abs=0.02)


def test_a_paced_stream_waits():
    config = StreamConfig.model_validate({"synthetic": {"scenario": "fraud", "rate_rows_per_s": 100.0}})
    clock = iter([0.0, 0.0, 0.05, 1.0, 1.0])
    chunks = ScenarioSource(config, TaskKind.CLASSIFICATION, 1, lambda: next(clock)).read({})
    given = [next(chunks) for _ in range(3)]
    assert given[0] is None
    assert [chunk.stop for chunk in given if chunk] == [5, 100]
