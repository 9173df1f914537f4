import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.errors import ConfigError
from cluster.config import PerennialConfig, digest, documented_keys, load_config, render_config
from cluster.config_keys import Key

SHIPPED = Path(__file__).parents[2] / "ray_config.yaml"

texts = st.text(max_size=12)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
documents = st.fixed_dictionaries(
    {},
    optional={
        "name": st.from_regex(r"[a-z][a-z0-9_\-]{0,39}", fullmatch=True),
        "storage": texts.filter(bool),
        "seed": st.integers(0, 2**32 - 1),
        "ray": st.fixed_dictionaries({"dashboard": st.booleans(), "num_cpus": st.none() | st.integers(1, 64)}),
        "stream": st.fixed_dictionaries({"label": texts.filter(bool), "options": st.dictionaries(texts, scalars, max_size=3)}),
        "task": st.fixed_dictionaries({"classes": st.lists(scalars.filter(lambda value: value is not None), max_size=4)}),
        "model": st.fixed_dictionaries({"freeze": st.lists(texts), "hidden": st.lists(st.integers(1, 512), max_size=3)}),
        "replay": st.fixed_dictionaries({"ratio": st.floats(0, 64)}),
        "drift": st.fixed_dictionaries(
            {"detectors": st.lists(st.sampled_from([{"kind": "adwin", "delta": 1e-05}, {"kind": "ddm"}]), max_size=3)}
        ),
    },
)


def refused(*overrides: str, path: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value)


def written(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@settings(max_examples=40)
@given(documents)
def test_what_is_rendered_loads_as_the_same_configuration(tmp_path_factory, document):
    config = PerennialConfig.model_validate(document)
    loaded = load_config(written(tmp_path_factory.mktemp("config"), render_config(config)))
    assert loaded == config
    assert digest(loaded) == digest(config)


def test_the_shipped_file_loads_and_starts_a_paced_stream_that_drifts_within_a_minute():
    config = load_config(SHIPPED)
    stream = config.stream
    assert stream.kind == "synthetic" and stream.rows is None
    assert stream.synthetic.rate_rows_per_s and stream.synthetic.drift_every_rows / stream.synthetic.rate_rows_per_s < 60


def test_the_shipped_file_has_every_section():
    text = SHIPPED.read_text()
    assert [name for name in PerennialConfig.model_fields if not re.search(rf"^{name}:", text, re.M)] == []


def test_an_empty_file_and_empty_sections_are_the_defaults(tmp_path):
    assert load_config(written(tmp_path, "")) == load_config(None)
    assert load_config(written(tmp_path, "learners:\n  # shards: 4\nreplay:\n")) == load_config(None)


def misspelt(path: str) -> str:
    """`path` with the last two letters of its last name swapped, or the last one doubled where they are the same."""
    head, dot, name = path.rpartition(".")
    swapped = name[:-2] + name[-1] + name[-2] if name[-1] != name[-2] else name + name[-1]
    return f"{head}{dot}{swapped}"


@pytest.mark.parametrize("key", documented_keys(), ids=lambda key: f"{key.path}-{key.variant}")
def test_every_key_is_refused_when_it_is_misspelt_and_the_right_one_named(key: Key):
    wrong, value = misspelt(key.path), "{}" if key.is_section else json.dumps(key.default)
    if "[]." not in key.path:
        assert f"  {wrong}: unknown key; did you mean {key.path}?" in refused(f"{wrong}={value}")
        return
    section, name = wrong.split("[].")
    right = key.path.replace("[]", "[0]")
    if key.path.endswith(".kind"):
        assert f"  {right}: the key is missing" in refused(f"{section}=[{{{name}: {value}}}]")
    else:
        assert f"did you mean {right}?" in refused(f"{section}=[{{kind: {key.variant}, {name}: {value}}}]")


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("lerners.shards", "learners.shards"),
        ("learner.shards", "learners.shards"),
        ("learners.ratio", "replay.ratio"),
        ("capacity_rows", "replay.capacity_rows"),
        ("stream.lable", "stream.label"),
        ("stream.drift_every_rows", "stream.synthetic.drift_every_rows"),
        ("optimizer.learning_rate", "learners.optimizer.learning_rate"),
    ],
)
def test_a_key_in_a_wrong_section_or_a_misspelt_section_is_led_home(wrong, meant):
    assert f"{wrong}: unknown key; did you mean {meant}?" in refused(f"{wrong}=1")


