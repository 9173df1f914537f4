"""Cutting chunks of a source: to size, to a first offset, to a number of rows in all, to a pace."""

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from actors.sources.source import SourceChunk

CHUNK_ROWS = 8192  # the most rows in a chunk
SAMPLE_ROWS = 1000  # the most rows in a sample
_PACE_S = 0.02


def cut(chunk: SourceChunk, start: int, stop: int) -> SourceChunk:
    """The rows of `chunk` at offsets `start` (included) to `stop` (excluded), which must lie within it."""
    if (start, stop) == (chunk.start, chunk.stop):
        return chunk
    first, last = (int(i) for i in np.searchsorted(chunk.offset_N, (start, stop)))
    malformed = tuple(row for row in chunk.malformed if start <= row.offset < stop)
    return SourceChunk(
        chunk.partition,
        start,
        stop,
        chunk.table.slice(first, last - first),
        chunk.offset_N[first:last],
        malformed,
        chunk.arrived_at,
        chunk.scored[first:last] if chunk.scored is not None else None,
    )


def pieces(chunk: SourceChunk, first: int = 0) -> Iterator[SourceChunk]:
    """The rows of `chunk` from offset `first` on, in chunks of at most CHUNK_ROWS."""
    for start in range(max(chunk.start, first), chunk.stop, CHUNK_ROWS):
        yield cut(chunk, start, min(start + CHUNK_ROWS, chunk.stop))


def stop_after(
    chunks: Iterable[SourceChunk | None], offsets: Mapping[str, int], rows: int | None
) -> Iterator[SourceChunk | None]:
    """`chunks`, ending where `rows` rows of the stream have been read in all, those before `offsets` included."""
    if rows is None:
        yield from chunks
        return
    left = rows - sum(offsets.values())
    if left <= 0:
        return
    for chunk in chunks:
        if chunk is not None and chunk.stop - chunk.start > left:
            chunk = cut(chunk, chunk.start, chunk.start + left)
        yield chunk
        left -= 0 if chunk is None else chunk.stop - chunk.start
        if left <= 0:
            return


def paced(chunks: Iterable[SourceChunk | None], rows_per_s: float, clock: Callable[[], float]) -> Iterator[SourceChunk | None]:
    """`chunks` no faster than `rows_per_s`, counted from the first question: None until 20 ms' worth of rows is due."""
    started, given = clock(), 0
    worth = max(1, int(rows_per_s * _PACE_S))  # row by row, taking them in would cost more than all the rest
    for chunk in chunks:
        at = chunk.start if chunk is not None else 0
        while chunk is not None and at < chunk.stop:
            left = chunk.stop - at
            due = min(left, int(rows_per_s * (clock() - started)) - given)
            if due >= min(left, worth):
                yield cut(chunk, at, at + due)
                at, given = at + due, given + due
            else:
                yield None
