"""How the rows of a round are dealt to the shards."""

from collections.abc import Sequence

from actors.learning.lineage import OffsetRange

Slice = tuple[int, int]

# One row each in turn would scatter a stream of single-row steps over the shards in as many offset ranges as rows.
_SMALLEST_DEAL_ROWS = 32


def deal(rows: int, shards: int, micro_batch_rows: int) -> list[list[Slice]]:
    """For each shard its micro-batches, as slices of the round's rows in stream order.

    Micro-batches go round the shards in turn, so that every shard sees all of the round's time span: a shard that got one
    contiguous half would predict the later half without having learned anything newer than the round's start.
    """
    block = micro_batch_rows * -(-_SMALLEST_DEAL_ROWS // micro_batch_rows)
    hands: list[list[Slice]] = [[] for _ in range(shards)]
    for number, start in enumerate(range(0, rows, block)):
        stop = min(start + block, rows)
        hands[number % shards] += [(at, min(at + micro_batch_rows, stop)) for at in range(start, stop, micro_batch_rows)]
    return hands


def offsets_of(slices: Sequence[Slice], spans: Sequence[OffsetRange]) -> tuple[OffsetRange, ...]:
    """The source offsets of `slices` of rows; `spans` are the runs of offsets that the rows came from, in row order."""
    found: list[OffsetRange] = []
    at, first_row = 0, 0
    for start, stop in slices:
        while at < len(spans) and first_row < stop:
            span = spans[at]
            low, high = max(start, first_row), min(stop, first_row + len(span))
            if low < high:
                piece = OffsetRange(span.partition, span.start + low - first_row, span.start + high - first_row)
                if found and found[-1].partition == piece.partition and found[-1].stop == piece.start:
                    piece = OffsetRange(piece.partition, found.pop().start, piece.stop)
                found.append(piece)
            if first_row + len(span) > stop:
                break
            first_row += len(span)
            at += 1
    return tuple(found)