def test_a_key_that_resembles_none_gets_no_guess():
    assert refused("zzzzqqq=1").endswith("zzzzqqq: unknown key; `perennial config` prints every key there is")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learners.shards=two", 'learners.shards: got "two" (text), wanted a whole number >= 1'),
        ('learners.shards="2"', 'learners.shards: got "2" (text), wanted a whole number >= 1 and <= 1024; take the quotes'),
        ('learners.round_rows="512"', 'learners.round_rows: got "512" (text), wanted a whole number or auto; take the quotes'),
        ("learners.round_rows=true", "learners.round_rows: got true (a truth value), wanted a whole number or auto"),
        ("learners.shards=0", "learners.shards: got 0 (a whole number), wanted a whole number >= 1"),
        ("learners.shards=2.5", "learners.shards: got 2.5 (a number), wanted a whole number"),
        ("seed=true", "seed: got true (a truth value), wanted a whole number"),
        ("seed=", "seed: got null, wanted a whole number >= 0 and <= 4294967295; leave the key out to have the default, 1"),
        ("ray.dashboard=yes", 'ray.dashboard: got "yes" (text), wanted true or false; write "dashboard: true", without quotes'),
        ("ray.dashboard=1", "ray.dashboard: got 1 (a whole number), wanted true or false"),
        ("ray.address=10.0.0.1", 'ray.address: got "10.0.0.1" (text), wanted another form (`local` starts Ray here'),
        ("name=My System", 'name: got "My System" (text)'),
        ("task.kind=clasification", "wanted one of classification | regression | feedback; did you mean classification?"),
        ("learners=4", "learners: got 4 (a whole number), wanted a section; write its keys on lines of their own"),
        ("model.hidden=64", "model.hidden: got 64 (a whole number), wanted a list of whole numbers; a list is written [a, b]"),
        ("model.hidden=[64, '32']", 'model.hidden[1]: got "32" (text)'),
        ("stream.columns={age: 1}", "stream.columns.age: got 1 (a whole number), wanted text"),
        ("drift.detectors=[{kind: adwn}]", 'drift.detectors[0].kind: got "adwn" (text), wanted one of adwin |'),
        ("drift.detectors=[{delta: 1}]", "drift.detectors[0].kind: the key is missing"),
        ("drift.detectors=[ddm, {kind: adwin, delta: 7}]", "drift.detectors[1].delta: got 7 (a whole number), wanted a number"),
        ("drift.detectors=[{kind: adwin, delta: x}]", 'drift.detectors[0].delta: got "x" (text), wanted a number > 0 and < 1'),
        ("stream.kind=files", "stream.kind is files, which needs stream.path"),
    ],
)
def test_a_wrong_value_is_answered_with_its_path_itself_and_what_is_wanted(override, message):
    assert message in refused(override)


def test_all_problems_are_reported_at_once_one_line_each(tmp_path):
    text = "learners: {shard: 2, round_wait_s: long}\ndrift:\n  detectors:\n    - {kind: adwin, delta: 5}\nseed: -1\n"
    path = written(tmp_path, text)
    first, *problems = refused("replay.ratio=-1", path=path).splitlines()
    assert first == f"{path} with --set: 5 problems"
    assert {problem.split(":")[0].strip() for problem in problems} == {
        "learners.shard", "learners.round_wait_s", "drift.detectors[0].delta", "seed", "replay.ratio",
    }  # fmt: skip


