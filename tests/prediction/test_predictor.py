"""The predictor against nnU-Net's own, and its posterior against the members' computed one by one."""

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch._dynamo import OptimizedModule
from trained_model import write_model

from missu_nnunet.prediction.model import load_model
from missu_nnunet.prediction.predictor import ObservedPredictor, entropy
from missu_nnunet.prediction.windows import SLICES

SHAPE = (1, 20, 24, 20)


def observed(
    model: Path, on_window: Callable[[float], None] = lambda share: None, **settings: object
) -> ObservedPredictor:
    defaults = {
        "folds": ("0", "1"),
        "checkpoint": "checkpoint_final.pth",
        "device": "cpu",
        "engine": "pytorch",
        "tta": True,
        "step": 0.5,
    }
    return load_model(model, **(defaults | {"uncertainty": True} | settings), on_window=on_window)


def stock(model: Path, folds: Sequence[str], **settings: object) -> nnUNetPredictor:
    """nnU-Net's own predictor."""
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False, **settings)
    predictor.initialize_from_trained_model_folder(str(model), folds)
    return predictor


def kept_grid(data: torch.Tensor) -> dict[str, tuple[int, ...]]:
    """Properties of a case that is not resampled."""
    return {"shape_after_cropping_and_before_resampling": tuple(data.shape[1:])}


@pytest.fixture
def data() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=SHAPE).astype(np.float32))


@pytest.mark.parametrize(
    ("tta", "step", "folds"), [(True, 0.5, ("0", "1")), (False, 0.5, ("0", "1")), (True, 1.0, ("1",))]
)
def test_logits_are_nnunets_to_the_last_bit(
    model: Path, data: torch.Tensor, tta: bool, step: float, folds: tuple[str, ...]
) -> None:
    expected = stock(model, folds, tile_step_size=step, use_mirroring=tta).predict_logits_from_preprocessed_data(data)
    predictor = observed(model, tta=tta, step=step, folds=folds)
    assert predictor.allowed_mirroring_axes
    assert torch.equal(predictor.predict_logits_from_preprocessed_data(data), expected)
    predictor = observed(model, tta=tta, step=step, folds=folds, uncertainty=False)
    slabs = [slab.clone() for slab in predictor.predict_slabs(data, kept_grid(data))]
    assert len(slabs) > 1
    assert torch.equal(torch.cat(slabs, dim=1), expected)


@pytest.mark.parametrize("shape", [(1, 12, 40, 12), (1, 33, 10, 20)])
def test_padded_images_are_predicted_in_slabs_too(model: Path, shape: tuple[int, ...]) -> None:
    data = torch.randn(shape, generator=torch.manual_seed(0))
    predictor = observed(model, tta=False, folds=("0",), uncertainty=False)
    expected = predictor.predict_logits_from_preprocessed_data(data)
    slabs = [slab.clone() for slab in predictor.predict_slabs(data, kept_grid(data))]
    assert torch.equal(torch.cat(slabs, dim=1), expected)


@pytest.mark.parametrize("folds", [("0",), ("0", "1")])
def test_slices_of_a_2d_configuration_come_in_slabs(tiny_dataset: str, folds: tuple[str, ...]) -> None:
    model = write_model(tiny_dataset, configuration="2d")
    data = torch.randn((1, 2 * SLICES + 3, 40, 20), generator=torch.manual_seed(1))
    expected = stock(model, folds).predict_logits_from_preprocessed_data(data)
    predictor = observed(model, folds=folds, uncertainty=False)
    slabs = [slab.clone() for slab in predictor.predict_slabs(data, kept_grid(data))]
    assert [slab.shape[1] for slab in slabs] == [SLICES, SLICES, 3]
    assert torch.equal(torch.cat(slabs, dim=1), expected)


