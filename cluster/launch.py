"""The composition root: every actor of the system is made here, in the order in which the data flows.

    ingestor -> learner shards <-> replay shards -> version manager, evaluator

Roles are plain classes; here they become Ray actors with names, so that `perennial status` finds them, in a namespace of
their own, so that several systems share a cluster. They are not detached: when the job ends they end.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.durable import Resumed
from actors.errors import ConfigError, LearningError
from actors.evaluator import Evaluator
from actors.ingestor import Ingestor
from actors.initial_weights import initial_weights
from actors.label_joiner import LabelJoiner
from actors.learner_shard import LearnerShard
from actors.learning.drift.actions import ShrinkMemoryConfig
from actors.learning.inputs import InputLayout
from actors.learning.order import Order
from actors.learning.schema import Schema
from actors.learning.steering import is_steered
from actors.learning.task import TaskKind
from actors.learning.versioning import VersionHistory
from actors.release_desk import ARCHIVE_GROUP, WAITING_GROUP, Blueprint
from actors.replay_shard import ReplayShard, layout_of
from actors.sources.config import SourceKind
from actors.storage import local_folder
from actors.version_manager import VersionManager
from actors.version_store import VersionStore
from cluster.calls import SLICE_S, shared, value_of
from cluster.config import PerennialConfig
from cluster.vitals import with_vitals
from serve.names import SystemNames

START_TIMEOUT_S = 120.0
VERSION_MANAGER, LABEL_JOINER = "version_manager", "label_joiner"
_FIRST_ROWS, _FIRST_ROWS_S = 100, 1.0
_WAITING_THREADS = 64  # replicas and people that wait for the version manager at once


@dataclass(slots=True)
class Member:
    """One actor of the system."""

    name: str
    role: str
    handle: ActorHandle[Any]


@dataclass(slots=True)
class System:
    """Handles of everything that runs."""

    head: ObjectRef  # the version to start from
    ingestor: Member
    learners: list[Member]
    replays: list[Member]
    version_manager: Member
    evaluator: Member
    schema: Schema
    version_store: VersionStore
    label_joiner: Member | None = None
    writes_predictions: bool = False
    resumed: Resumed | None = None
    samples: list[ObjectRef | None] = field(default_factory=list)  # by learner shard, drawn before the run went on
    learning: list[Member] = field(init=False)  # all but the label joiner, which serving needs, too
    orders: Sequence[Order] = ()  # the last ones, where learning is steered
    members: list[Member] = field(init=False)

    def __post_init__(self) -> None:
        self.learning = [self.ingestor, *self.learners, *self.replays, self.version_manager, self.evaluator]
        self.members = [*self.learning, *([self.label_joiner] if self.label_joiner is not None else [])]


def namespace_of(name: str) -> str:
    return f"perennial-{name}"


class Launcher:
    """Makes actors for one configuration; `launch` makes them all, the others make one again."""

    def __init__(self, config: PerennialConfig, *, once: bool, serves: bool, hears: bool) -> None:
        """`hears`: feedback is learned from, whether or not anybody serves."""
        self._config, self._once, self._serves, self._hears = config, once, serves, hears
        self._namespace = namespace_of(config.name)

    @property
    def names(self) -> SystemNames:
        """Where Serve's replicas find the others."""
        name = self._config.name
        return SystemNames(
            namespace=self._namespace,
            version_manager=VERSION_MANAGER,
            label_joiner=LABEL_JOINER,
            production_app=f"{name}-production",
            shadow_app=f"{name}-shadow",
            system=name,
        )

    def check_resources(self) -> None:
        """Raises ConfigError where the cluster can never place the learner shards: Ray would wait without a word."""
        learners, total = self._config.learners, ray.cluster_resources()
        for kind, key, each in (("CPU", "cpus", learners.resources.cpus), ("GPU", "gpus", learners.resources.gpus)):
            wanted, there = each * learners.shards, total.get(kind, 0.0)
            if wanted > there:
                raise ConfigError(
                    f"learners.shards ({learners.shards}) times learners.resources.{key} ({each:g}) is {wanted:g} {kind}s, "
                    f"and the cluster has {there:g}: set learners.shards or learners.resources.{key} lower, or add nodes."
                )

    def label_joiner(self) -> Member:
        c = self._config
        arguments = (str(journal_path(c.storage)), c.feedback, time.time)
        return self._spawn(LabelJoiner, LABEL_JOINER, "label_joiner", arguments, on_this_node=True, max_restarts=-1)

    def ingestor(self, schema: Schema | None) -> Member:
        c = self._config
        stream = c.stream
        if stream.path is not None:
            stream = stream.model_copy(update={"path": str(Path(stream.path).expanduser().absolute())})
        journal = journal_path(c.storage) if self._hears else None
        times = (time.monotonic, time.time, time.sleep, schema)
        learners = c.learners.for_model(c.model.kind)
        arguments = (stream, c.task, learners, c.seed, storage_uri(c.storage), journal, self._once, *times)
        return self._spawn(Ingestor, "ingestor", "ingestor", arguments, on_this_node=True, max_restarts=-1)

    def learner(self, shard: int, inputs: InputLayout, initial: Mapping[str, np.ndarray] | None) -> Member:
        c = self._config
        return self._spawn(
            LearnerShard,
            f"learner-{shard}",
            "learner",
            (c.model, c.learners, c.task, inputs, c.seed, initial),
            num_cpus=c.learners.resources.cpus,
            num_gpus=c.learners.resources.gpus,
            max_restarts=-1,
        )

    def replay(self, shard: int) -> Member:
        c = self._config
        recent_rows = max((action.rows for action in c.drift.actions if isinstance(action, ShrinkMemoryConfig)), default=0)
        arguments = (c.replay, shard, c.seed, logits_kept(c), recent_rows)
        return self._spawn(ReplayShard, f"replay-{shard}", "replay", arguments, max_restarts=-1)

    def version_manager(self, blueprint: Blueprint) -> Member:
        c = self._config
        serving = (shared, time.time, self._serves)
        arguments = (c.consolidation, c.promotion, blueprint, c.learners.shards, *serving, storage_uri(c.storage), c.versions)
        return self._spawn(
            VersionManager,
            VERSION_MANAGER,
            "version_manager",
            arguments,
            on_this_node=True,
            max_restarts=-1,
            groups={WAITING_GROUP: _WAITING_THREADS, ARCHIVE_GROUP: 1},
        )

    def evaluator(self, blueprint: Blueprint, predictions: Path | None) -> Member:
        c = self._config
        path = str(predictions.absolute()) if predictions else None
        arguments = (c.task, c.drift, blueprint.schema.label_type, path, (blueprint, c.promotion), c.update)
        return self._spawn(Evaluator, "evaluator", "evaluator", arguments, on_this_node=True, max_restarts=-1)

    def launch(self, predictions: Path | None, label_joiner: Member | None, resumed: Resumed | None) -> System:
        """Everything that learns, going on from `resumed`. `label_joiner` is there already where predictions are served."""
        c = self._config
        self.check_resources()
        initial = initial_weights(c.model)
        ingestor = self.ingestor(resumed.schema if resumed else None)
        started(ingestor)
        stream = value_of(ingestor.handle.describe.remote(), START_TIMEOUT_S)
        blueprint = Blueprint(stream.schema, c.task, c.model, stream.inputs, c.seed, initial)
        head = resumed.states[-1] if resumed else blueprint.empty_state()
        system = System(
            head=ray.put(head),  # the driver owns it and every later one: they outlive the version manager
            ingestor=ingestor,
            learners=[self.learner(shard, stream.inputs, initial) for shard in range(c.learners.shards)],
            replays=[self.replay(shard) for shard in range(c.replay.shards)] if c.replay.ratio else [],
            version_manager=self.version_manager(blueprint),
            evaluator=self.evaluator(blueprint, predictions),
            schema=stream.schema,
            version_store=VersionStore(c.storage),
            label_joiner=label_joiner,
            writes_predictions=predictions is not None,
            resumed=resumed,
            samples=[None] * c.learners.shards,
        )
        started(*system.members)
        self._begin(system, resumed)
        return system

    def _begin(self, system: System, resumed: Resumed | None) -> None:
        """Every role as it was at that version. Shards of another memory share out among them what the old ones held."""
        begun = [system.evaluator.handle.begin.remote(resumed.evaluator if resumed else None)]
        if resumed is not None:
            history = VersionHistory(self._config.consolidation.max_staleness)
            history.restore(resumed.history)
            states = (*resumed.states[:-1], system.head)
            begun += [
                system.ingestor.handle.resume.remote(resumed.position, resumed.round + 1),
                system.version_manager.handle.resume.remote(history, resumed.aliases, *states),
            ]
        known, round_number = (resumed.replays, resumed.round) if resumed else ((), -1)
        layout = layout_of(self._config.replay, logits_kept(self._config))
        is_same = len(known) == len(system.replays) and all(chain[-1]["layout"] == layout for chain in known)
        for at, member in enumerate(system.replays):
            drawers = drawers_of(at, len(system.replays), len(system.learners), round_number)
            samples = value_of(member.handle.begin.remote([known[at]] if is_same else known), START_TIMEOUT_S)
            if len(samples) == len(drawers):
                for shard, sample in zip(drawers, samples, strict=True):
                    system.samples[shard] = ray.put(sample)
        for ref in begun:
            value_of(ref, START_TIMEOUT_S)
        if is_steered(self._config.drift, self._config.update):
            system.orders = value_of(system.evaluator.handle.orders.remote(), START_TIMEOUT_S)

    def _spawn(
        self,
        role_class: type,
        name: str,
        role: str,
        arguments: tuple[Any, ...],
        *,
        on_this_node: bool = False,
        groups: Mapping[str, int] | None = None,
        **options: Any,
    ) -> Member:
        # A thread of its own answers `vitals` while the role is at work.
        actor = ray.remote(concurrency_groups={"control": 1, **(groups or {})})(with_vitals(role_class))
        if on_this_node:  # it touches files that the user named on this machine
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"num_cpus": 0, **options}
        return Member(name, role, actor.options(name=name, namespace=self._namespace, **options).remote(*arguments))