def test_overrides_reach_nested_keys_lists_and_items_and_the_last_one_counts(tmp_path):
    path = written(tmp_path, "drift: {detectors: [{kind: adwin}, {kind: ddm}]}\nlearners: {shards: 3}\n")
    config = load_config(
        path,
        [
            "learners.shards=4",
            "learners.shards=5",
            "learners.optimizer={name: sgd, learning_rate: 1e-2}",
            "model.hidden=[8, 8]",
            "drift.detectors[1].threshold=2.5",
            "stream.options={a=b: [1, 2]}",
        ],
    )
    assert (config.learners.shards, config.learners.optimizer.name, config.learners.optimizer.learning_rate) == (5, "sgd", 0.01)
    assert (config.model.hidden, config.drift.detectors[1].threshold) == ([8, 8], 2.5)
    assert config.stream.options == {"a=b": [1, 2]}


@pytest.mark.parametrize("override", ["learners.shards", "=4", "learners..shards=4", "learners.=4", "", "drift.detectors[x]=1"])
def test_an_override_without_a_key_or_a_value_is_refused_with_an_example(override):
    assert "wanted KEY=VALUE" in refused(override)


@pytest.mark.parametrize("override", ["drift.detectors[0].delta=1", "seed[0]=1", "seed[0].x=1"])
def test_an_override_of_an_item_that_is_not_there_is_refused(override):
    assert "there is no item [0]" in refused(override)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("1_000", 1000), ("010", 10), ("no", "no"), ("1:30", "1:30"), ("2024-01-01", "2024-01-01"), (".5", 0.5)],
)
def test_scalars_are_what_they_look_like(text, value):
    read = load_config(None, [f"stream.options.x={text}"]).stream.options["x"]
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nname: a\nseed: 2\n", "line 3, column 1: not valid YAML: the key 'seed' is written twice, first on line 1"),
        ("learners: {shards: 1, shards: 2}\n", "the key 'shards' is written twice"),
        ("a: [1\n", "not valid YAML"),
        ("a: !!python/object:os.system {}\n", "not valid YAML"),
        ("- 1\n", "wanted a mapping of sections"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_with_the_place(tmp_path, text, message):
    path = written(tmp_path, text)
    told = refused(path=path)
    assert told.startswith(str(path)) and message in told


def test_a_missing_or_unreadable_file_is_refused_with_its_path(tmp_path):
    assert "there is no such file" in refused(path=tmp_path / "absent.yaml")
    assert str(tmp_path) in refused(path=tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in refused(path=tmp_path / "binary.yaml")


def test_the_digest_tells_what_is_configured_not_how_it_was_written(tmp_path):
    plain = written(tmp_path, "seed: 7\nlearners: {shards: 3}\n")
    assert digest(load_config(plain)) == digest(load_config(None, ["learners.shards=3", "seed=7"]))
    assert digest(load_config(plain)) != digest(load_config(plain, ["seed=8"]))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("replay.strategy=class_balanced", "task.kind=regression"),
            "replay.strategy is class_balanced, and task.kind regression",
        ),
        (
            ("learners.regularizer=der", "replay.ratio=0", "model.kind=mlp"),
            "learners.regularizer is der, which needs replayed rows",
        ),
        (("learners.regularizer=ewc", "model.kind=ensemble"), "learners.regularizer: ewc is for a model that is one network"),
        (("learners.epochs=2", "model.kind=ensemble"), "learners.epochs: 2 is for a model that is one network"),
        (("consolidation.strategy=krum", "learners.shards=4"), "from 5 shards on, and learners.shards is 4"),
        (("consolidation.strategy=median", "learners.shards=3", "consolidation.mode=async"), "take sync, or mean"),
    ],
)
def test_sections_that_do_not_go_together_are_refused_with_the_way_out(overrides, message):
    with pytest.raises(ConfigError) as error:
        load_config(None, overrides)
    assert message in str(error.value)
