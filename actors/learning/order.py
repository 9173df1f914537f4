"""What is to be done with the next rounds: the decisions that follow from what was measured."""

from dataclasses import asdict, dataclass

from actors.learning.part import Tree


@dataclass(frozen=True, slots=True)
class SetAside:
    """Rows with numbers from `start` on, before `stop`, that are not to be learned but go to quarantine."""

    start: int
    stop: int
    reason: str


@dataclass(frozen=True, slots=True)
class Shrink:
    """The replay memory forgets all but the latest `rows`. `row` is where that was decided: it is done once."""

    row: int
    rows: int


@dataclass(frozen=True, slots=True)
class Order:
    """Whole each time: what an earlier order said and this one does not is no longer so; to obey one twice changes nothing.

    learn_before_row: rows from this number on are predicted but not learned yet; None: there is no such row.
    """

    round: int = -1  # the last one that it knows of
    learn_before_row: int | None = None
    set_aside: tuple[SetAside, ...] = ()
    learning_rate_factor: float = 1.0
    shrink: Shrink | None = None

    def to_state(self) -> Tree:
        return asdict(self)

    @classmethod
    def from_state(cls, state: Tree) -> "Order":
        shrink = None if state["shrink"] is None else Shrink(**state["shrink"])
        return cls(**{**state, "set_aside": tuple(SetAside(**each) for each in state["set_aside"]), "shrink": shrink})
