"""The configuration of a run: the sections of all parts, each defined beside its owner, put together and loaded."""

import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import ValidationError, model_validator

from actors.errors import ConfigError
from actors.feedback import FeedbackConfig
from actors.learner_config import LearnersConfig
from actors.learning.combination import fewest_shards
from actors.learning.consolidation import ConsolidationConfig
from actors.learning.drift.config import DriftConfig
from actors.learning.models.config import ModelConfig
from actors.learning.promotion import PromotionConfig
from actors.learning.replay import ReplayConfig
from actors.learning.retention import VersionsConfig
from actors.learning.section import Section, setting
from actors.learning.task import TaskConfig, TaskKind
from actors.learning.update import UpdateConfig
from actors.sources.config import StreamConfig
from cluster.config_keys import Key, keys_of
from cluster.config_problems import kind_of, problems_of
from cluster.config_text import yaml_of
from cluster.config_yaml import parse_yaml
from cluster.monitor_section import MonitorConfig
from cluster.ray_section import RayConfig
from serve.config import ServeConfig

_STEP = re.compile(r"([^.\[\]]+)((?:\[[0-9]+\])*)")


class PerennialConfig(Section):
    name: str = setting(
        "perennial",
        "Keeps systems on one cluster apart: a lower-case letter, then up to 39 lower-case letters, digits, - or _.",
        pattern=r"^[a-z][a-z0-9_\-]{0,39}$",
    )
    storage: str = setting(
        "storage",
        "Where versions and events are kept: a folder, or a pyarrow filesystem URI (file://, s3://, gs://).",
        min_length=1,
    )
    seed: int = setting(1, "All randomness is drawn from it.", ge=0, le=2**32 - 1)
    ray: RayConfig = setting(RayConfig, "The Ray cluster.")
    stream: StreamConfig = setting(StreamConfig, "The rows to learn from.")
    task: TaskConfig = setting(TaskConfig, "What is learned from a label.")
    model: ModelConfig = setting(ModelConfig, "Which model learns.")
    learners: LearnersConfig = setting(LearnersConfig, "The learner shards, and how they learn.")
    replay: ReplayConfig = setting(ReplayConfig, "Experience replay: remembered rows, learned again beside new ones.")
    consolidation: ConsolidationConfig = setting(ConsolidationConfig, "How the shards' contributions become one version.")
    drift: DriftConfig = setting(DriftConfig, "How a change of the stream is noticed, and what is done about it.")
    update: UpdateConfig = setting(UpdateConfig, "When what has come is learned.")
    promotion: PromotionConfig = setting(PromotionConfig, "When production moves to another version.")
    versions: VersionsConfig = setting(VersionsConfig, "When versions are made durable, and which of them are kept.")
    serve: ServeConfig = setting(ServeConfig, "How predictions are served.")
    feedback: FeedbackConfig = setting(FeedbackConfig, "What users send back, and the journal that keeps it.")
    monitor: MonitorConfig = setting(MonitorConfig, "What a running system tells of itself.")

    @model_validator(mode="after")
    def _sections_go_together(self) -> "PerennialConfig":
        if self.replay.ratio and self.replay.strategy == "class_balanced" and self.task.kind is TaskKind.REGRESSION:
            raise ValueError(
                "replay.strategy is class_balanced, and task.kind regression has no classes: take reservoir or prioritized"
            )
        if self.learners.regularizer == "der" and not self.replay.ratio:
            raise ValueError(
                "learners.regularizer is der, which needs replayed rows, and replay.ratio is 0: raise it, or take ewc or lwf"
            )
        strategy, faulty, shards = self.consolidation.strategy, self.consolidation.faulty, self.learners.shards
        if shards < fewest_shards(strategy, faulty):
            raise ValueError(
                f"consolidation.strategy {strategy} is proof against {faulty} shards out of order (consolidation.faulty) from "
                f"{fewest_shards(strategy, faulty)} shards on, and learners.shards is {shards}: raise it, or take mean"
            )
        if strategy != "mean" and self.consolidation.mode == "async":
            raise ValueError(
                f"consolidation.strategy {strategy} compares the contributions of a round, and with consolidation.mode async "
                "every one becomes a version by itself: take sync, or mean"
            )
        if self.model.kind == "ensemble":
            for key, is_so in (
                (f"learners.regularizer: {self.learners.regularizer}", self.learners.regularizer != "none"),
                (f"learners.epochs: {self.learners.epochs}", self.learners.epochs > 1),
                ("learners.optimizer.groups", bool(self.learners.optimizer.groups)),
            ):
                if is_so:
                    raise ValueError(
                        f"{key} is for a model that is one network, and model.kind is ensemble, whose parts learn each in its "
                        "own way: leave it out, or take model.kind mlp"
                    )
        return self


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> PerennialConfig:
    """The configuration in the YAML file at `path` (None: the defaults), with `overrides` such as `learners.shards=4` applied.

    Raises ConfigError that names every problem at once, one line each.
    """
    document = {} if path is None else _read(path)
    for override in overrides:
        _apply(document, override)
    for name, info in PerennialConfig.model_fields.items():
        if document.get(name, ...) is None and isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            document[name] = {}  # a section whose keys are all commented out
    error = None
    try:
        config = PerennialConfig.model_validate(document)
    except ValidationError as refused:
        error = refused
    problems = problems_of(error, document, documented_keys())
    if not problems:
        return config
    origin = "the configuration" if path is None else str(path)
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    where = f"{origin} with --set" if overrides else origin
    raise ConfigError(f"{where}: {count}\n" + "\n".join(f"  {problem}" for problem in problems))


