"""The durable versions as people read them: one line each, or one whole, for the command line and for HTTP alike."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from actors.errors import DamagedVersionError
from actors.version_store import Manifest, VersionStore

Document = dict[str, Any]

_REMEMBERED = 2_000  # summaries; a version never changes


class Catalogue:
    """Reads manifests, never the arrays. Raises LearningError where storage cannot be reached."""

    def __init__(self, store: VersionStore) -> None:
        self._store = store
        self._summaries: OrderedDict[int, Document] = OrderedDict()

    def versions(self, below: int | None = None) -> list[int]:
        """Ascending; `below`: only those of smaller numbers."""
        return [version for version in self._store.versions() if below is None or version < below]

    def summary(self, version: int) -> Document:
        """What it learned, since which version and with what success; `{"version", "damaged"}` where it cannot be read."""
        known = self._summaries.get(version)
        if known is None:
            try:
                known = summary_of(self._store.manifest(version))
            except DamagedVersionError as error:
                return {"version": version, "damaged": str(error)}
            self._summaries[version] = known
            while len(self._summaries) > _REMEMBERED:
                self._summaries.popitem(last=False)
        return dict(known)

    def whole(self, version: int) -> Document:
        """The summary, all that was said when it was made, and its files. Raises DamagedVersionError."""
        manifest = self._store.manifest(version)
        files = [
            {"part": part, "version": entry.version, "name": entry.name, "bytes": entry.nbytes, "sha256": entry.sha256}
            for part, chain in manifest.parts.items()
            for entry in chain
        ]
        about = {key: value for key, value in manifest.about.items() if key != "aliases"}  # they have moved since
        return {**summary_of(manifest), **about, "files": files}

    def names(self) -> dict[int, list[str]]:
        """The aliases as the newest whole version knew them, by the version that they name."""
        for version in reversed(self._store.versions()):
            try:
                aliases = self._store.manifest(version).about["aliases"]
            except DamagedVersionError:
                continue
            return by_version(aliases)
        return {}


def by_version(aliases: Mapping[str, int | None]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for name, version in aliases.items():
        if version is not None:
            found.setdefault(version, []).append(name)
    return found


def summary_of(manifest: Manifest) -> Document:
    about = manifest.about
    return {
        "version": manifest.version,
        "parent": manifest.parent,
        "created_at": manifest.created_at,
        "rows": about["rows"],
        "scores": about.get("scores"),
        "trigger": about.get("trigger"),  # versions of earlier releases have none
        "lineage": about.get("lineage"),
        "config_digest": about.get("config_digest"),
        "bytes": manifest.nbytes,
    }
