"""What a run starts from: the newest whole version in storage, or nothing."""

import logging
from dataclasses import replace
from typing import Any

from actors.audit_log import AuditLog
from actors.durable import Resumed, model_of, resumed
from actors.errors import ConfigError, DamagedVersionError
from actors.event_journal import MOVES, Event, events_of
from actors.learning.promotion import PromotionPolicy
from actors.storage import shown
from actors.version_store import Manifest, VersionStore
from cluster.config import PerennialConfig

logger = logging.getLogger(__name__)

_MOST_STARTS = 1_000  # that the last move is looked for behind
_ELSE = "set storage to another place (--set storage=...), or start anew with --fresh --force"


def start_from(config: PerennialConfig, *, fresh: bool, force: bool) -> Resumed | None:
    """None where there is nothing to go on from. Damaged versions above it are set aside, each named in the log.

    Raises ConfigError where `fresh` would overwrite versions, or what storage holds is of another task or model.
    """
    store = VersionStore(config.storage)
    if fresh:
        versions = store.versions()
        if versions and not force:
            raise ConfigError(
                f"--fresh would overwrite {len(versions)} versions in {shown(config.storage)}, the newest {versions[-1]}: "
                "leave it out to go on from them, name another place (--set storage=...), or add --force to delete them"
            )
        store.sweep(())
        return None
    manifest, damaged = store.newest_whole()
    for version in damaged:
        store.set_aside(version)
    return None if manifest is None else _caught_up(config, store, going_on_from(config, store, manifest))


def going_on_from(config: PerennialConfig, store: VersionStore, manifest: Manifest) -> Resumed:
    """What the version holds. Raises ConfigError where it is of another task or model, DamagedVersionError."""
    for section, given in (("task", config.task), ("model", config.model)):
        held = type(given).model_validate(dict(manifest.about[section]))  # a key that was not there yet has its default
        _check_same(section, held.model_dump(mode="json"), given.model_dump(mode="json"), manifest.version, config.storage)
    found = resumed(store, manifest)
    if manifest.about["optimizer"] == str(config.learners.optimizer.name):
        return found
    return replace(found, states=tuple(replace(state, optimizer={}) for state in found.states))


def _caught_up(config: PerennialConfig, store: VersionStore, found: Resumed) -> Resumed:
    """Production is where it was moved to last, though that was after the version was made durable."""
    last = _last_move(config)
    if last is None or last.data["version"] == found.aliases.production:
        return found
    if config.promotion.policy is PromotionPolicy.ALWAYS and not last.data["held"]:
        return found  # it has followed the newest since
    version = last.data["version"]
    try:
        there = {state.version: state for state in found.states}
        state = there[version] if version in there else model_of(store, store.manifest(version))
    except DamagedVersionError:
        logger.warning(
            "production was moved to version %d, which is not durable; it is version %s again, as version %d knows it",
            version, found.aliases.production, found.states[-1].version,
        )  # fmt: skip
        return found
    aliases = found.aliases.caught_up(version, is_held=last.data["held"])
    states = found.states if version in there else (state, *found.states)
    return replace(found, aliases=aliases, states=states)


def _last_move(config: PerennialConfig) -> Event | None:
    """Of production, in what is gone on from: not before it was started anew."""
    happened = events_of(AuditLog(config.storage).read(_MOST_STARTS, (*MOVES, "started")))
    for event in reversed(happened):
        if event.kind in MOVES:
            return event if "held" in event.data else None  # earlier releases did not say
        if event.data["version"] == 0:
            return None
    return None


_MAY_CHANGE = {("task", "max_classes"), ("task", "exploration"), ("model", "init_from"), ("model", "memory_rows")}


def _check_same(section: str, held: dict[str, Any], given: dict[str, Any], version: int, storage: str) -> None:
    for key in sorted(held.keys() | given.keys()):
        if held.get(key) != given.get(key) and (section, key) not in _MAY_CHANGE:
            raise ConfigError(
                f"{section}.{key} is {given.get(key)!r}, but version {version} in {shown(storage)} was learned with "
                f"{held.get(key)!r}: set it so again, {_ELSE}"
            )
