"""A version as it is made durable and gone on from: the state of every role at one point of the stream."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from actors.learning.part import Tree
from actors.learning.promotion import Aliases
from actors.learning.schema import Schema
from actors.learning.state import ModelState
from actors.records import StreamPosition
from actors.version_store import Manifest, VersionStore

RUN, MODEL, EVALUATOR = "run", "model", "evaluator"


def replay_part(shard: int) -> str:
    return f"replay-{shard}"


def model_part(version: int) -> str:
    """Another version that an alias names."""
    return f"{MODEL}-{version}"


@dataclass(frozen=True, slots=True)
class Cut:
    """Where learning stands when everything up to `round` is learned and nothing beyond."""

    version: int
    round: int
    position: StreamPosition
    history: Tree
    aliases: Aliases
    about: Mapping[str, Any]
    parent: Manifest | None

    def run_state(self) -> Tree:
        return {
            "round": self.round,
            "position": self.position.to_state(),
            "history": self.history,
            "aliases": asdict(self.aliases),
        }


def commit(
    store: VersionStore,
    cut: Cut,
    created_at: float,
    head: ModelState,
    named: Sequence[ModelState],
    evaluator: Tree,
    replays: Sequence[Tree],
) -> Manifest:
    """`named` are the other versions that an alias names; those that the parent has are not written again."""
    parts = {RUN: cut.run_state(), MODEL: head.to_state(), EVALUATOR: evaluator}
    parts |= {replay_part(shard): tree for shard, tree in enumerate(replays)}
    changes = [replay_part(shard) for shard, tree in enumerate(replays) if not tree["whole"]]
    same = []
    for state in named:
        part = model_part(state.version)
        if cut.parent is not None and part in cut.parent.parts:
            same.append(part)
        else:
            parts[part] = state.to_state()
    return store.commit(cut.version, cut.parent, created_at, cut.about, parts, changes, same)


@dataclass(frozen=True, slots=True)
class Resumed:
    """What a run goes on from. `manifest` is the durable version that holds it, None where it is the very beginning."""

    manifest: Manifest | None
    round: int
    position: StreamPosition
    history: Tree
    aliases: Aliases
    schema: Schema
    states: tuple[ModelState, ...]  # those that aliases name, the head last
    evaluator: Tree | None
    replays: tuple[list[Tree], ...]  # by shard


def resumed(store: VersionStore, manifest: Manifest) -> Resumed:
    """Raises DamagedVersionError."""
    [run] = store.load(manifest, RUN)
    states = [model_of(store, manifest, part) for part in manifest.parts if part.startswith(f"{MODEL}-")]
    replays: list[list[Tree]] = []
    while (part := replay_part(len(replays))) in manifest.parts:
        replays.append(store.load(manifest, part))
    return Resumed(
        manifest=manifest,
        round=run["round"],
        position=StreamPosition.from_state(run["position"]),
        history=run["history"],
        aliases=Aliases(**run["aliases"]),
        schema=Schema.from_json(manifest.about["schema"]),
        states=(*states, model_of(store, manifest)),
        evaluator=store.load(manifest, EVALUATOR)[0],
        replays=tuple(replays),
    )


def model_of(store: VersionStore, manifest: Manifest, part: str = MODEL) -> ModelState:
    return ModelState.from_state(store.load(manifest, part)[0])
