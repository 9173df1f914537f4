"""How the learner shards work."""

from typing import Literal

from pydantic import model_validator

from actors.learning.optimizers import OptimizerConfig
from actors.learning.regularizers.config import RegularizationConfig, RegularizerKind
from actors.learning.section import Section, setting

_ENSEMBLE_ROUND_ROWS = 256


class LearnerResources(Section):
    cpus: float = setting(1.0, "CPUs that Ray reserves for each shard.", unit="CPUs", ge=0)
    gpus: float = setting(
        0.0, "GPUs that Ray reserves for each shard; above 0 it learns on CUDA: good for wide networks.", unit="GPUs", ge=0
    )


class LearnersConfig(Section):
    shards: int = setting(2, "Learner shards that work in parallel.", ge=1, le=1024)
    micro_batch_rows: int = setting(32, "Rows that are predicted, then learned in one step.", unit="rows", ge=1)
    round_rows: int | Literal["auto"] = setting(
        "auto",
        "Rows of each shard between two versions: small is fresh, large is fast; auto: micro_batch_rows² / 8, at least 256; "
        "for an ensemble 256 of all shards together.",
        unit="rows",
    )
    round_wait_s: float = setting(
        0.25, "How long a round of a live stream waits to fill up before it goes with what has come.", unit="seconds", gt=0
    )
    round_timeout_s: float = setting(
        60.0,
        "Deadline of a round: a shard that has not answered is left out and its rows are learned later.",
        unit="seconds",
        gt=0,
    )
    epochs: int = setting(
        1,
        "How often the rows of a round are learned, replayed ones beside them; only before the first time are they predicted.",
        ge=1,
        le=100,
    )
    optimizer: OptimizerConfig = setting(OptimizerConfig, "How a step changes the weights.")
    regularizer: RegularizerKind = setting(
        "none",
        "What keeps learning from undoing what was learned: weights that mattered are held (`ewc`), an older version teaches "
        "(`lwf`), or remembered rows keep what the model said of them (`der`, with replay); `none`.",
    )
    regularization: RegularizationConfig = setting(RegularizationConfig, "How strong each regularizer is.")
    resources: LearnerResources = setting(LearnerResources, "What Ray reserves for each shard.")

    @model_validator(mode="after")
    def _round_rows_is_positive(self) -> "LearnersConfig":
        if self.round_rows != "auto" and self.round_rows < 1:
            raise ValueError(f"learners.round_rows is {self.round_rows}: give at least 1 row, or auto")
        return self

    def for_model(self, kind: str) -> "LearnersConfig":
        """With `auto` settled for this kind of model."""
        # The networks of an ensemble stand still within a round, so that it should be as short however many shards there are.
        if self.round_rows != "auto" or kind != "ensemble":
            return self
        return self.model_copy(update={"round_rows": max(self.micro_batch_rows, _ENSEMBLE_ROUND_ROWS // self.shards)})

    @property
    def rows_per_round(self) -> int:
        """Rows of one shard in one round."""
        # The larger the step the faster the rows go by, and the larger the round has to be for its fixed cost to stay small.
        return max(256, self.micro_batch_rows**2 // 8) if self.round_rows == "auto" else self.round_rows
