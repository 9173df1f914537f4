"""Which version production answers with: the aliases, and how they move. Pure: events in, aliases out."""

from dataclasses import dataclass, replace
from enum import StrEnum

from actors.learning.gate.config import GateConfig
from actors.learning.gate.gate import Decision, Verdict
from actors.learning.regime_memory import RegimesConfig
from actors.learning.section import setting


class PromotionPolicy(StrEnum):
    EVIDENCE = "evidence"
    ALWAYS = "always"
    MANUAL = "manual"


class AfterRollback(StrEnum):
    CONTINUE = "continue"
    RESTORE = "restore"


class PromotionConfig(GateConfig):
    policy: PromotionPolicy = setting(
        PromotionPolicy.ALWAYS,
        "`evidence`: production moves to a shadow that is better on the same labelled rows, and back where that was a mistake; "
        "`always`: production follows every new version; `manual`: it moves when somebody says `perennial promote`.",
    )
    after_rollback: AfterRollback = setting(
        AfterRollback.CONTINUE,
        "What becomes of the learner once the gate has gone back to a better version: `continue` as it is; or `restore`: go "
        "back to what was durable before, and learn the log again without the rows that only the worse version had learned.",
    )
    keep_versions: int = setting(
        64, "Newest versions that can be promoted or rolled back to, besides those that an alias names.", unit="versions", ge=2
    )
    keep_bytes: int = setting(256 * 2**20, "Memory that they may take; the newest two stay.", unit="bytes", ge=0)
    regimes: RegimesConfig = setting(RegimesConfig, "The slices of past regimes on which forgetting is measured.")


@dataclass(frozen=True, slots=True)
class Aliases:
    """The version numbers that the names stand for; None before there is a version.

    `is_held`: somebody has moved production to a version of their choice, so it stays there until the head is promoted.
    `is_pinned`: policy `evidence` compares production and the shadow, which stays where it is meanwhile.
    """

    production: int | None = None
    shadow: int | None = None
    previous: int | None = None
    is_held: bool = False
    is_pinned: bool = False

    def committed(self, head: int, policy: PromotionPolicy) -> "Aliases":
        """A new head: the shadow is on it at once unless it is pinned; production if the policy says so, or there was none."""
        if self.is_pinned and policy is PromotionPolicy.EVIDENCE:
            return self
        follows = self.production is None or (policy is PromotionPolicy.ALWAYS and not self.is_held)
        moved = replace(self._moved(head) if follows else self, shadow=head)
        return replace(moved, is_pinned=policy is PromotionPolicy.EVIDENCE and not self.is_held and moved.production != head)

    def decided(self, decision: Decision) -> "Aliases":
        """What the gate has decided; the same aliases where somebody has moved them meanwhile."""
        candidate, incumbent = decision.candidate, decision.incumbent
        is_examined = self.is_pinned and (self.production, self.shadow) == (incumbent, candidate)
        is_watched = self.is_pinned and (self.production, self.shadow) == (candidate, incumbent)
        match decision.verdict:
            case Verdict.PROMOTE if is_examined:  # from now on it is watched beside the version that it replaced
                return replace(self._moved(candidate), shadow=incumbent)
            case Verdict.ROLL_BACK if is_watched:
                return replace(self._moved(incumbent), shadow=candidate, is_pinned=False)
            case Verdict.REJECT | Verdict.REPIN if is_examined or is_watched:  # the next version is the next shadow
                return replace(self, is_pinned=False)
        return self

    def promoted(self, version: int, head: int) -> "Aliases":
        return replace(self._moved(version), is_held=version != head, is_pinned=False)

    def rolled_back(self, version: int | None) -> "Aliases":
        """To `previous` where no version is named. Raises ValueError where there is none."""
        target = self.previous if version is None else version
        if target is None:
            raise ValueError("there is no previous version to roll back to; name one")
        return replace(self._moved(target), is_held=True, is_pinned=False)

    def caught_up(self, version: int, *, is_held: bool) -> "Aliases":
        """With the last move that was made: of those, what was made durable may know less."""
        return replace(self._moved(version), is_held=is_held, is_pinned=False)

    def _moved(self, version: int) -> "Aliases":
        if version == self.production:
            return self
        return replace(self, production=version, previous=self.production)

    def validate(self, head: int) -> None:
        """Raises AssertionError where the aliases contradict each other, or name a version that there never was."""
        named = [version for version in self.names().values() if version is not None]
        assert all(1 <= version <= head for version in named), f"{self} names a version beyond the head, {head}"
        assert (self.production is None) == (self.shadow is None) == (head == 0), f"{self} at head {head}"
        assert self.previous is None or self.previous != self.production, f"{self}: previous is production"
        assert not (self.is_held and self.is_pinned), f"{self}: what somebody has chosen is not examined"
        assert not self.is_pinned or self.production != self.shadow, f"{self}: nothing to compare"

    def names(self) -> dict[str, int | None]:
        return {"production": self.production, "shadow": self.shadow, "previous": self.previous}
