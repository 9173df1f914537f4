"""`perennial log`, `show` and `diff`: the durable versions in storage, whether a system runs or not."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from actors.audit_log import AuditLog
from actors.durable import RUN, model_of
from actors.errors import DamagedVersionError, UnknownVersionError
from actors.learning.lineage import OffsetSet
from actors.learning.state import ModelState, is_hashed
from actors.storage import shown
from actors.version_store import Manifest, VersionStore
from cluster.config import PerennialConfig

Document = dict[str, Any]


def log(config: PerennialConfig, newest: int) -> Document:
    """The newest durable versions, newest first, and the latest moves of production."""
    store = VersionStore(config.storage)
    versions = store.versions()
    names = _names(store, versions)
    entries: list[Document] = []
    for version in versions[: -newest - 1 : -1]:
        try:
            entries.append(_summary(store.manifest(version), names))
        except DamagedVersionError as error:
            entries.append({"version": version, "damaged": str(error)})
    return {"storage": shown(config.storage), "versions": entries, "moves": AuditLog(config.storage).read(newest)}


def show(config: PerennialConfig, version: int) -> Document:
    store = VersionStore(config.storage)
    manifest = _manifest(store, config, version)
    files = [
        {"part": part, "version": entry.version, "name": entry.name, "bytes": entry.nbytes, "sha256": entry.sha256}
        for part, chain in manifest.parts.items()
        for entry in chain
    ]
    about = {key: value for key, value in manifest.about.items() if key != "aliases"}
    return {**_summary(manifest, _names(store, store.versions())), **about, "files": files}


def diff(config: PerennialConfig, before: int, after: int) -> Document:
    """What lies between two versions. Norms are Euclidean; `change` is that of the difference over that of `before`."""
    store = VersionStore(config.storage)
    old, new = (_manifest(store, config, version) for version in (before, after))
    settled = [OffsetSet.from_state(store.load(each, RUN)[0]["history"]["settled"]) for each in (old, new)]
    learned = settled[0].missing_from(settled[1])
    old_model, new_model = model_of(store, old), model_of(store, new)
    return {
        "before": _summary(old, {}),
        "after": _summary(new, {}),
        "rows": new.about["rows"] - old.about["rows"],
        "learned": [{"partition": o.partition, "start": o.start, "stop": o.stop} for o in learned],
        "classes": [each for each in new_model.classes if each not in old_model.classes],
        "tensors": _tensor_changes(old_model, new_model),
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


def _names(store: VersionStore, versions: list[int]) -> dict[int, list[str]]:
    """What the aliases of the newest whole manifest name."""
    found: dict[int, list[str]] = {}
    for version in reversed(versions):
        try:
            aliases: Mapping[str, int | None] = store.manifest(version).about["aliases"]
        except DamagedVersionError:
            continue
        for name, named in aliases.items():
            if named is not None:
                found.setdefault(named, []).append(name)
        break
    return found


def _summary(manifest: Manifest, names: Mapping[int, list[str]]) -> Document:
    return {
        "version": manifest.version,
        "parent": manifest.parent,
        "created_at": manifest.created_at,
        "rows": manifest.about["rows"],
        "scores": manifest.about["scores"],
        "aliases": names.get(manifest.version, []),
        "bytes": manifest.nbytes,
    }


def _tensor_changes(old: ModelState, new: ModelState) -> list[Document]:
    before, found = old.tensors(), []
    for name, tensor in new.tensors().items():
        grown = np.zeros_like(tensor)
        if name in before:
            known = before[name]
            if is_hashed(name):
                known = np.tile(known, (tensor.shape[0] // known.shape[0], 1))
            grown[tuple(slice(0, size) for size in known.shape)] = known
        norm, moved = float(np.linalg.norm(grown)), float(np.linalg.norm(tensor - grown))
        found.append(
            {"name": name, "shape": list(tensor.shape), "norm": norm, "moved": moved, "change": moved / norm if norm else None}
        )
    return found


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
    for column, justify in (("version", "right"), ("made", "left"), ("rows", "right"), ("score", "right"), ("bytes", "right")):
        table.add_column(column, justify="right" if justify == "right" else "left")
    table.add_column("names")
    for entry in document["versions"]:
        if "damaged" in entry:
            table.add_row(f"v{entry['version']}", "", "", "", "", "[red]damaged[/red]")
            continue
        table.add_row(
            f"v{entry['version']}", _when(entry["created_at"]), f"{entry['rows']:,}", _score(entry["scores"]),
            f"{entry['bytes']:,}", ", ".join(entry["aliases"]),
        )  # fmt: skip
    console.print(table)
    for move in document["moves"][-5:]:
        reason = f": {move['reason']}" if move.get("reason") else ""
        console.print(f"{_when(move['time'])}  {move['kind']} v{move['version']} by {move['by']}{reason}", highlight=False)


def print_version(console: Console, document: Document) -> None:
    named = f" ({', '.join(document['aliases'])})" if document["aliases"] else ""
    parent = f", after v{document['parent']}" if document["parent"] else ""
    lines = [
        f"version {document['version']}{named}, made {_when(document['created_at'])}{parent}",
        f"rows          {document['rows']:,} learned in all",
        f"score         {_score(document['scores'])} over the last 1,000 rows",
    ]
    lines += [*lines_of_lineage(document["lineage"]), f"digest        {document['lineage']['digest']}"]
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
    table = Table(box=None, pad_edge=False)
    for column in ("tensor", "shape", "norm", "moved", "change"):
        table.add_column(column, justify="left" if column == "tensor" else "right")
    for each in document["tensors"]:
        change = "-" if each["change"] is None else f"{each['change']:.1%}"
        table.add_row(each["name"], "x".join(map(str, each["shape"])), f"{each['norm']:.4g}", f"{each['moved']:.4g}", change)
    console.print(table)


def _when(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}Z"


def _score(scores: Mapping[str, Any] | None) -> str:
    if scores is None or scores["recent"] is None:
        return "-"
    return f"{scores['metric']} {scores['recent']:.4f}"
