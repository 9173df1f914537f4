"""Which of the replay shards a memory is: what all of them hold together is one memory."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class ShardPart:
    """`shard` of `shards`. A slot of the whole memory is that of one shard: slots go round them in turn."""

    shard: int = 0
    shards: int = 1

    def capacity(self, capacity: int) -> int:
        """Slots of this shard, of `capacity` in all."""
        return len(range(self.shard, capacity, self.shards))

    def local(self, slots_N: np.ndarray) -> np.ndarray:
        """This shard's number of each slot of the whole memory; -1 for the slots of others, and for -1."""
        if self.shards == 1:
            return slots_N
        return np.where((slots_N >= 0) & (slots_N % self.shards == self.shard), slots_N // self.shards, -1)
