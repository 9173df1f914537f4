"""Which version production answers with: the aliases, and how they move. Pure: events in, aliases out."""

from dataclasses import dataclass, replace
from enum import StrEnum

from actors.learning.section import Section, setting


class PromotionPolicy(StrEnum):
    ALWAYS = "always"
    MANUAL = "manual"


class PromotionConfig(Section):
    policy: PromotionPolicy = setting(
        PromotionPolicy.ALWAYS,
        "`always`: production follows every new version; `manual`: it moves when somebody says `perennial promote`.",
    )
    keep_versions: int = setting(
        64, "Newest versions that can be promoted or rolled back to, besides those that an alias names.", unit="versions", ge=2
    )
    keep_bytes: int = setting(256 * 2**20, "Memory that they may take; the newest two stay.", unit="bytes", ge=0)


@dataclass(frozen=True, slots=True)
class Aliases:
    """The version numbers that the names stand for; None before there is a version.

    `is_held`: somebody has moved production to a version of their choice, so policy `always` leaves it there until the head
    is promoted.
    """

    production: int | None = None
    shadow: int | None = None
    previous: int | None = None
    is_held: bool = False

    def committed(self, head: int, policy: PromotionPolicy) -> "Aliases":
        """A new head: the shadow is on it at once, production if the policy says so, or if there was none."""
        follows = self.production is None or (policy is PromotionPolicy.ALWAYS and not self.is_held)
        return replace(self._moved(head) if follows else self, shadow=head)

    def promoted(self, version: int, head: int) -> "Aliases":
        return replace(self._moved(version), is_held=version != head)

    def rolled_back(self, version: int | None) -> "Aliases":
        """To `previous` where no version is named. Raises ValueError where there is none."""
        target = self.previous if version is None else version
        if target is None:
            raise ValueError("there is no previous version to roll back to; name one")
        return replace(self._moved(target), is_held=True)

    def _moved(self, version: int) -> "Aliases":
        if version == self.production:
            return self
        return replace(self, production=version, previous=self.production)

    def names(self) -> dict[str, int | None]:
        return {"production": self.production, "shadow": self.shadow, "previous": self.previous}
