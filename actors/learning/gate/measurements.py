"""What is known of a shadow besides its answers."""

from dataclasses import asdict, astuple, dataclass
from math import isfinite

from actors.learning.part import Tree


@dataclass(frozen=True, slots=True)
class Measurements:
    """None for what is not known; the latencies are 95th percentiles. Raises ValueError for what is no number."""

    shadow: int
    production_latency_ms: float | None = None
    shadow_latency_ms: float | None = None
    forgetting: float | None = None  # how much the shadow's score on the regime memory fell

    def __post_init__(self) -> None:
        for value in (self.production_latency_ms, self.shadow_latency_ms, self.forgetting):
            if value is not None and not isfinite(value):
                raise ValueError(f"a measurement of version {self.shadow} is {value}; leave out what is not known")

    def to_json(self) -> dict[str, float | None]:
        return {name: value for name, value in asdict(self).items() if name != "shadow"}

    def to_state(self) -> Tree:
        return list(astuple(self))

    @classmethod
    def from_state(cls, state: Tree) -> "Measurements":
        return cls(*state)
