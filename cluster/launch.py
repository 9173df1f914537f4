"""The composition root: every actor of the system is made here, in the order in which the data flows.

    ingestor -> learner shards <-> replay shards -> version manager, evaluator

Roles are plain classes; here they become Ray actors with names, so that `perennial status` finds them, in a namespace of
their own, so that several systems share a cluster. They are not detached: when the job ends they end.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.errors import ConfigError, LearningError, PerennialError
from actors.evaluator import Evaluator
from actors.ingestor import Ingestor
from actors.learner_shard import LearnerShard
from actors.learning.schema import LabelType
from actors.learning.state import ModelState
from actors.learning.task import TaskKind
from actors.replay_shard import ReplayShard
from actors.storage import local_folder
from actors.version_manager import VersionManager
from cluster.calls import value_of
from cluster.config import PerennialConfig

START_TIMEOUT_S = 120.0
VERSION_MANAGER = "version_manager"


@dataclass(frozen=True, slots=True)
class Vitals:
    """An actor's own word on where it lives."""

    pid: int
    node: str


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
    members: list[Member] = field(init=False)

    def __post_init__(self) -> None:
        self.members = [self.ingestor, *self.learners, *self.replays, self.version_manager, self.evaluator]


def namespace_of(name: str) -> str:
    return f"perennial-{name}"


class Launcher:
    """Makes actors for one configuration; `launch` makes them all, the others make one again."""

    def __init__(self, config: PerennialConfig) -> None:
        self._config = config
        self._namespace = namespace_of(config.name)

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

    def ingestor(self) -> Member:
        c = self._config
        stream = c.stream
        if stream.path is not None:
            stream = stream.model_copy(update={"path": str(Path(stream.path).expanduser().absolute())})
        arguments = (stream, c.task, c.learners, c.seed, storage_uri(c.storage), time.monotonic, time.sleep)
        return self._spawn(Ingestor, "ingestor", "ingestor", arguments, on_this_node=True, max_restarts=-1)

    def learner(self, shard: int, inputs: int, initial: Mapping[str, np.ndarray] | None) -> Member:
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
        return self._spawn(
            ReplayShard, f"replay-{shard}", "replay", (self._config.replay, shard, self._config.seed), max_restarts=-1
        )

    def version_manager(self, head: ObjectRef) -> Member:
        c = self._config
        return self._spawn(
            VersionManager,
            VERSION_MANAGER,
            "version_manager",
            (c.consolidation, c.learners.shards, head, time.time),
            max_restarts=-1,
        )

    def evaluator(self, label_type: LabelType, predictions: Path | None) -> Member:
        c = self._config
        path = str(predictions.absolute()) if predictions else None
        return self._spawn(Evaluator, "evaluator", "evaluator", (c.task, c.drift, label_type, path), on_this_node=True)

    def launch(self, predictions: Path | None) -> System:
        self.check_resources()
        initial = initial_weights(self._config)
        ingestor = self.ingestor()
        _started(ingestor)
        stream = value_of(ingestor.handle.describe.remote(), START_TIMEOUT_S)
        # The driver owns it, as it owns every later version: they outlive the version manager.
        head = ray.put(ModelState.empty(stream.inputs, 1 if self._config.task.kind is TaskKind.REGRESSION else 0))
        system = System(
            head=head,
            ingestor=ingestor,
            learners=[self.learner(shard, stream.inputs, initial) for shard in range(self._config.learners.shards)],
            replays=[self.replay(shard) for shard in range(self._config.replay.shards)] if self._config.replay.ratio else [],
            version_manager=self.version_manager(head),
            evaluator=self.evaluator(stream.schema.label_type, predictions),
        )
        _started(*system.members)
        return system

    def _spawn(
        self, role_class: type, name: str, role: str, arguments: tuple[Any, ...], *, on_this_node: bool = False, **options: Any
    ) -> Member:
        # A thread of its own answers `vitals` while the role is at work.
        actor = ray.remote(concurrency_groups={"control": 1})(_with_vitals(role_class))
        if on_this_node:  # it touches files that the user named on this machine
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"num_cpus": 0, **options}
        return Member(name, role, actor.options(name=name, namespace=self._namespace, **options).remote(*arguments))


def _started(*members: Member) -> None:
    """Waits until they stand. Raises PerennialError where one does not."""
    for member, vitals in [(member, member.handle.vitals.remote()) for member in members]:
        try:
            value_of(vitals, START_TIMEOUT_S)
        except RayActorError as error:
            reason = str(error).strip().splitlines()[-1]
            raise LearningError(f"{member.name} cannot start: {reason}. The full traceback is in Ray's logs.") from error


def _with_vitals(role_class: type) -> type:
    """The role, answering `vitals`. What its constructor refuses, `vitals` raises: of that, Ray keeps only the text."""

    def construct(self: Any, *arguments: Any) -> None:
        self.refusal = None
        try:
            super(role, self).__init__(*arguments)
        except PerennialError as error:
            self.refusal = error

    def vitals(self: Any) -> Vitals:
        if self.refusal is not None:
            raise self.refusal
        return Vitals(os.getpid(), ray.get_runtime_context().get_node_id())

    role: type[Any] = type(
        role_class.__name__, (role_class,), {"__init__": construct, "vitals": vitals, "__doc__": role_class.__doc__}
    )
    return role


def storage_uri(storage: str) -> str:
    """A local folder as an absolute path, because actors have working directories of their own; a URI as it is."""
    return storage if "://" in storage else str(local_folder(storage))


def initial_weights(config: PerennialConfig) -> Mapping[str, np.ndarray] | None:
    """The tensors of `model.init_from`. Raises ConfigError where they cannot be read."""
    if config.model.init_from is None:
        return None
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(config.model.init_from)
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"model.init_from {config.model.init_from!r} cannot be read as safetensors ({error}): name a file that "
            "safetensors.torch.save_file wrote."
        ) from error
