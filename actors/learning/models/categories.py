"""Categories as vectors that are learned, in tables that grow with the number of values that have come.

A value's vector is the sum of two rows of its column's table, named by two halves of its 24-bit id: two values share both only
by rare chance, however small the table is (Svenstrup, Hansen and Winther 2017, "Hash embeddings for efficient word
representations", with importance 1). A table grows by repeating itself, which changes no vector: one more bit of the id then
tells values apart that shared a row. So tables of different sizes can be averaged, and no list of values has to be kept.

Shapes: N rows, D encoded dimensions, C columns of ids, E the size of a vector, W what comes out.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from actors.learning.inputs import InputLayout

MOST_ROWS = 1 << 12
_HALF_BITS = 12
_FIRST_ROWS = 64
_ROWS_PER_VALUE = 2
_SEEN_BITS = 1 << 14
_SEEN_SHIFT = 10  # the second of a value's bits is taken from this one of its id on
_SCALE = 4.0  # a row is in few rows of the batch, so its gradient is small beside the other weights': this makes up for it


class InputLayer(nn.Module):
    """z_ND [N, D] -> [N, W]: what is no id as it is, then the vector of each id.

    All vectors are zero at first. That of a value which has never been learned is zero, too, whoever has its rows, and so is
    that of a missing one. `seen` is a Bloom filter (Bloom 1970) for each column, two bits for each value, which tells what
    has been learned and how many values there are. Its bytes are 0 or 1: the larger of two is their union.
    """

    seen: Tensor

    def __init__(self, layout: InputLayout, size: int, most_rows: int) -> None:
        super().__init__()
        columns = len(layout.category_C)
        self._size, self._most_rows = size, most_rows
        self.register_buffer("seen", torch.zeros(columns, _SEEN_BITS, dtype=torch.uint8))
        # Not buffers: what is in a buffer is part of a version.
        self._other_D, self._category_C = torch.from_numpy(layout.other_D), torch.from_numpy(layout.category_C)
        self._first_bit_C = torch.arange(columns) * _SEEN_BITS
        self.resize([min(_FIRST_ROWS, most_rows)] * columns)
        self.width = len(layout.other_D) + columns * size

    def others(self, z_ND: Tensor) -> Tensor:
        return z_ND.index_select(1, self._other_D.to(z_ND.device))

    def vectors(self, z_ND: Tensor) -> Tensor:
        """[N, C, E]. While the module trains, the values that have come are noted."""
        category_C, mask_C, first_C, first_bit_C = (
            each.to(z_ND.device) for each in (self._category_C, self._mask_C, self._first_C, self._first_bit_C)
        )
        id_NC = z_ND.index_select(1, category_C).long()
        row_2NC = torch.stack([id_NC & mask_C, (id_NC >> _HALF_BITS) & mask_C]) + first_C
        vector_NCE = nn.functional.embedding(row_2NC, torch.cat(self._tables)).sum(dim=0) * _SCALE
        bit_2NC = torch.stack([id_NC & (_SEEN_BITS - 1), (id_NC >> _SEEN_SHIFT) & (_SEEN_BITS - 1)]) + first_bit_C
        is_seen_2NC = self.seen.view(-1).take(bit_2NC)
        is_present_NC = id_NC > 0
        is_known_NC = (is_seen_2NC[0] & is_seen_2NC[1]).bool() & is_present_NC
        if not self.training:
            return vector_NCE * is_known_NC.unsqueeze(2)
        if is_known_NC.all():
            return vector_NCE
        self.seen.view(-1).index_fill_(0, bit_2NC.flatten(), 1)
        # It tells of a new value what it would have told before, zero; what is to be learned of it is learned all the same.
        learned_NCE = vector_NCE * is_present_NC.unsqueeze(2)
        return learned_NCE - (learned_NCE * ~is_known_NC.unsqueeze(2)).detach()

    def forward(self, z_ND: Tensor) -> Tensor:
        return torch.cat([self.others(z_ND), self.vectors(z_ND).flatten(1)], dim=1)

    def values(self) -> list[float]:
        """About how many different values of each column have come."""
        share_C = self.seen.float().mean(dim=1).clamp(max=1.0 - 1.0 / _SEEN_BITS)
        return [-_SEEN_BITS / 2 * math.log1p(-share) for share in share_C.tolist()]

    def some_values(self, count: int, draw: np.random.Generator) -> np.ndarray:
        """int64 [count, C]: ids that count as learned, 0 in a column where none is found."""
        id_NC = np.zeros((count, len(self.seen)), np.int64)
        low_mask = (1 << _SEEN_SHIFT) - 1
        for c, seen in enumerate(self.seen.cpu().numpy()):
            if not seen.any():
                continue
            low_M, high_M = draw.choice(np.flatnonzero(seen), (2, 1024))
            is_one_M = low_M >> _SEEN_SHIFT == high_M & (_SEEN_BITS - 1 >> _SEEN_SHIFT)  # where the two overlap
            found = (high_M << _SEEN_SHIFT | low_M & low_mask)[is_one_M]
            if len(found):
                id_NC[:, c] = draw.choice(found, count)
        return id_NC

    def rows_wanted(self) -> list[int]:
        """Of each table: no fewer than it has, and enough for the values, up to the bound; a power of two."""
        needed = [max(1.0, _ROWS_PER_VALUE * values) for values in self.values()]
        enough = [min(self._most_rows, 1 << math.ceil(math.log2(each))) for each in needed]
        return [max(table.shape[0], each) for table, each in zip(self.hashed, enough, strict=True)]

    def resize(self, rows: Sequence[int]) -> None:
        """Of a layer that has learned nothing: to tables of so many rows, powers of two."""
        self.hashed = nn.ParameterList(torch.zeros(each, self._size, device=self.seen.device) for each in rows)
        self._tables = tuple(self.hashed)  # the same tensors: a ParameterList takes its time
        rows_C = torch.tensor(rows)
        self._mask_C, self._first_C = rows_C - 1, rows_C.cumsum(0) - rows_C
