"""Experience replay: a bounded memory of labelled rows to learn from again, against catastrophic forgetting.

Adding and sampling cost what the rows in hand cost, whatever the memory holds. Shapes: N rows, D encoded features, C slots,
K outputs, R drawn rows.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from actors.learning.experience.class_balance import ClassBalance
from actors.learning.experience.latest import Latest
from actors.learning.experience.part import ShardPart
from actors.learning.experience.placement import Placement
from actors.learning.experience.reservoir import Reservoir
from actors.learning.experience.sum_tree import SumTree
from actors.learning.labels import codes_of
from actors.learning.part import Tree
from actors.learning.section import Section, setting

Strategy = Literal["fifo", "reservoir", "class_balanced", "prioritized"]

_SMALLEST_LOSS = 1e-3  # so that no row is never drawn again
_REMEMBERED_BATCHES = 16  # whose rows can still be told from their numbers


class PriorityConfig(Section):
    exponent: float = setting(
        0.6, "Strategy `prioritized`: a row is drawn in proportion to its loss to the power of this; 0: evenly.", ge=0, le=2
    )
    correction: float = setting(
        0.4,
        "Strategy `prioritized`: how far the weight of a row makes up for how often it is drawn, from 0, not at all, to 1.",
        ge=0,
        le=1,
    )


class ReplayConfig(Section):
    shards: int = setting(1, "Replay shards; each holds its part of the capacity.", ge=1, le=1024)
    strategy: Strategy = setting(
        "reservoir",
        "What is kept: the latest rows; a uniform sample of all rows there ever were (`reservoir`); or the same number of each "
        "class, a uniform sample of its rows (`class_balanced`). `prioritized` keeps the latest rows and replays those most "
        "often that were predicted worst.",
    )
    capacity_rows: int = setting(5000, "Rows kept, all shards together.", unit="rows", ge=1)
    capacity_bytes: int = setting(256_000_000, "Bytes kept, all shards together; the tighter bound holds.", unit="bytes", ge=1)
    ratio: float = setting(4.0, "Replayed rows per new row in each step; 0 turns replay off.", ge=0, le=64)
    priority: PriorityConfig = setting(PriorityConfig, "How strategy `prioritized` draws.")


@dataclass(frozen=True, slots=True)
class ReplaySample:
    """Rows drawn from a replay shard: x_ND float32, y_N as in Rows.

    Where the memory keeps them: logits_NK float32, the outputs of the model that learned a row, NaN where they are not known;
    weight_N float32, what the row's loss counts, 1 at most; slot_N and number_N, which tell `shard` which rows they are.
    """

    x_ND: np.ndarray
    y_N: np.ndarray
    logits_NK: np.ndarray | None = None
    weight_N: np.ndarray | None = None
    slot_N: np.ndarray | None = None
    number_N: np.ndarray | None = None
    shard: int = 0

    def part(self, start: int, stop: int) -> "ReplaySample":
        def of(each_N: np.ndarray | None) -> np.ndarray | None:
            return None if each_N is None else each_N[start:stop]

        return ReplaySample(
            self.x_ND[start:stop],
            self.y_N[start:stop],
            of(self.logits_NK),
            of(self.weight_N),
            of(self.slot_N),
            of(self.number_N),
            self.shard,
        )

    def to_state(self) -> Tree:
        columns = (self.x_ND, self.y_N, self.logits_NK, self.weight_N, self.slot_N, self.number_N)
        return [*columns, self.shard]

    @classmethod
    def from_state(cls, state: Tree) -> "ReplaySample":
        return cls(*state)


class ReplayMemory:
    """One shard's part of the memory: rows side by side in one block, replaced in place.

    The block takes addresses for the whole capacity at once, and memory as rows come: it never moves. All shards are offered
    the same rows in the same order, with generators that start alike; then they agree on what each keeps.
    """

    def __init__(
        self,
        strategy: Strategy,
        capacity_rows: int,
        capacity_bytes: int,
        rng: np.random.Generator,
        part: ShardPart = ShardPart(),  # noqa: B008  # frozen
        *,
        priority: PriorityConfig | None = None,
        logits: int = 0,
    ) -> None:
        """The capacities are those of all shards together. `logits`: rows keep so many outputs, at most, of the model."""
        self._strategy, self._rows, self._bytes, self._part = strategy, capacity_rows, capacity_bytes, part
        self._priority = (priority or PriorityConfig()) if strategy == "prioritized" else None
        self._logits = logits
        self._shared_rng, self._rng = rng, rng.spawn(part.shards)[part.shard]  # of all shards alike, and this one's own
        self._held, self._seen = 0, 0
        # From the first row on, which tells how large rows are.
        self._capacity = 0  # of all shards
        self._block_C: np.ndarray | None = None
        self._logits_CK = np.zeros((0, 0), np.float32)
        self._tree: SumTree | None = None
        self._largest = 1.0  # priority, which new rows have
        self._changes = _Changes()
        self._recent: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=_REMEMBERED_BATCHES)
        self._placement: Placement

    # --- add

    def add(self, x_ND: np.ndarray, y_N: np.ndarray, number_N: np.ndarray | None = None) -> None:
        """Offers the rows of all shards' stream, copies of which are kept. `number_N` ascends; None: numbers go on.

        Raises ValueError where one row alone exceeds `capacity_bytes`.
        """
        if not len(y_N):
            return
        self._start(x_ND.shape[1], y_N.dtype)
        if number_N is None:
            number_N = np.arange(self._seen, self._seen + len(y_N))
        self._seen += len(y_N)
        self._write(self._placement.place(codes_for(y_N, self._strategy)), x_ND, y_N, number_N)

    def _write(self, slots_N: np.ndarray, x_ND: np.ndarray, y_N: np.ndarray, number_N: np.ndarray) -> None:
        assert self._block_C is not None
        kept_N = slots_N >= 0
        if not kept_N.all():
            slots_N, x_ND, y_N, number_N = slots_N[kept_N], x_ND[kept_N], y_N[kept_N], number_N[kept_N]
        if not len(slots_N):
            return
        rows_N = np.empty(len(slots_N), self._block_C.dtype)
        rows_N["x"], rows_N["y"], rows_N["number"] = x_ND, y_N, number_N
        np.put(self._block_C, slots_N, rows_N)  # where a slot is named twice the last stays, as one by one would
        self._held = max(self._held, int(slots_N.max()) + 1)
        self._changes.note(slots_N, self._held)
        if self._tree is not None:
            self._tree.set(slots_N, np.full(len(slots_N), self._largest))
        if self._logits:
            self._logits_CK[slots_N] = np.nan
            self._recent.append((number_N, slots_N))

    # --- draw

    def sample(self, rows: int) -> ReplaySample:
        """`rows` rows at random; none while the memory is empty.

        Every row comes once before any comes again, so that a step has few twice; `prioritized` draws with replacement, one
        row from each of so many equal parts of the priorities' sum.
        """
        if not self._held or rows <= 0:
            block_C = np.zeros(0, _row_dtype(0, np.dtype(np.int64))) if self._block_C is None else self._block_C[:0]
            return ReplaySample(np.ascontiguousarray(block_C["x"]), np.ascontiguousarray(block_C["y"]))
        assert self._block_C is not None
        weight_N = None
        if self._tree is not None:
            slots_N, weight_N = self._draw_by_priority(rows)
        else:
            slots_N = self._draw_evenly(rows)
        rows_N = self._block_C.take(slots_N)
        listens = self._tree is not None
        return ReplaySample(
            np.ascontiguousarray(rows_N["x"]),
            np.ascontiguousarray(rows_N["y"]),
            self._logits_CK[slots_N] if self._logits else None,
            weight_N,
            slots_N if listens else None,
            np.ascontiguousarray(rows_N["number"]) if listens else None,
            self._part.shard,
        )

    def _draw_evenly(self, rows: int) -> np.ndarray:
        passes, more = divmod(rows, self._held)
        drawn_N: np.ndarray = self._rng.choice(self._held, more, replace=False)
        return np.concatenate([*(self._rng.permutation(self._held) for _ in range(passes)), drawn_N]) if passes else drawn_N

    def _draw_by_priority(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Schaul et al. (2016), equation 1, stratified as in algorithm 1; weights as in section 3.4, by the largest."""
        assert self._tree is not None and self._priority is not None
        points_N = (np.arange(rows) + self._rng.random(rows)) / rows
        slots_N = np.minimum(self._tree.draw(self._rng.permutation(points_N)), self._held - 1)
        share_N = self._tree.weight_C.take(slots_N) / self._tree.total
        weight_N = (share_N * self._held) ** -self._priority.correction
        return slots_N, (weight_N / weight_N.max()).astype(np.float32)

    # --- what the learners found out

    def hear_losses(self, slot_N: np.ndarray, number_N: np.ndarray, loss_N: np.ndarray) -> None:
        """The losses of rows that were drawn here: their priorities from now on; of rows that are gone, nothing."""
        if self._tree is None or self._block_C is None or not len(slot_N):
            return
        assert self._priority is not None
        is_there_N = self._block_C["number"][np.minimum(slot_N, len(self._block_C) - 1)] == number_N
        slot_N, loss_N = slot_N[is_there_N], loss_N[is_there_N]
        priority_N = np.maximum(np.nan_to_num(loss_N), _SMALLEST_LOSS) ** self._priority.exponent
        self._tree.set(slot_N, priority_N)
        self._largest = float(np.max(priority_N, initial=self._largest))
        self._changes.note(slot_N, self._held)

    def hear_logits(self, number_N: np.ndarray, logits_NK: np.ndarray) -> None:
        """What the model said of rows as it learned them, float32 [N, K]; of rows that are not kept here, nothing."""
        outputs = min(logits_NK.shape[1], self._logits)
        if not outputs or not len(number_N) or self._block_C is None:
            return
        self._widen(outputs)
        order_N = np.argsort(number_N)
        sorted_N = number_N[order_N]
        for known_N, slots_N in self._recent:
            at_N = np.minimum(np.searchsorted(sorted_N, known_N), len(sorted_N) - 1)
            is_meant_N = (sorted_N[at_N] == known_N) & (self._block_C["number"][slots_N] == known_N)
            slots_N, at_N = slots_N[is_meant_N], at_N[is_meant_N]
            self._logits_CK[slots_N, :outputs] = logits_NK[order_N[at_N], :outputs]
            self._changes.note(slots_N, self._held)

    def _widen(self, outputs: int) -> None:
        width = self._logits_CK.shape[1]
        if outputs > width:
            wider_CK = np.zeros((len(self._logits_CK), min(self._logits, max(outputs, 2 * width))), np.float32)
            wider_CK[: self._held, :width] = self._logits_CK[: self._held]
            wider_CK[: self._held, width:] = np.nan
            self._logits_CK = wider_CK

    # --- what it holds

    def __len__(self) -> int:
        return self._held

    @property
    def seen(self) -> int:
        """Rows ever offered, to all shards together."""
        return self._seen

    @property
    def nbytes(self) -> int:
        """Bytes of the rows held, and of what is kept beside them."""
        if self._block_C is None:
            return 0
        return self._held * (self._row_bytes - 4 * (self._logits - self._logits_CK.shape[1]))

    # --- state

    def to_state(self, *, whole: bool) -> Tree:
        """The rows, or only those that have changed since the last call; and all else that is needed to go on exactly here."""
        state: Tree = {
            "strategy": self._strategy,
            "part": [self._part.shard, self._part.shards],
            "capacity": self._capacity,
            "held": self._held,
            "seen": self._seen,
            "rng": self._rng.bit_generator.state,
            "shared_rng": self._shared_rng.bit_generator.state,
        }
        if self._block_C is None:
            return state
        slots_N = np.arange(self._held) if whole else self._changes.slots()
        self._changes = _Changes()
        rows_N = self._block_C[slots_N]
        state |= {"slots": slots_N, "placement": self._placement.to_state(), "largest": self._largest}
        state |= {name: np.ascontiguousarray(rows_N[name]) for name in ("x", "y", "number")}
        if self._tree is not None:
            state["priority"] = self._tree.weight_C[slots_N]
        if self._logits:
            state["logits"] = self._logits_CK[slots_N]
        return state

    def restore(self, chains: Sequence[Sequence[Tree]]) -> None:
        """Goes on where a memory was: each chain is a whole state and the changes since, in order.

        One chain, this shard's own, is gone on from exactly. Where the number of shards, the capacity or the strategy has
        changed since, the chains of all shards there were are needed: what they held is shared out anew.
        """
        latest = chains[0][-1]
        self._shared_rng.bit_generator.state, self._seen = latest["shared_rng"], latest["seen"]
        is_mine = latest["part"] == [self._part.shard, self._part.shards] and latest["strategy"] == self._strategy
        if is_mine:
            self._rng.bit_generator.state = latest["rng"]
        self._block_C, self._capacity, self._held = None, 0, 0
        held = [rows for chain in chains if (rows := _whole(chain)) is not None]
        if not held:
            return
        self._start(held[0]["x"].shape[1], held[0]["y"].dtype)
        if is_mine and self._capacity == latest["capacity"] and len(chains) == 1:
            [rows] = held
            self._put_back(np.arange(latest["held"]), rows)
            self._largest = latest["largest"]
            self._placement.settle(latest["held"], codes_for(rows["y"], self._strategy), latest["placement"])
            self._changes = _Changes()
            self._recent.clear()
            return
        rows = {name: np.concatenate([each[name] for each in held]) for name in held[0]}
        order_N = np.argsort(rows["number"], kind="stable")
        rows = {name: column[order_N] for name, column in rows.items()}
        self._put_back(self._placement.resettle(codes_for(rows["y"], self._strategy), latest["placement"]), rows)

    def _put_back(self, slots_N: np.ndarray, rows: dict[str, np.ndarray]) -> None:
        self._write(slots_N, rows["x"], rows["y"], rows["number"])
        kept_N = np.flatnonzero(slots_N >= 0)
        slots_N = slots_N[kept_N]
        if self._tree is not None and "priority" in rows:
            self._tree.set(slots_N, rows["priority"][kept_N])
        if self._logits and "logits" in rows:
            outputs = min(self._logits, rows["logits"].shape[1])
            self._widen(outputs)
            self._logits_CK[slots_N, :outputs] = rows["logits"][kept_N, :outputs]

    def _start(self, width: int, label: np.dtype) -> None:
        if self._block_C is not None:
            return
        row = _row_dtype(width, label)
        beside = _BESIDE[self._strategy] + 4 * self._logits
        self._row_bytes = row.itemsize + beside
        self._capacity = min(self._rows, self._bytes // self._row_bytes)
        mine = self._part.capacity(self._capacity)
        if mine < 1:
            raise ValueError(
                f"replay.capacity_rows {self._rows} and replay.capacity_bytes {self._bytes} leave no row for shard "
                f"{self._part.shard} of {self._part.shards}, where a row takes {self._row_bytes} bytes: raise them, lower "
                "replay.shards, or set replay.ratio to 0"
            )
        self._block_C = np.zeros(mine, row)
        self._placement = self._new_placement()
        self._changes = _Changes()
        self._tree = SumTree(mine) if self._priority is not None else None
        self._largest = 1.0
        self._logits_CK = np.zeros((mine, 0), np.float32)
        self._recent.clear()

    def _new_placement(self) -> Placement:
        match self._strategy:
            case "reservoir":
                return Reservoir(self._capacity, self._part, self._shared_rng)
            case "class_balanced":
                return ClassBalance(self._capacity, self._part, self._rng)
            case _:
                return Latest(self._capacity, self._part)


# Bytes of a row's slot besides the row: its class again, or its priority.
_BESIDE = {"fifo": 0, "reservoir": 0, "class_balanced": 4, "prioritized": SumTree.bytes_per_slot()}


class _Changes:
    """Slots that have been written since somebody asked: every one noted, until that is more than all of them."""

    def __init__(self) -> None:
        self._noted: list[np.ndarray] = []
        self._count = 0

    def note(self, slots_N: np.ndarray, held: int) -> None:
        self._count += len(slots_N)
        if self._count > 2 * held:
            known_N = np.unique(np.concatenate([*self._noted, slots_N]))
            self._noted, self._count = [known_N], len(known_N)
        else:
            self._noted.append(slots_N)

    def slots(self) -> np.ndarray:
        return np.unique(np.concatenate([np.zeros(0, np.int64), *self._noted]))


def codes_for(y_N: np.ndarray, strategy: Strategy) -> np.ndarray:
    """What the placement goes by; only class balance looks at it."""
    return codes_of(y_N) if strategy == "class_balanced" else np.zeros(len(y_N), np.int64)


def _row_dtype(width: int, label: np.dtype) -> np.dtype:
    return np.dtype([("x", np.float32, (width,)), ("y", label), ("number", np.int64)])


def _whole(chain: Sequence[Tree]) -> dict[str, np.ndarray] | None:
    """The rows that the last state of the chain has, by slot; None where there are none."""
    held = chain[-1]["held"]
    found: dict[str, np.ndarray] = {}
    for state in chain:
        if not state["held"]:
            continue
        for name in ("x", "y", "number", "priority", "logits"):
            if name not in state:
                continue
            new = state[name]
            column = found.get(name)
            if column is None or column.shape[1:] != new.shape[1:]:  # logits grow wider
                wider = np.zeros((held, *new.shape[1:]), new.dtype)
                if name == "logits":
                    wider[:] = np.nan
                    if column is not None:
                        wider[:, : column.shape[1]] = column
                found[name] = column = wider
            column[state["slots"]] = new
    return found or None
