"""Calibration: whether a model that says 0.8 is right in 8 of 10 voxels, and one number that makes it so.

Temperature scaling and the expected calibration error follow Guo et al. 2017 (arXiv:1706.04599).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit, log_softmax, softmax

BINS = 15
"""Number of bins of equal width for the confidence from 0 to 1, as in Guo et al."""

_LOG_TEMPERATURES = (-4.0, 4.0)
"""The range of temperatures that is searched: 0.018 to 55."""


@dataclass(frozen=True)
class Reliability:
    """How often the model is right, by how sure it is; bins without a voxel are NaN.

    Attributes:
        confidence: mean probability of the predicted class in each bin.
        accuracy: share of voxels in each bin that have this class.
        share: share of all voxels.
    """

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    share: NDArray[np.float64]

    @property
    def expected_calibration_error(self) -> float:
        """The mean distance between confidence and accuracy, over voxels."""
        return float(np.nansum(self.share * np.abs(self.confidence - self.accuracy)))


def negative_log_likelihood(logits: NDArray[np.float32], targets: NDArray[np.integer], temperature: float) -> float:
    """Compute the mean negative log-likelihood over voxels and, where there are some, regions.

    Args:
        logits: ``(N, C)``, for N voxels.
        targets: the class of each voxel ``(N,)``; for regions ``(N, C)``, 1 where a voxel belongs to the region.
        temperature: number by which the logits are divided.
    """
    scaled = logits / np.float32(temperature)
    if targets.ndim == 1:
        chosen = np.take_along_axis(log_softmax(scaled, axis=1), targets[:, None], axis=1)
        return float(-chosen.mean(dtype=np.float64))
    return float(-log_expit(np.where(targets, scaled, -scaled)).mean(dtype=np.float64))


def fit_temperature(logits: NDArray[np.float32], targets: NDArray[np.integer]) -> float:
    """Find the temperature with the highest likelihood; it is above 1 where the model is too sure.

    Args:
        logits: logits, as for ``negative_log_likelihood``.
        targets: targets, as for ``negative_log_likelihood``.
    """
    # In the logarithm, so that halving and doubling weigh the same; the likelihood has one optimum.
    found = minimize_scalar(
        lambda log_temperature: negative_log_likelihood(logits, targets, float(np.exp(log_temperature))),
        bounds=_LOG_TEMPERATURES,
        method="bounded",
        options={"xatol": 1e-3},
    )
    return float(np.exp(found.x))


def reliability(logits: NDArray[np.float32], targets: NDArray[np.integer], temperature: float) -> Reliability:
    """Compute confidence and accuracy by bins of the confidence; regions count as decisions of their own.

    Args:
        logits: logits, as for ``negative_log_likelihood``.
        targets: targets, as for ``negative_log_likelihood``.
        temperature: number by which the logits are divided.
    """
    scaled = logits / np.float32(temperature)
    if targets.ndim == 1:
        probabilities = softmax(scaled, axis=1)
        confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == targets
    else:
        probabilities = expit(scaled)
        confidence = np.maximum(probabilities, 1 - probabilities).ravel()
        correct = ((probabilities > 0.5) == targets.astype(bool)).ravel()
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):
        return Reliability(
            np.bincount(bins, weights=confidence, minlength=BINS) / count,
            np.bincount(bins, weights=correct, minlength=BINS) / count,
            count / count.sum(),
        )
