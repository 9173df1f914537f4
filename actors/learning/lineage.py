"""Which rows of the stream a version has learned, exactly: the basis of "nothing lost, nothing twice"."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class OffsetRange:
    """Offsets `start` (included) to `stop` (excluded) of one partition of the source."""

    partition: str
    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop:
            raise ValueError(f"an offset range needs 0 <= start < stop, got {self.start}:{self.stop} of {self.partition!r}")

    def __len__(self) -> int:
        return self.stop - self.start


class OffsetSet:
    """A set of offsets per partition, kept as sorted disjoint intervals that coalesce.

    Its size is the number of holes, not the number of rows: a stream that is learned without gaps costs one interval
    per partition, however long it runs.
    """

    def __init__(self, ranges: Iterable[OffsetRange] = ()) -> None:
        self._bounds: dict[str, list[int]] = {}  # flat: start0, stop0, start1, stop1, ...
        for offsets in ranges:
            self.add(offsets)

    def overlap(self, offsets: OffsetRange) -> int:
        """How many of `offsets` are in the set already."""
        bounds = self._bounds.get(offsets.partition, [])
        first = bisect_right(bounds, offsets.start) // 2 * 2
        shared = 0
        for i in range(first, len(bounds), 2):
            if bounds[i] >= offsets.stop:
                break
            shared += min(bounds[i + 1], offsets.stop) - max(bounds[i], offsets.start)
        return shared

    def add(self, offsets: OffsetRange) -> int:
        """Adds `offsets`; returns how many of them were there already."""
        repeated = self.overlap(offsets)
        bounds = self._bounds.setdefault(offsets.partition, [])
        left, right = bisect_left(bounds, offsets.start), bisect_right(bounds, offsets.stop)
        bounds[left:right] = ([offsets.start] if left % 2 == 0 else []) + ([offsets.stop] if right % 2 == 0 else [])
        return repeated

    def ranges(self) -> tuple[OffsetRange, ...]:
        return tuple(
            OffsetRange(partition, bounds[i], bounds[i + 1])
            for partition, bounds in sorted(self._bounds.items())
            for i in range(0, len(bounds), 2)
        )

    def to_state(self) -> dict[str, list[int]]:
        """start0, stop0, start1, stop1, ... by partition."""
        return {partition: list(bounds) for partition, bounds in self._bounds.items()}

    @classmethod
    def from_state(cls, state: dict[str, list[int]]) -> "OffsetSet":
        made = cls()
        made._bounds = {partition: list(bounds) for partition, bounds in state.items()}
        return made

    def __len__(self) -> int:
        return sum(len(offsets) for offsets in self.ranges())

    def missing_from(self, whole: "OffsetSet") -> tuple[OffsetRange, ...]:
        """The ranges of `whole` that are not in this set: what was read and never learned."""
        missing: list[OffsetRange] = []
        for wanted in whole.ranges():
            at = wanted.start
            for i in range(0, len(self._bounds.get(wanted.partition, [])), 2):
                start, stop = self._bounds[wanted.partition][i : i + 2]
                if stop <= at or start >= wanted.stop:
                    continue
                if start > at:
                    missing.append(OffsetRange(wanted.partition, at, start))
                at = max(at, stop)
            if at < wanted.stop:
                missing.append(OffsetRange(wanted.partition, at, wanted.stop))
        return tuple(missing)