def drawers_of(replay: int, replays: int, learners: int, round_number: int) -> list[int]:
    """The learner shards for which a replay shard draws in a round."""
    return [shard for shard in range(learners) if (shard + round_number) % replays == replay]


def logits_kept(config: PerennialConfig) -> int:
    """How many outputs of the model, at most, a remembered row keeps."""
    if config.learners.regularizer != "der":
        return 0
    task = config.task
    if task.kind is TaskKind.REGRESSION:
        return 1
    return len(task.classes) if isinstance(task.classes, list) else task.max_classes


def listens(config: PerennialConfig) -> bool:
    """Whether the replay shards want to know what the learners find out about rows."""
    return config.replay.strategy == "prioritized" or logits_kept(config) > 0


def started(*members: Member) -> None:
    """Waits until they stand. Raises PerennialError where one does not."""
    for member, vitals in [(member, member.handle.vitals.remote()) for member in members]:
        try:
            value_of(vitals, START_TIMEOUT_S)
        except RayActorError as error:
            reason = str(error).strip().splitlines()[-1]
            raise LearningError(f"{member.name} cannot start: {reason}. The full traceback is in Ray's logs.") from error


def needs_first_rows(config: PerennialConfig) -> bool:
    """Whether only the rows that come in can tell what rows look like."""
    return config.stream.kind is SourceKind.JOURNAL and config.stream.columns == "auto"


def await_first_rows(joiner: Member, tick: Callable[[], None]) -> None:
    """Waits until the journal holds enough rows to show what they look like: a hundred, or those of its first second."""
    first_at = math.inf
    while True:
        rows = value_of(joiner.handle.status.remote()).rows
        if rows and first_at == math.inf:
            first_at = time.monotonic()
        if rows >= _FIRST_ROWS or time.monotonic() - first_at > _FIRST_ROWS_S:
            return
        tick()
        time.sleep(SLICE_S)


def storage_uri(storage: str) -> str:
    """A local folder as an absolute path, because actors have working directories of their own; a URI as it is."""
    return storage if "://" in storage else str(local_folder(storage))


def journal_path(storage: str) -> Path:
    """Users' feedback; on this machine, where storage is elsewhere."""
    is_here = "://" not in storage or storage.startswith("file://")
    return local_folder(storage.removeprefix("file://") if is_here else "journal") / "journal.sqlite"
