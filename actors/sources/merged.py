"""Two sources as one stream: what the configuration names, and what users send back."""

from collections.abc import Iterator, Mapping

import pyarrow as pa

from actors.sources.source import Source, SourceChunk


class MergedSource:
    """`feedback` is read in between, a chunk of each in turn; the first rows of `stream` tell what rows look like.

    Ends once `stream` has ended and `feedback`, too; a feedback source that follows its journal never does.
    """

    def __init__(self, stream: Source, feedback: Source, feedback_partition: str) -> None:
        self._stream, self._feedback, self._feedback_partition = stream, feedback, feedback_partition

    def sample(self) -> pa.Table:
        return self._stream.sample()

    def read(self, offsets: Mapping[str, int]) -> Iterator[SourceChunk | None]:
        mine = {p: offset for p, offset in offsets.items() if p == self._feedback_partition}
        others = {p: offset for p, offset in offsets.items() if p != self._feedback_partition}
        under_way = [self._feedback.read(mine), self._stream.read(others)]
        while under_way:
            news = False
            for chunks in list(under_way):
                try:
                    chunk = next(chunks)
                except StopIteration:
                    under_way.remove(chunks)
                    continue
                if chunk is not None:
                    news = True
                    yield chunk
            if under_way and not news:
                yield None
