"""What honest promotion costs and saves: the gate beside a z-test that peeks and one that waits, on simulated labels.

    .venv/bin/python benchmarks/gate.py [--runs 2000] [--labels 20000] [--seed 1]

Two versions answer the same rows; where they disagree one of them is right. The gate looks after every label, the peeking
z-test (one-sided, 5 %) after every 100, the fixed-n one only at the end of 5,000. Prints one line per setting: the share of
runs that promote (or roll back) and the median labels until then.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from actors.learning.gate.config import GateConfig
from actors.learning.gate.gate import Decision, Gate, Verdict
from actors.learning.gate.losses import zero_one_loss
from actors.learning.gate.rows import PairedRows, VersionScores

PRODUCTION, SHADOW = 1, 2
MESSAGE_ROWS, FIXED_LABELS, PEEK_LABELS, BOTH_WRONG = 1_000, 5_000, 100, 0.1


def answers(rng: np.random.Generator, rows: int, disagreement: float, better: float) -> tuple[np.ndarray, ...]:
    """Labels of two classes, and the codes that production and a shadow answer whose accuracy is higher by `better`."""
    label_N = rng.integers(0, 2, rows)
    even_N = rng.random(rows)
    disagrees_N, shadow_is_right_N = even_N < disagreement, even_N < (disagreement + better) / 2
    both_wrong_N = ~disagrees_N & (rng.random(rows) < BOTH_WRONG)
    production_N = label_N ^ (both_wrong_N | (disagrees_N & shadow_is_right_N))
    return label_N, production_N, label_N ^ (both_wrong_N | (disagrees_N & ~shadow_is_right_N))


def messages(rng: np.random.Generator, label_N: np.ndarray, *code_N: np.ndarray) -> Iterator[PairedRows]:
    for start in range(0, len(label_N), MESSAGE_ROWS):
        at = slice(start, start + MESSAGE_ROWS)
        scores = [
            VersionScores(version, zero_one_loss(label_N[at], each_N[at]), rng.random(len(label_N[at])))
            for version, each_N in zip((PRODUCTION, SHADOW), code_N, strict=True)
        ]
        yield PairedRows(start, label_N[at], label_N[at], *scores)


def first_decision(gate: Gate, rows: Iterator[PairedRows]) -> Decision | None:
    """The first that moves an alias."""
    for message in rows:
        for decision in gate.observe(message):
            if decision.verdict is not Verdict.REPIN:
                return decision
    return None


def z_scores(gain_N: np.ndarray) -> np.ndarray:
    """At every `PEEK_LABELS` labels."""
    count_N = np.arange(1, len(gain_N) + 1)[PEEK_LABELS - 1 :: PEEK_LABELS]
    mean_N = np.cumsum(gain_N)[PEEK_LABELS - 1 :: PEEK_LABELS] / count_N
    variance_N = np.cumsum(gain_N**2)[PEEK_LABELS - 1 :: PEEK_LABELS] / count_N - mean_N**2
    return mean_N / np.sqrt(np.maximum(variance_N, 1e-12) / count_N)


def cell(labels: list[int], runs: int) -> str:
    return f"{100 * len(labels) / runs:6.1f} % {np.median(labels) if labels else np.nan:8,.0f}"


def promotions(rng: np.random.Generator, runs: int, labels: int, disagreement: float, better: float) -> str:
    gate_labels, rejected, peeking, fixed = [], [], [], []
    for _ in range(runs):
        gate = Gate(GateConfig(max_wait_labels=labels))
        gate.examine(PRODUCTION, SHADOW)
        label_N, production_N, shadow_N = answers(rng, labels, disagreement, better)
        decision = first_decision(gate, messages(rng, label_N, production_N, shadow_N))
        if decision:
            (gate_labels if decision.verdict is Verdict.PROMOTE else rejected).append(decision.labels)
        gain_N = zero_one_loss(label_N, production_N) - zero_one_loss(label_N, shadow_N)
        is_above_N = z_scores(gain_N) > 1.645
        peeking += [PEEK_LABELS * (1 + int(is_above_N.argmax()))] if is_above_N.any() else []
        fixed += [FIXED_LABELS] if is_above_N[FIXED_LABELS // PEEK_LABELS - 1] else []
    return "  ".join(f"{cell(each, runs):>18}" for each in (gate_labels, rejected, peeking, fixed))


def rollbacks(rng: np.random.Generator, runs: int, labels: int, disagreement: float, worse: float) -> tuple[str, float]:
    """The line, and the labels watched per alarm."""
    found, watched = [], 0
    for _ in range(runs):
        gate = Gate(GateConfig(watch_labels=labels))
        gate.watch(SHADOW, PRODUCTION)
        decision = first_decision(gate, messages(rng, *answers(rng, labels, disagreement, -worse)))
        found += [decision.labels] if decision else []
        watched += decision.labels if decision else labels
    return f"{cell(found, runs):>18}", watched / max(1, len(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2_000)
    parser.add_argument("--labels", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng, runs, labels = np.random.default_rng(options.seed), options.runs, options.labels
    print(f"Examination: {runs} runs without a difference, {max(1, runs // 4)} with one, of up to {labels:,} labels each")
    print(
        f"{'disagree':>8}  {'shadow':>13}  {'gate promotes':>18}  {'gate rejects':>18}  {'peeking z-test':>18}  {'fixed-n':>18}"
    )
    for disagreement in (0.01, 0.06, 0.2):
        for better in (0.0, -0.005, 0.005, 0.01, 0.02, 0.05):
            if abs(better) <= disagreement:
                line = promotions(rng, runs if better == 0.0 else max(1, runs // 4), labels, disagreement, better)
                print(f"{100 * disagreement:6.0f} %  {100 * better:+7.1f} points  {line}", flush=True)
    config = GateConfig()
    print(f"\nWatch: {runs} runs and {max(1, runs // 2)}; a false alarm in {config.false_alarm_labels:,} labels is allowed")
    for worse in (0.0, 0.01, 0.02, 0.05, 0.2, 0.5):
        horizon = config.watch_labels if worse == 0.0 else labels
        line, between = rollbacks(rng, runs if worse == 0.0 else max(1, runs // 2), horizon, max(0.06, 1.2 * worse), worse)
        note = f"  within {horizon:,} labels: {between:,.0f} labels watched per false alarm" if worse == 0.0 else ""
        print(f"{100 * worse:7.1f} points worse  {line}{note}", flush=True)


if __name__ == "__main__":
    main()
