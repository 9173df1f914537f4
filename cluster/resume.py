"""What a run starts from: the newest whole version in storage, or nothing."""

from dataclasses import replace
from typing import Any

from actors.durable import Resumed, resumed
from actors.errors import ConfigError
from actors.storage import shown
from actors.version_store import Manifest, VersionStore
from cluster.config import PerennialConfig

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
    return None if manifest is None else going_on_from(config, store, manifest)


def going_on_from(config: PerennialConfig, store: VersionStore, manifest: Manifest) -> Resumed:
    """What the version holds. Raises ConfigError where it is of another task or model, DamagedVersionError."""
    for section, given in (("task", config.task), ("model", config.model)):
        _check_same(section, manifest.about[section], given.model_dump(mode="json"), manifest.version, config.storage)
    found = resumed(store, manifest)
    if manifest.about["optimizer"] == str(config.learners.optimizer.name):
        return found
    return replace(found, states=tuple(replace(state, optimizer={}) for state in found.states))


_MAY_CHANGE = {("task", "max_classes"), ("task", "exploration"), ("model", "init_from")}


def _check_same(section: str, held: dict[str, Any], given: dict[str, Any], version: int, storage: str) -> None:
    for key in sorted(held.keys() | given.keys()):
        if held.get(key) != given.get(key) and (section, key) not in _MAY_CHANGE:
            raise ConfigError(
                f"{section}.{key} is {given.get(key)!r}, but version {version} in {shown(storage)} was learned with "
                f"{held.get(key)!r}: set it so again, {_ELSE}"
            )
