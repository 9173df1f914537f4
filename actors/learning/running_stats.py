"""Mean and variance of every feature, kept exactly and merged exactly.

Chan, Golub and LeVeque (1979), "Updating formulae and a pairwise algorithm for computing sample variances", equations
(1.5a, 1.5b). Shapes: N rows, D features. Missing values (NaN) count for nothing.
"""

from dataclasses import dataclass

import numpy as np

CLIP = 10.0  # deviations


@dataclass(frozen=True, slots=True)
class RunningStats:
    """count_D, mean_D and m2_D (the sum of squared deviations from the mean), float64 each."""

    count_D: np.ndarray
    mean_D: np.ndarray
    m2_D: np.ndarray

    @classmethod
    def empty(cls, width: int) -> "RunningStats":
        return cls(np.zeros(width), np.zeros(width), np.zeros(width))

    def to_state(self) -> dict[str, np.ndarray]:
        return {"count": self.count_D, "mean": self.mean_D, "m2": self.m2_D}

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray]) -> "RunningStats":
        return cls(state["count"], state["mean"], state["m2"])

    @classmethod
    def of(cls, x_ND: np.ndarray) -> "RunningStats":
        """The statistics of a batch, in float64 whatever the batch's type."""
        x_ND = x_ND.astype(np.float64)
        present_ND = ~np.isnan(x_ND)
        if present_ND.all():
            count_D = np.full(x_ND.shape[1], float(len(x_ND)))
            mean_D = x_ND.mean(axis=0) if len(x_ND) else np.zeros(x_ND.shape[1])
            return cls(count_D, mean_D, np.square(x_ND - mean_D).sum(axis=0))
        count_D = present_ND.sum(axis=0).astype(np.float64)
        mean_D = np.where(present_ND, x_ND, 0.0).sum(axis=0) / np.maximum(count_D, 1.0)
        return cls(count_D, mean_D, np.square(np.where(present_ND, x_ND - mean_D, 0.0)).sum(axis=0))

    def merge(self, other: "RunningStats") -> "RunningStats":
        count_D = self.count_D + other.count_D
        share_D = other.count_D / np.maximum(count_D, 1.0)
        delta_D = other.mean_D - self.mean_D
        mean_D = self.mean_D + delta_D * share_D
        return RunningStats(count_D, mean_D, self.m2_D + other.m2_D + np.square(delta_D) * self.count_D * share_D)

    def repeated(self, times: int) -> "RunningStats":
        """The statistics of the same rows seen `times` times."""
        return RunningStats(self.count_D * times, self.mean_D, self.m2_D * times)

    @property
    def scale_D(self) -> np.ndarray:
        """Standard deviation (population), 1 where it is not known or zero."""
        variance_D = self.m2_D / np.maximum(self.count_D, 1.0)
        # A constant column leaves rounding noise in m2; dividing by that would blow the noise up to full scale.
        is_constant_D = variance_D <= 1e-12 * np.square(self.mean_D)
        return np.where(is_constant_D | (variance_D <= 0.0), 1.0, np.sqrt(variance_D))

    def standardise(self, x_ND: np.ndarray, clip: float | np.ndarray = CLIP) -> np.ndarray:
        """float32 [N, D]: centred, scaled and clipped at `clip` deviations; a missing value becomes the mean, 0."""
        z_ND = (x_ND - self.mean_D) / self.scale_D
        np.nan_to_num(z_ND, copy=False, nan=0.0)
        np.clip(z_ND, -np.asarray(clip), clip, out=z_ND)
        return np.asarray(z_ND, dtype=np.float32)
