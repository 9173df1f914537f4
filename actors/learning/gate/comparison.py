"""All that is known of one version beside another, and the first row at which it calls for a decision."""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import exp, log

import numpy as np

from actors.learning.gate.config import GateConfig
from actors.learning.gate.e_detector import EDetector
from actors.learning.gate.e_process import EProcess
from actors.learning.gate.measurements import Measurements
from actors.learning.gate.rows import PairedRows
from actors.learning.gate.run_length import RunLength
from actors.learning.gate.slices import SliceHarm
from actors.learning.part import Tree

_NOTICEABLE_MS = 1.0  # what is less is noise, and nobody's matter
_LARGEST_LOG = 700.0  # whose exponential is still a number


class Phase(StrEnum):
    EXAMINING = "examining"  # the candidate is the shadow, the incumbent production
    WATCHING = "watching"  # the candidate has become production, the incumbent is what it replaced


class Cause(StrEnum):
    """What a decision is for; of several at one row the first here counts."""

    NON_FINITE = "non_finite"
    CONSTANT_OUTPUT = "constant_output"
    REGRET = "regret"  # errs more than the other: noticed after tens of labels if much more, after thousands if a little
    SLICE = "slice"
    EVIDENCE = "evidence"
    TIME = "time"


_IN_ORDER = list(Cause)


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """A value: rows make another. A row's gain is the incumbent's loss less the candidate's, so what hurts both is none."""

    config: GateConfig
    candidate: int
    incumbent: int
    phase: Phase
    harm: SliceHarm
    measured: Measurements | None = None
    labels: int = 0
    waited_labels: int = 0  # since the last time that a newer version was asked for
    gain_sum: float = 0.0
    benefit: EProcess = field(default_factory=EProcess)
    regret: EDetector = field(default_factory=EDetector)
    output_run: RunLength = field(default_factory=RunLength)
    incumbent_run: RunLength = field(default_factory=RunLength)
    label_run: RunLength = field(default_factory=RunLength)

    @classmethod
    def begun(cls, config: GateConfig, candidate: int, incumbent: int, phase: Phase) -> "Comparison":
        return cls(config, candidate, incumbent, phase, SliceHarm(config.guards))

    def is_of(self, candidate: int, incumbent: int, phase: Phase) -> bool:
        return (self.candidate, self.incumbent, self.phase) == (candidate, incumbent, phase)

    @property
    def patience_labels(self) -> int:
        return self.config.max_wait_labels if self.phase is Phase.EXAMINING else self.config.watch_labels

    @property
    def e_value(self) -> float:
        """Of what the phase waits for: the candidate is better; or, under watch, it is worse."""
        return exp(min((self.benefit if self.phase is Phase.EXAMINING else self.regret).log_e, _LARGEST_LOG))

    @property
    def e_needed(self) -> float:
        return 1.0 / self.config.alpha if self.phase is Phase.EXAMINING else float(self.config.false_alarm_labels)

    @property
    def is_too_slow(self) -> bool:
        factor, measured = self.config.guards.latency_factor, self.measured
        if factor is None or measured is None or measured.production_latency_ms is None or measured.shadow_latency_ms is None:
            return False
        slower_ms = measured.shadow_latency_ms - measured.production_latency_ms
        return slower_ms > _NOTICEABLE_MS and measured.shadow_latency_ms > factor * measured.production_latency_ms

    @property
    def has_forgotten(self) -> bool:
        limit, measured = self.config.guards.forgetting, self.measured
        return limit is not None and measured is not None and measured.forgetting is not None and measured.forgetting > limit

    def after(self, rows: PairedRows) -> tuple["Comparison", tuple[int, Cause] | None]:
        """With rows whose `one` is the candidate: the first that calls for a decision, if any, and for what."""
        config, constant = self.config, self.config.guards.constant_rows
        count_N = np.arange(1, len(rows) + 1)
        gain_N = rows.other.charged_loss_N - rows.one.charged_loss_N
        benefit, log_benefit_N = self.benefit.after(gain_N)
        regret, log_regret_N = self.regret.after(-gain_N)
        output_run, output_N = self.output_run.after(rows.one.output_N)
        incumbent_run, incumbent_N = self.incumbent_run.after(rows.other.output_N)
        label_run, label_N = self.label_run.after(rows.label_N)
        calls = {
            Cause.NON_FINITE: rows.one.is_missing_N,
            Cause.CONSTANT_OUTPUT: (output_N >= constant) & (incumbent_N < constant) & (label_N < constant),
            Cause.REGRET: log_regret_N >= log(config.false_alarm_labels),
            Cause.TIME: self.waited_labels + count_N >= self.patience_labels,
        }
        harm = self.harm
        if self.phase is Phase.EXAMINING:
            harm, log_harm_N = self.harm.after(rows.slice_N, gain_N)
            calls[Cause.SLICE] = log_harm_N >= harm.log_limit
            is_enough_N = (log_benefit_N >= -log(config.alpha)) & (self.labels + count_N >= config.min_labels)
            calls[Cause.EVIDENCE] = is_enough_N & (not (self.is_too_slow or self.has_forgotten))
        after = replace(
            self,
            harm=harm,
            labels=self.labels + len(rows),
            waited_labels=self.waited_labels + len(rows),
            gain_sum=float(np.add.accumulate(np.append(self.gain_sum, gain_N))[-1]),
            benefit=benefit,
            regret=regret,
            output_run=output_run,
            incumbent_run=incumbent_run,
            label_run=label_run,
        )
        found = [(int(call_N.argmax()), _IN_ORDER.index(cause)) for cause, call_N in calls.items() if call_N.any()]
        first = min(found, default=None)
        return after, first and (first[0], _IN_ORDER[first[1]])

    def to_state(self) -> Tree:
        return {
            "candidate": self.candidate,
            "incumbent": self.incumbent,
            "phase": str(self.phase),
            "harm": self.harm.to_state(),
            "measured": self.measured and self.measured.to_state(),
            "labels": self.labels,
            "waited_labels": self.waited_labels,
            "gain_sum": self.gain_sum,
            "benefit": self.benefit.to_state(),
            "regret": self.regret.to_state(),
            "runs": [run.to_state() for run in (self.output_run, self.incumbent_run, self.label_run)],
        }

    @classmethod
    def from_state(cls, config: GateConfig, state: Tree) -> "Comparison":
        return cls(
            config,
            state["candidate"],
            state["incumbent"],
            Phase(state["phase"]),
            SliceHarm.from_state(config.guards, state["harm"]),
            state["measured"] and Measurements.from_state(state["measured"]),
            state["labels"],
            state["waited_labels"],
            state["gain_sum"],
            EProcess.from_state(state["benefit"]),
            EDetector.from_state(state["regret"]),
            *(RunLength.from_state(run) for run in state["runs"]),
        )
