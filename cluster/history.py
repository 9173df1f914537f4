"""`perennial log`, `show` and `diff`: the durable versions in storage, whether a system runs or not."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from actors.audit_log import AuditLog
from actors.catalogue import Catalogue, Document, summary_of
from actors.durable import EVALUATOR, RUN, model_of
from actors.errors import UnknownVersionError
from actors.event_journal import MOVES, events_of
from actors.initial_weights import initial_weights
from actors.learning.encoding import RowEncoder
from actors.learning.lineage import OffsetSet
from actors.learning.models.config import ModelConfig
from actors.learning.schema import Schema
from actors.learning.state import ModelState, is_hashed
from actors.learning.task import TaskConfig
from actors.release_desk import Blueprint
from actors.storage import shown
from actors.version_store import Manifest, VersionStore
from cluster.config import PerennialConfig


def log(config: PerennialConfig, newest: int) -> Document:
    """The newest durable versions, newest first, and the latest moves of production."""
    catalogue = Catalogue(VersionStore(config.storage))
    names, versions = catalogue.names(), catalogue.versions()
    entries = [{**catalogue.summary(v), "aliases": names.get(v, [])} for v in versions[: -newest - 1 : -1]]
    return {"storage": shown(config.storage), "versions": entries, "moves": AuditLog(config.storage).read(newest, MOVES)}


def events(config: PerennialConfig, newest: int, kinds: list[str]) -> Document:
    """What has happened, the oldest first, in this run and the ones before it."""
    found = events_of(AuditLog(config.storage).read(newest, kinds or None))
    return {"storage": shown(config.storage), "events": [asdict(event) for event in found]}


def show(config: PerennialConfig, version: int) -> Document:
    store = VersionStore(config.storage)
    _manifest(store, config, version)
    catalogue = Catalogue(store)
    return {**catalogue.whole(version), "aliases": catalogue.names().get(version, [])}


def diff(config: PerennialConfig, before: int, after: int) -> Document:
    """What lies between two versions. Norms are Euclidean; `change` is that of the difference over that of `before`.

    `regimes` are the scores of both on the same labelled rows: the slices of the past regimes and of the present one that the
    newer of them remembers.
    """
    store = VersionStore(config.storage)
    old, new = (_manifest(store, config, version) for version in (before, after))
    settled = [OffsetSet.from_state(store.load(each, RUN)[0]["history"]["settled"]) for each in (old, new)]
    learned = settled[0].missing_from(settled[1])
    old_model, new_model = model_of(store, old), model_of(store, new)
    return {
        "before": summary_of(old),
        "after": summary_of(new),
        "rows": new.about["rows"] - old.about["rows"],
        "learned": [{"partition": o.partition, "start": o.start, "stop": o.stop} for o in learned],
        "classes": [each for each in new_model.classes if each not in old_model.classes],
        "regimes": _scores_of_both(config, store, max(old, new, key=lambda each: each.version), old_model, new_model),
        "tensors": _tensor_changes(old_model, new_model),
        "layers": _layer_changes(old_model, new_model),
        "features": _feature_changes(old_model, new_model),
    }


def _manifest(store: VersionStore, config: PerennialConfig, version: int) -> Manifest:
    versions = store.versions()
    if version not in versions:
        near = sorted(versions, key=lambda each: abs(each - version))[:2]
        hint = f"the nearest are {' and '.join(map(str, sorted(near)))}" if near else "there is none yet"
        raise UnknownVersionError(
            f"version {version} is not durable in {shown(config.storage)}: {hint}; `perennial log` lists them"
        )
    return store.manifest(version)


def _scores_of_both(
    config: PerennialConfig, store: VersionStore, newer: Manifest, old: ModelState, new: ModelState
) -> list[Document]:
    from actors.regime_watch import RegimeWatch  # and with it torch, which nobody else here waits for

    memory = store.load(newer, EVALUATOR)[0].get("regimes")
    if memory is None:  # versions of earlier releases have none
        return []
    about = newer.about
    schema, task = Schema.from_json(dict(about["schema"])), TaskConfig.model_validate(about["task"])
    model, inputs = ModelConfig.model_validate(about["model"]), RowEncoder(schema).layout
    initial = initial_weights(model) if model.freeze else None
    watch = RegimeWatch(Blueprint(schema, task, model, inputs, config.seed, initial), config.promotion.regimes)
    watch.restore(memory)
    pairs = zip(watch.scores(old), watch.scores(new), strict=True)
    return [
        {"start": regime.start, "stop": regime.stop, "rows": len(regime.sample), "before": before, "after": after}
        for (regime, before), (_, after) in pairs
    ]


def _moved(old: ModelState, new: ModelState) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Every tensor as it was, zeros around it where it has grown, and the difference."""
    before, found = old.tensors(), dict[str, tuple[np.ndarray, np.ndarray]]()
    for name, tensor in new.tensors().items():
        grown = np.zeros_like(tensor)
        if name in before:
            known = before[name]
            if is_hashed(name):
                known = np.tile(known, (tensor.shape[0] // known.shape[0], 1))
            grown[tuple(slice(0, size) for size in known.shape)] = known
        found[name] = (grown, tensor - grown)
    return found


def _change(norm: float, moved: float) -> Document:
    return {"norm": norm, "moved": moved, "change": moved / norm if norm else None}


def _tensor_changes(old: ModelState, new: ModelState) -> list[Document]:
    return [
        {"name": name, "shape": list(was.shape), **_change(float(np.linalg.norm(was)), float(np.linalg.norm(moved)))}
        for name, (was, moved) in _moved(old, new).items()
    ]


def _layer_changes(old: ModelState, new: ModelState) -> list[Document]:
    """A layer's tensors together: weights and biases of one name."""
    squares: dict[str, tuple[float, float]] = {}
    for name, (was, moved) in _moved(old, new).items():
        layer = name.rpartition(".")[0] or name
        norm, move = squares.get(layer, (0.0, 0.0))
        squares[layer] = (norm + float(np.square(was).sum()), move + float(np.square(moved).sum()))
    return [{"name": name, **_change(norm**0.5, move**0.5)} for name, (norm, move) in squares.items()]


def _feature_changes(old: ModelState, new: ModelState) -> Document:
    """How far the features' means have moved, in standard deviations of before: the largest, and their root mean square."""
    known_D = (old.features.count_D > 1) & (old.features.m2_D > 0)
    if not known_D.any():
        return {"largest_shift": None, "rms_shift": None}
    deviation_D = np.sqrt(old.features.m2_D[known_D] / old.features.count_D[known_D])
    shift_D = (new.features.mean_D - old.features.mean_D)[known_D] / deviation_D
    return {"largest_shift": float(np.abs(shift_D).max()), "rms_shift": float(np.sqrt(np.square(shift_D).mean()))}


# --- on the terminal


def print_log(console: Console, document: Document) -> None:
    if not document["versions"]:
        console.print(f"no version is durable in {document['storage']} yet")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("version", "made", "rows", "learned", "score", "bytes", "for", "names"):
        table.add_column(column, justify="left" if column in {"made", "for", "names"} else "right")
    for entry in document["versions"]:
        if "damaged" in entry:
            table.add_row(f"v{entry['version']}", "", "", "", "", "", "", "[red]damaged[/red]")
            continue
        learned = sum((entry["lineage"] or {}).get("shards", {}).values())  # since the version before
        table.add_row(
            f"v{entry['version']}", _when(entry["created_at"]), f"{entry['rows']:,}", f"{learned:,}", _score(entry["scores"]),
            f"{entry['bytes']:,}", entry["trigger"] or "", ", ".join(entry["aliases"]),
        )  # fmt: skip
    console.print(table)
    for move in document["moves"][-5:]:
        reason = f": {move['reason']}" if move.get("reason") else ""
        console.print(f"{_when(move['time'])}  {move['kind']} v{move['version']} by {move['by']}{reason}", highlight=False)


def print_events(console: Console, document: Document) -> None:
    if not document["events"]:
        console.print(f"nothing has happened in {document['storage']} yet")
    for event in document["events"]:
        data = "  ".join(f"{key}: {value}" for key, value in event["data"].items() if value not in (None, ""))
        console.print(f"{_when(event['time'])}  {event['kind']:12} {data}", highlight=False, markup=False, soft_wrap=True)


def print_version(console: Console, document: Document) -> None:
    named = f" ({', '.join(document['aliases'])})" if document["aliases"] else ""
    parent = f", after v{document['parent']}" if document["parent"] else ""
    lines = [
        f"version {document['version']}{named}, made {_when(document['created_at'])}{parent}",
        f"rows          {document['rows']:,} learned in all",
        f"score         {_score(document['scores'])} over the last 1,000 rows",
        f"made for      {document['trigger'] or '-'}",
    ]
    lines += [*lines_of_lineage(document["lineage"]), f"digest        {document['lineage']['digest']}"]
    lines += [f"configured    {document['config_digest']}"] if document["config_digest"] else []
    for file in document["files"]:
        where = "" if file["version"] == document["version"] else f", with v{file['version']}"
        lines.append(f"{file['part']:13} {file['bytes']:,} bytes{where}")
    console.print("\n".join(lines), highlight=False)


def lines_of_lineage(lineage: Mapping[str, Any]) -> list[str]:
    """What a version has learned since the durable one before, by partition and by shard."""
    lines = []
    for partition, bounds in lineage["trained"].items():
        spans = ", ".join(f"{start:,} to {stop:,}" for start, stop in zip(bounds[::2], bounds[1::2], strict=True))
        lines.append(f"learned       {partition}: {spans[:200]}")
    shards = ", ".join(f"shard {shard}: {rows:,}" for shard, rows in lineage["shards"].items())
    return [*lines, f"by            {shards or '-'}"]


def print_diff(console: Console, document: Document) -> None:
    before, after = document["before"], document["after"]
    console.print(
        f"v{before['version']} to v{after['version']}: {document['rows']:,} rows, "
        f"score {_score(before['scores'])} to {_score(after['scores'])}",
        highlight=False,
    )
    for span in document["learned"][:10]:
        console.print(f"learned       {span['partition']}: {span['start']:,} to {span['stop']:,}", highlight=False)
    if document["classes"]:
        console.print(f"new classes   {', '.join(map(str, document['classes']))}", highlight=False)
    shift = document["features"]["largest_shift"]
    if shift is not None:
        console.print(f"features      means moved by {shift:.3g} standard deviations at most", highlight=False)
    for each in document["regimes"]:
        where = f"on {each['rows']} rows of {each['start']:,} to {each['stop']:,}"
        now = "  (the present regime)" if each is document["regimes"][-1] else ""
        console.print(f"{where}: {each['before']:.4f} to {each['after']:.4f}{now}", highlight=False)
    for title, parts in (("layer", document["layers"]), ("tensor", document["tensors"])):
        table = Table(box=None, pad_edge=False)
        for column in (title, "shape", "norm", "moved", "change"):
            table.add_column(column, justify="left" if column == title else "right")
        for each in parts:
            change = "-" if each["change"] is None else f"{each['change']:.1%}"
            shape = "x".join(map(str, each.get("shape", ())))
            table.add_row(each["name"], shape, f"{each['norm']:.4g}", f"{each['moved']:.4g}", change)
        console.print(table)


def _when(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}Z"


def _score(scores: Mapping[str, Any] | None) -> str:
    if scores is None or scores["recent"] is None:
        return "-"
    return f"{scores['metric']} {scores['recent']:.4f}"
