"""`perennial revert`: a model that has never learned a range of rows.

Goes back to the newest durable version from before the range, learns everything since again but for the range, and leaves the
result as the newest version: the head, which is a shadow beside the production that there was.
"""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from actors.catalogue import Document
from actors.durable import RUN, Resumed
from actors.errors import ConfigError, UnknownVersionError
from actors.learning.drift.actions import FreezeConfig
from actors.learning.lineage import OffsetRange, OffsetSet
from actors.learning.promotion import PromotionPolicy
from actors.learning.update import UpdateConfig
from actors.storage import shown
from actors.version_store import VersionStore
from cluster.branch import branched, newest_without
from cluster.config import PerennialConfig
from cluster.resume import start_from
from cluster.run import RunOptions, check_outputs, learn


def revert(config: PerennialConfig, unwanted: OffsetRange, report: Path | None, console: Console | None = None) -> Document:
    """Raises PerennialError where nothing was learned of the range, or the rows since cannot be read again."""
    console = console or Console(stderr=True)
    options = RunOptions(once=True, report=report, serve=False)
    check_outputs(config, options)
    newest = start_from(config, fresh=False, force=False)
    if newest is None or newest.manifest is None:
        raise UnknownVersionError(
            f"there is no durable version in {shown(config.storage)}: nothing has been learned that could be reverted"
        )
    _check_learned(newest, unwanted, config.storage)
    excluded = OffsetSet((*newest.position.excluded, unwanted)).ranges()
    base = newest_without(config, newest, excluded)
    went_back_to = base.manifest.version if base.manifest else 0
    console.print(f"going back to version {went_back_to}, and learning again what came since, without {_shown(unwanted)}")
    branch = branched(base, newest, excluded, is_held=config.promotion.policy is PromotionPolicy.ALWAYS)
    until = _until(newest.position.offsets, excluded)
    done = learn(_undisturbed(config), options, console, branch, until)
    store = VersionStore(config.storage)
    head = store.manifest(store.versions()[-1])
    reached = store.load(head, RUN)[0]["position"]["offsets"]
    return {
        "version": head.version,
        "rebuilt_from": went_back_to,
        "instead_of": newest.manifest.version,
        "production": head.about["aliases"]["production"],
        "excluded": head.about["excluded"],
        "relearned": done["rows"]["trained"] - base.states[-1].rows,
        "rows": head.about["rows"],
        "is_complete": all(reached.get(partition, 0) >= stop for partition, stop in until.items()),
        "scores": head.about["scores"],
    }


def print_reversion(console: Console, document: Document) -> None:
    lines = [
        f"version {document['version']} has learned everything but the excluded rows: {document['rows']:,} rows, "
        f"{document['relearned']:,} of them again, from version {document['rebuilt_from']} on",
        f"production is version {document['production']} as before; `perennial run` goes on from {document['version']} as the "
        "head, and `perennial promote head` puts it into production",
    ]
    if not document["is_complete"]:
        lines[0] = (
            f"interrupted: version {document['version']} has not learned everything again; `perennial run` goes on from it"
        )
    console.print("\n".join(lines), highlight=False)


def _check_learned(newest: Resumed, unwanted: OffsetRange, storage: str) -> None:
    tested = newest.position.tested_offsets
    if unwanted.partition not in tested:
        known = ", ".join(repr(partition) for partition in sorted(tested)) or "none"
        raise ConfigError(
            f"--source is {unwanted.partition!r}, and nothing was learned from it in {shown(storage)}: known are {known}"
        )
    if unwanted.start >= tested[unwanted.partition]:
        raise ConfigError(
            f"--offsets begins at row {unwanted.start:,} of {unwanted.partition!r}, of which {shown(storage)} has seen "
            f"{tested[unwanted.partition]:,} rows: there is nothing to revert"
        )


def _undisturbed(config: PerennialConfig) -> PerennialConfig:
    """As fast as it goes, every row as it comes, and without anybody judging: production has learned these rows, which is no
    fair comparison. A feed that breaks is kept out of it again.
    """
    synthetic = config.stream.synthetic.model_copy(update={"rate_rows_per_s": None})
    promotion = config.promotion.model_copy(update={"policy": PromotionPolicy.MANUAL})
    stream = config.stream.model_copy(update={"synthetic": synthetic})
    actions = tuple(action for action in config.drift.actions if not isinstance(action, FreezeConfig))
    drift = config.drift.model_copy(update={"actions": actions})
    changes = {"stream": stream, "promotion": promotion, "drift": drift, "update": UpdateConfig()}
    return config.model_copy(update=changes)


def _until(offsets: Mapping[str, int], excluded: tuple[OffsetRange, ...]) -> dict[str, int]:
    """Up to the last row that is learned again: after it, nothing more may ever come."""
    until = dict(offsets)
    for unwanted in reversed(excluded):  # by partition, ascending
        if unwanted.start < until.get(unwanted.partition, 0) <= unwanted.stop:
            until[unwanted.partition] = unwanted.start
    return until


def _shown(offsets: OffsetRange) -> str:
    return f"rows {offsets.start:,} to {offsets.stop:,} of {offsets.partition}"