def test_what_is_resampled_or_unsure_is_one_slab(model: Path, data: torch.Tensor) -> None:
    grid = kept_grid(data)
    for uncertainty, properties in ((True, grid), (False, {key: (40, 40, 40) for key in grid})):
        (slab,) = observed(model, uncertainty=uncertainty, tta=False).predict_slabs(data, properties)
        assert slab.shape[1:] == data.shape[1:]


def test_a_compiled_network_is_loaded(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_compile", "1")
    assert isinstance(observed(model).network, OptimizedModule)


def test_posterior_is_the_mean_over_folds_and_mirrorings(model: Path) -> None:
    """On a single window, where the members can be computed by hand."""
    data = torch.from_numpy(np.random.default_rng(1).normal(size=(1, 16, 32, 16)).astype(np.float32))
    predictor = observed(model)
    predictor.predict_logits_from_preprocessed_data(data)
    members = []
    for weights in predictor.list_of_parameters:
        predictor.network.load_state_dict(weights)
        for flips in product((False, True), repeat=3):
            axes = [axis + 2 for axis, flip in enumerate(flips) if flip]
            with torch.no_grad():
                logits = torch.flip(predictor.network(torch.flip(data[None], axes)), axes)
            members.append(torch.softmax(logits[0], dim=0))
    assert len(members) == 16
    mean = torch.stack(members).mean(dim=0).numpy().astype(float)
    expected = -(mean * np.log(mean)).sum(axis=0) / np.log(3)
    properties = {
        "spacing": [1.0, 1.0, 1.0],
        "shape_after_cropping_and_before_resampling": (16, 32, 16),
        "shape_before_cropping": (18, 32, 20),
        "bbox_used_for_cropping": [[1, 17], [0, 32], [2, 18]],
    }
    found = entropy(predictor.posterior(properties), regions=False)
    assert found.shape == (18, 32, 20)
    np.testing.assert_allclose(found[1:17, :, 2:18], expected, atol=2e-3)
    assert not found[0].any()
    assert not found[:, :, :2].any()


def test_entropy_of_even_and_of_sure_posteriors() -> None:
    posterior = np.zeros((3, 4, 4, 4), np.float32)
    posterior[0] = 1
    posterior[:, 0] = 1 / 3
    found = entropy(posterior, regions=False)
    np.testing.assert_allclose(found[0], 1, atol=1e-6)
    np.testing.assert_allclose(found[1:], 0, atol=1e-6)
    posterior[:, 0] = 1 / 2
    found = entropy(posterior, regions=True)
    np.testing.assert_allclose(found[0], 1, atol=1e-6)
    np.testing.assert_allclose(found[1:], 0, atol=1e-6)


@pytest.mark.parametrize("uncertainty", [True, False])
def test_progress_goes_up_to_one(model: Path, data: torch.Tensor, uncertainty: bool) -> None:
    shares: list[float] = []
    predictor = observed(model, shares.append, uncertainty=uncertainty, tta=False)
    for _ in range(2):
        shares.clear()
        predictor.predict_logits_from_preprocessed_data(data)
        assert shares == sorted(shares)
        assert shares[-1] == 1
        assert len(shares) > 4


def test_a_fold_begun_anew_does_not_count_twice(model: Path, data: torch.Tensor) -> None:
    """As nnU-Net does when the device's memory does not suffice."""
    shares: list[float] = []
    predictor = observed(model, shares.append, tta=False, folds=("0",))
    predictor.predict_logits_from_preprocessed_data(data)
    entropy_sum = predictor._posterior_of_folds.clone()
    original, calls = ObservedPredictor._internal_maybe_mirror_and_predict, []

    def fail_once(self: ObservedPredictor, x: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        if len(calls) == 3:
            raise RuntimeError("out of memory")
        return original(self, x)

    predictor.perform_everything_on_device = True  # what makes nnU-Net try again
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ObservedPredictor, "_internal_maybe_mirror_and_predict", fail_once)
        predictor.predict_logits_from_preprocessed_data(data)
    assert shares[-1] == 1
    torch.testing.assert_close(predictor._posterior_of_folds, entropy_sum)
