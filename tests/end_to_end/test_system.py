"""Whole systems on a real Ray: from the stream to the report and the predictions file."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from systems import LiveSystem, Outcome, alive, descendants, learn, perennial
from torch import nn
from waiting import wait_until

from actors.learning.task import TaskKind
from actors.sources.config import StreamConfig
from actors.sources.synthetic import SyntheticSource

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

DRIFTING = ("stream.rows=10000", "stream.synthetic.drift_every_rows=4000", "learners.shards=2", "replay.ratio=1.0")
STILL = ("stream.synthetic.drift=none",)
SMALL = ("learners.shards=1", "replay.ratio=0")  # fewer processes to start, where the test is about something else
QUICK = "model.kind=mlp"  # to start and to learn, where any model will do
ROLES = ["evaluator", "ingestor", "learner", "learner", "replay", "version_manager"]


@pytest.fixture(scope="module")
def learned_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("learned")


@pytest.fixture(scope="module")
def learned(ray_cluster, learned_folder) -> Outcome:
    """Two shards and replay, on a stream with drifts at rows 4,000 and 8,000."""
    return learn(ray_cluster, learned_folder, "learned", *DRIFTING)


def synthetic_rows(rows: int, task: TaskKind = TaskKind.CLASSIFICATION) -> pa.Table:
    """The first rows of the synthetic stream of seed 1, without a drift."""
    config = StreamConfig.model_validate({"rows": rows, "synthetic": {"drift": "none"}})
    return pa.concat_tables(chunk.table for chunk in SyntheticSource(config, task, 1).read({}) if chunk is not None)


# --- learning


def test_every_row_is_predicted_once_and_learned_once(learned):
    learned.rows_add_up(10_000)
    assert np.array_equal(learned.predictions["row"].to_numpy(), np.arange(10_000))
    assert all(shard["rows"] > 0 and shard["replayed_rows"] > 0 for shard in learned.report["learners"])
    assert set(learned.predictions["shard"].to_pylist()) == {0, 1}


def test_the_reported_scores_can_be_computed_again_from_the_predictions_file(learned):
    prequential = learned.report["prequential"]
    assert learned.correct_N.mean() == pytest.approx(prequential["accuracy"], abs=1e-12)
    recalls = [learned.correct_N[learned.predictions["label"].to_numpy() == label].mean() for label in (0, 1)]
    assert np.mean(recalls) == pytest.approx(prequential["balanced_accuracy"], abs=1e-12)
    assert learned.correct_N[-1000:].mean() == pytest.approx(learned.report["recent"]["accuracy"], abs=1e-12)


def test_it_learns_and_learns_again_after_a_drift(learned):
    before, after, recovered = (learned.correct_N[a:b].mean() for a, b in ((3000, 4000), (4000, 4060), (7000, 8000)))
    assert before > 0.85 and recovered > 0.85
    assert after < before - 0.15
    assert any(4000 < alarm["row"] < 5000 for alarm in learned.report["drift"])


def test_later_rows_are_predicted_by_later_versions(learned):
    version_N = learned.predictions["version"].to_numpy()
    assert version_N[0] == 0 and np.all(np.diff(version_N) >= 0)
    assert np.array_equal(np.unique(version_N), np.arange(learned.report["versions"]["head"]))


def test_the_same_configuration_gives_the_same_predictions_bit_for_bit(learned, learned_folder, ray_cluster, tmp_path):
    learn(ray_cluster, tmp_path, "learned", *DRIFTING)
    assert (tmp_path / "p.parquet").read_bytes() == (learned_folder / "p.parquet").read_bytes()


def test_labels_that_have_nothing_to_do_with_the_rows_are_predicted_no_better_than_by_chance(ray_cluster, tmp_path):
    rows = synthetic_rows(10_000)
    permuted = rows["class"].take(pa.array(np.random.default_rng(0).permutation(len(rows))))
    pq.write_table(rows.set_column(rows.schema.get_field_index("class"), "class", permuted), tmp_path / "rows.parquet")
    done = learn(ray_cluster, tmp_path, "permuted", *SMALL, "stream.kind=files", f"stream.path={tmp_path / 'rows.parquet'}")
    done.rows_add_up(10_000)
    assert 0.47 < done.report["prequential"]["balanced_accuracy"] < 0.53


def test_no_prediction_comes_from_a_version_that_had_learned_a_label_before_it_was_visible(ray_cluster, tmp_path):
    rows, delay = 8000, 1000
    with LiveSystem(ray_cluster, tmp_path, "delayed", f"stream.rows={rows}", f"stream.label_delay_rows={delay}",
                    "stream.synthetic.rate_rows_per_s=2000", once=True) as system:  # fmt: skip
        last_row_learned_V = last_learned_rows(system, ray_cluster)
        done = system.end()
    done.rows_add_up(rows)
    assert done.correct_N[-2000:].mean() > 0.75
    assert len(last_row_learned_V) == done.report["versions"]["head"] + 1
    row_N, version_N = done.predictions["row"].to_numpy(), done.predictions["version"].to_numpy()
    learned_N = last_row_learned_V[version_N]
    assert np.all(learned_N <= row_N - delay)
    assert learned_N.max() > rows - delay - 2000  # the versions did learn, and kept up


def last_learned_rows(system: LiveSystem, address: str) -> np.ndarray:
    """The highest row that each version had learned, -inf for version 0: from the lineage, watched until the run ends."""
    import ray
    from ray.exceptions import RayActorError

    def manager():
        try:
            return ray.get_actor("version_manager", namespace=f"perennial-{system.name}")
        except ValueError:
            return None

    records = ()
    ray.init(address=address, log_to_driver=False)
    try:
        desk = wait_until(manager, 60, "the version manager")

        def has_ended() -> bool:
            nonlocal records
            try:
                records = ray.get(desk.versions.remote(1000), timeout=60)[::-1]
            except RayActorError:
                return True
            return False

        wait_until(has_ended, 60, "the end of the run")
    finally:
        ray.shutdown()
    assert [record["version"] for record in records] == list(range(1, len(records) + 1))
    trained = [[span for part in record["contributions"] for span in part["trained"]] for record in records]
    return np.maximum.accumulate([-np.inf, *(max(span["stop"] - 1 for span in spans) for spans in trained)])


# --- what may be configured


def test_a_regression_gets_far_closer_than_the_mean(ray_cluster, tmp_path):
    done = learn(ray_cluster, tmp_path, "regression", *STILL, *SMALL, "stream.rows=6000", "task.kind=regression")
    done.rows_add_up(6000)
    label_N, value_N = (done.predictions[name].to_numpy() for name in ("label", "prediction"))
    error_N = np.abs(value_N - label_N)
    assert done.report["prequential"]["mae"] == pytest.approx(error_N.mean(), rel=1e-9)
    assert error_N[-2000:].mean() < 0.4 * np.abs(label_N - label_N.mean()).mean()


def test_classes_that_appear_on_the_way_are_learned(ray_cluster, tmp_path):
    done = learn(
        ray_cluster, tmp_path, "new-class", "stream.rows=9000", "stream.synthetic.drift=new_class",
        "stream.synthetic.drift_every_rows=3000", "stream.synthetic.classes=4",
    )  # fmt: skip
    done.rows_add_up(9000)
    label_N = done.predictions["label"].to_numpy()
    late = np.arange(len(label_N)) >= 7500
    assert set(label_N) == {0, 1, 2, 3}
    assert all(done.correct_N[late & (label_N == label)].mean() > 0.6 for label in range(4))


def test_shards_that_do_not_wait_for_each_other_learn_every_row_once(ray_cluster, tmp_path):
    done = learn(
        ray_cluster, tmp_path, "async", QUICK, *STILL, "stream.rows=12000", "consolidation.mode=async", "learners.shards=3"
    )
    done.rows_add_up(12_000)
    assert done.correct_N[-3000:].mean() > 0.8
    assert done.report["versions"]["head"] > 12_000 // (3 * 256)  # one version per contribution, not per round


def test_no_shard_learns_labels_from_another_that_it_has_still_to_predict(ray_cluster, tmp_path):
    """Without waiting for each other, too: on labels that say nothing, four shards score chance."""
    rng, rows = np.random.default_rng(0), 8_000
    columns = {f"x{at}": rng.normal(size=rows) for at in range(6)} | {"class": rng.integers(0, 4, rows)}
    pq.write_table(pa.table(columns), tmp_path / "noise.parquet")
    done = learn(
        ray_cluster, tmp_path, "noise", "stream.kind=files", f"stream.path={tmp_path / 'noise.parquet'}", "learners.shards=4",
        "learners.resources.cpus=0.25", "consolidation.mode=async",
    )  # fmt: skip
    assert len(done.correct_N) == rows
    assert abs(done.correct_N.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / rows)


def test_a_linear_model_can_learn_row_by_row(ray_cluster, tmp_path):
    done = learn(
        ray_cluster, tmp_path, "row-by-row", *STILL, *SMALL, "stream.rows=3000", "model.kind=linear",
        "learners.micro_batch_rows=1",
    )  # fmt: skip
    done.rows_add_up(3000)
    assert done.correct_N[-1000:].mean() > 0.75


USERS_MODULE = '''
import numpy as np
import pyarrow as pa
from torch import nn

from actors.sources.source import SourceChunk


def net(inputs, outputs, width):
    return nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, outputs))


class Ring:
    """Points in the plane, and whether they lie in a ring."""

    def __init__(self, rows):
        self.rows = rows

    def sample(self):
        return self.table(0, 500)

    def read(self, offsets):
        for start in range(offsets.get("plane", 0), self.rows, 500):
            stop = min(start + 500, self.rows)
            yield SourceChunk("plane", start, stop, self.table(start, stop), np.arange(start, stop))

    def table(self, start, stop):
        points = np.random.default_rng(7).uniform(-1, 1, (self.rows, 2))[start:stop]
        where = np.where(np.hypot(*points.T) < 0.7, "inside", "outside")
        return pa.table({"x": points[:, 0], "y": points[:, 1], "where": where})
'''


def test_a_model_and_a_source_of_the_users_own_are_found_beside_the_command(ray_cluster, tmp_path):
    (tmp_path / "plane.py").write_text(USERS_MODULE)
    with LiveSystem(
        ray_cluster, tmp_path, "own-parts", "stream.kind=python", "stream.source=plane:Ring", "stream.options={rows: 6000}",
        "stream.label=where", "model.kind=python", "model.factory=plane:net", "model.options={width: 32}",
        "learners.optimizer.learning_rate=0.02", once=True,
    ) as system:  # fmt: skip
        done = system.end()
    done.rows_add_up(6000)
    assert set(done.predictions["prediction"].to_pylist()) == {None, "inside", "outside"}  # None until a label was seen
    assert done.correct_N[-1500:].mean() > 0.85


def test_a_model_starts_from_given_weights_and_leaves_frozen_ones_alone(ray_cluster, tmp_path):
    """With all but the last bias frozen, it is good before the drift at once, and after the drift never again."""
    save_file(weights_learned_elsewhere(), tmp_path / "weights.safetensors")
    done = learn(
        ray_cluster, tmp_path, "transfer", QUICK, *SMALL, "stream.rows=8000", "stream.synthetic.drift_every_rows=4000",
        "task.classes=[0, 1]",  # in the order of the given weights' outputs
        "model.hidden=[16]", f"model.init_from={tmp_path / 'weights.safetensors'}",
        "model.freeze=[layers.0.*, layers.1.weight]",
    )  # fmt: skip
    done.rows_add_up(8000)
    assert done.correct_N[64:564].mean() > 0.8
    assert done.correct_N[-2000:].mean() < 0.7


def weights_learned_elsewhere() -> dict[str, torch.Tensor]:
    """Of a network with 16 hidden units, for the first concept of the stream."""
    rows = synthetic_rows(4000)
    x_ND = torch.from_numpy(np.stack([rows[f"x{i}"].to_numpy() for i in range(10)], axis=1))
    y_N = torch.tensor(rows["class"].to_pylist())
    torch.manual_seed(0)
    first, last = nn.Linear(10, 16), nn.Linear(16, 2)
    optimizer = torch.optim.Adam([*first.parameters(), *last.parameters()], lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.cross_entropy(last(first(x_ND).relu()), y_N).backward()
        optimizer.step()
    tensors = {"layers.0.weight": first.weight, "layers.0.bias": first.bias, "layers.1.weight": last.weight}
    return {name: tensor.detach().clone() for name, tensor in {**tensors, "layers.1.bias": last.bias}.items()}


# --- a running system


def test_status_tells_of_every_actor_and_stop_ends_them_all(ray_cluster, tmp_path):
    endless = (QUICK, "stream.synthetic.rate_rows_per_s=3000")
    with LiveSystem(ray_cluster, tmp_path, "asked", *endless) as system:
        system.wait_for_rows(1000)
        here = ("--address", ray_cluster, "--set", "name=asked")
        wait_until(lambda: all(actor["alive"] for actor in system.status()["actors"]), 30, "every actor's sign of life")
        asked = perennial("status", "--json", *here, cwd=tmp_path)
        assert asked.returncode == 0, asked.stderr
        status = json.loads(asked.stdout)
        assert status["name"] == "asked" and status["state"] == "learning"
        assert set(status["stream"]) >= {"offsets", "rows"} and status["stream"]["offsets"]["synthetic"] >= 1000
        assert status["rows_per_s"] > 0 and status["prequential"]["recent"] > 0.5
        assert set(status["aliases"]) == {"production", "shadow", "previous"}
        assert set(status["evidence"]) >= {"e_value", "labels", "decision"} and "drift" in status
        assert all(set(actor) >= {"name", "role", "pid", "node", "alive", "restarts"} for actor in status["actors"])
        assert sorted(actor["role"] for actor in status["actors"]) == ROLES
        assert all(actor["alive"] and actor["restarts"] == 0 for actor in status["actors"])
        pids = {actor["pid"] for actor in status["actors"]}
        assert len(pids) == len(ROLES) and alive(pids) == pids

        screen = perennial("status", *here, cwd=tmp_path)
        assert screen.returncode == 0 and "asked" in screen.stdout
        stopped = perennial("stop", *here, cwd=tmp_path)
        assert stopped.returncode == 0, stopped.stderr
        done = system.end()
    assert done.report["rows"]["lost"] == done.report["rows"]["duplicated"] == 0
    assert np.array_equal(done.predictions["row"].to_numpy(), np.arange(done.report["rows"]["tested"]))
    wait_until(lambda: not alive(pids), 30, "the end of the actors' processes")

    gone = perennial("status", *here, cwd=tmp_path)
    assert gone.returncode == 1 and "no system named 'asked'" in gone.stderr and "Traceback" not in gone.stderr


def test_ctrl_c_ends_a_run_with_its_ray_and_a_summary(tmp_path):
    alone = ("ray.dashboard=false", "ray.num_cpus=2", "ray.object_store_memory_bytes=100000000")
    with LiveSystem("local", tmp_path, "interrupted", *alone, QUICK, "stream.synthetic.rate_rows_per_s=3000") as system:
        system.wait_for_rows(1000)
        processes = descendants(system.process.pid)
        assert len(processes) > len(ROLES)
        interrupt(system)
        done = system.end()
    rows = done.report["rows"]
    assert rows["trained"] >= 1000 and rows["lost"] == rows["duplicated"] == 0
    assert f"{rows['trained']:,} learned" in " ".join(system.stderr.split())
    assert "Traceback" not in system.stderr
    wait_until(lambda: not alive(processes), 30, "the end of Ray's processes")


def interrupt(system: LiveSystem) -> None:
    """As the terminal does it: to the whole process group."""
    os.killpg(system.process.pid, signal.SIGINT)
