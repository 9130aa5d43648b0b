"""Calibration of voxels that are drawn from the model's own probabilities, so that the truth is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax

from missu_nnunet.evaluation.calibration import fit_temperature, negative_log_likelihood, reliability

VOXELS = 20_000


def drawn(temperature: float, regions: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a model whose true temperature is known: the targets are drawn from the logits divided by it."""
    random = np.random.default_rng(0)
    logits = random.normal(scale=3, size=(VOXELS, 3)).astype(np.float32)
    if regions:
        return logits, (random.random(logits.shape) < expit(logits / temperature)).astype(np.uint8)
    cumulated = softmax(logits / temperature, axis=1).cumsum(axis=1)
    return logits, (random.random((VOXELS, 1)) > cumulated).sum(axis=1)


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_true_temperature_is_found_and_calibrates(temperature: float, regions: bool) -> None:
    logits, targets = drawn(temperature, regions)
    found = fit_temperature(logits, targets)
    assert found == pytest.approx(temperature, rel=0.05)
    assert reliability(logits, targets, found).expected_calibration_error < 0.01
    if temperature != 1:
        assert reliability(logits, targets, 1).expected_calibration_error > 0.03


def test_the_likelihood_is_highest_there() -> None:
    logits, targets = drawn(2.5)
    tried = np.geomspace(0.5, 10, 200)
    best = tried[np.argmin([negative_log_likelihood(logits, targets, temperature) for temperature in tried])]
    assert fit_temperature(logits, targets) == pytest.approx(best, rel=0.02)


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_bins_are_of_all_voxels(seed: int, regions: bool) -> None:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(50, 4)).astype(np.float32)
    targets = random.integers(0, 2, (50, 4)) if regions else random.integers(0, 4, 50)
    found = reliability(logits, targets, 1)
    assert found.share.sum() == pytest.approx(1)
    filled = found.share > 0
    assert np.isnan(found.accuracy[~filled]).all()
    lowest = 0.5 if regions else 0.25
    assert (found.confidence[filled] >= lowest - 1e-6).all()
    if not regions:
        right = (logits.argmax(axis=1) == targets).mean()
        assert (found.accuracy * found.share)[filled].sum() == pytest.approx(right)


def test_error_by_hand() -> None:
    """Of four voxels that are 0.8 sure one is wrong: they are too sure by 0.05."""
    logits = np.log(np.array([[0.8, 0.2]] * 4, np.float32))
    found = reliability(logits, np.array([0, 0, 0, 1]), 1)
    assert found.expected_calibration_error == pytest.approx(0.05, abs=1e-6)