@cache
def documented_keys() -> tuple[Key, ...]:
    """Every key that a configuration may have."""
    return tuple(keys_of(PerennialConfig))


def render_config(config: PerennialConfig) -> str:
    """The configuration as YAML that loads again, with the meaning, type, unit and default of every key in comments."""
    return yaml_of(config)


def digest(config: PerennialConfig) -> str:
    """SHA-256, in hex, of what the configuration says, however it was written."""
    document = json.dumps(config.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(document.encode()).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: there is no such file; name another with --config, or write one with `perennial config > {path}`"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a UTF-8 text file: {error}") from error
    document = parse_yaml(text, str(path))
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: got {kind_of(document)}, wanted a mapping of sections such as `learners:`")
    return document


def _apply(document: dict[str, Any], override: str) -> None:
    """Writes `a.b[0].c=value` into `document`, making the mappings on the way; what is no key is found by the validation."""
    path, equals, text = override.partition("=")
    steps = _steps(path.strip())
    if not equals or not steps:
        raise ConfigError(f'--set {override!r}: wanted KEY=VALUE with dots between sections, for example "learners.shards=4"')
    value = parse_yaml(text, f"--set {override!r}")
    at: Any = document
    for step, after in pairwise(steps):
        if isinstance(at, dict) and isinstance(after, str) and not isinstance(at.get(step), dict):
            at[step] = {}
        at = _under(at, step, override)
    if isinstance(steps[-1], int):
        _under(at, steps[-1], override)
    elif not isinstance(at, dict):
        raise ConfigError(f"--set {override!r}: what is there is {kind_of(at)}, which has no key {steps[-1]!r}")
    at[steps[-1]] = value


def _under(at: Any, step: str | int, override: str) -> Any:
    if isinstance(at, dict) and isinstance(step, str):
        return at.get(step)
    if isinstance(at, list) and isinstance(step, int) and step < len(at):
        return at[step]
    raise ConfigError(f"--set {override!r}: there is no item [{step}], what is there is {kind_of(at)}; set the whole list")


def _steps(path: str) -> list[str | int]:
    steps: list[str | int] = []
    for part in path.split("."):
        match = _STEP.fullmatch(part)
        if match is None:
            return []
        steps.append(match[1])
        steps.extend(int(index) for index in re.findall(r"[0-9]+", match[2]))
    return steps
