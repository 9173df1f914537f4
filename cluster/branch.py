"""Another history from an earlier version on: all that came since is learned again, but for some rows.

The new head has a number of its own, and stands beside the production that there was.
"""

from dataclasses import replace

from actors.durable import Resumed
from actors.errors import DamagedVersionError
from actors.learning.encoding import RowEncoder
from actors.learning.lineage import OffsetRange, OffsetSet
from actors.learning.promotion import Aliases
from actors.learning.state import ModelState
from actors.learning.task import TaskKind
from actors.learning.versioning import VersionHistory
from actors.records import StreamPosition
from actors.version_store import VersionStore
from cluster.config import PerennialConfig
from cluster.resume import going_on_from


def newest_without(config: PerennialConfig, newest: Resumed, excluded: tuple[OffsetRange, ...]) -> Resumed:
    """The newest durable version that has seen no row of `excluded`; the very beginning where there is none."""
    store = VersionStore(config.storage)
    for version in reversed(store.versions()):
        try:
            found = going_on_from(config, store, store.manifest(version))
        except DamagedVersionError:
            continue
        known = OffsetSet(found.position.excluded)
        seen = found.position.tested_offsets
        if all(known.overlap(o) == len(o) or seen.get(o.partition, 0) <= o.start for o in excluded):
            return found
    targets = 1 if config.task.kind is TaskKind.REGRESSION else 0
    given = tuple(config.task.classes) if isinstance(config.task.classes, list) else ()
    return Resumed(
        manifest=None,
        round=-1,
        # Every partition from its first row: a journal that does not have that any more says so.
        position=StreamPosition(offsets=dict.fromkeys(newest.position.offsets, 0), classes=given),
        history=VersionHistory(config.consolidation.max_staleness).to_state(),
        aliases=Aliases(),
        schema=newest.schema,
        states=(ModelState.empty(RowEncoder(newest.schema).width, targets),),
        evaluator=None,
        replays=(),
    )


def branched(base: Resumed, newest: Resumed, excluded: tuple[OffsetRange, ...], *, is_held: bool) -> Resumed:
    """`base` under the number after that of `newest`, whose production stays what it is."""
    head = replace(base.states[-1], version=newest.states[-1].version + 1)
    aliases = replace(newest.aliases, shadow=head.version, is_held=is_held, is_pinned=False)
    named = {aliases.production, aliases.previous}
    return replace(
        base,
        position=replace(base.position, excluded=excluded),
        history={**base.history, "head": head.version},
        aliases=aliases,
        states=(*(state for state in newest.states if state.version in named), head),
    )
