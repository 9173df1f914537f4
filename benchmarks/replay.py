"""What a replay memory of ten million rows costs more than one of ten thousand, per call.

    .venv/bin/python benchmarks/replay.py [--rows 256] [--features 10] [--small 10000] [--large 10000000] [--calls 2000]

For each strategy two memories that are full, and as if a hundred times their capacity had been offered to them; the calls on
them take turns, so that they meet the same machine. `add`: so many rows are offered; `sample`: so many are drawn; `hear`: their
losses come back, which only `prioritized` uses. Medians in microseconds.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from actors.learning.replay import ReplayMemory

_FILL_ROWS, _OFFERED, _CLASSES = 500_000, 100, 10


def full(strategy: str, capacity: int, features: int) -> ReplayMemory:
    memory = ReplayMemory(strategy, capacity, 10**11, np.random.default_rng(0))
    rng, rows = np.random.default_rng(1), min(capacity, _FILL_ROWS)
    for _ in range(0, capacity, rows):
        memory.add(rng.normal(size=(rows, features)).astype(np.float32), np.arange(rows) % _CLASSES)
    state = memory.to_state(whole=True)
    for key in ("seen", "seen_by_class"):
        if key in state["placement"]:
            state["placement"][key] = state["placement"][key] * _OFFERED
    aged = ReplayMemory(strategy, capacity, 10**11, np.random.default_rng(0))
    aged.restore([[state]])
    return aged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--features", type=int, default=10)
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=10_000_000)
    parser.add_argument("--calls", type=int, default=2000)
    options = parser.parse_args()
    rng = np.random.default_rng(2)
    x_ND, y_N = rng.normal(size=(options.rows, options.features)).astype(np.float32), np.arange(options.rows) % _CLASSES
    print(f"{'':15}{'add':>16}{'sample':>16}{'hear':>16}{'all':>16}   ratio")
    for strategy in ("fifo", "reservoir", "class_balanced", "prioritized"):
        memories = [full(strategy, capacity, options.features) for capacity in (options.small, options.large)]
        took = np.zeros((options.calls, len(memories), 3))
        for call in range(options.calls):
            for at, memory in enumerate(memories):
                started = time.perf_counter()
                memory.add(x_ND, y_N)
                added = time.perf_counter()
                drawn = memory.sample(options.rows)
                sampled = time.perf_counter()
                if drawn.slot_N is not None:
                    memory.hear_losses(drawn.slot_N, drawn.number_N, x_ND[:, 0] ** 2)
                took[call, at] = added - started, sampled - added, time.perf_counter() - sampled
                if call % 500 == 499:
                    memory.to_state(whole=False)  # as a durable version asks for it
        parts = 1e6 * np.median(took, axis=0)
        small, large = 1e6 * np.median(took.sum(axis=2), axis=0)
        shown = "".join(f"{f'{a:.0f} / {b:.0f}':>16}" for a, b in (*parts.T, (small, large)))
        print(f"{strategy:15}{shown}   {large / small:.2f}", flush=True)


if __name__ == "__main__":
    main()
