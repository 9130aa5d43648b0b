"""OpenVINO in the place of PyTorch: the same logits through nnU-Net's own sliding window."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from random_plans import plain_arch_kwargs
from trained_model import write_model

from missu_nnunet.architecture.configuration import missu_arch_kwargs
from missu_nnunet.architecture.missu import MISSU
from missu_nnunet.errors import InputError
from missu_nnunet.prediction.model import load_model
from missu_nnunet.prediction.predictor import entropy

openvino = pytest.importorskip("missu_nnunet.prediction.engines.openvino", exc_type=ImportError)

STRIDES = {2: [[1, 1], [2, 2], [2, 2]], 3: [[1, 1, 1], [2, 2, 2], [1, 2, 2]]}


def missu(dim: int) -> torch.nn.Module:
    return MISSU(2, num_classes=3, **missu_arch_kwargs(plain_arch_kwargs(STRIDES[dim]), (16,) * dim))


def unet(dim: int) -> torch.nn.Module:
    return PlainConvUNet(2, num_classes=3, **plain_arch_kwargs(STRIDES[dim]))


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("build", [missu, unet])
def test_every_fold_keeps_its_own_weights(build: Callable[[int], torch.nn.Module], dim: int) -> None:
    network, shape = build(dim).eval(), (1, 2, *(16,) * dim)
    folds = [build(dim).state_dict() for _ in range(2)]
    compiled = openvino.OpenVINONetwork(network, shape, threads=1)
    x = torch.randn(shape)
    for fold in (0, 1, 0):
        compiled.load_state_dict(folds[fold])
        first, mirrored = compiled(x), compiled(x.flip(2))
        with torch.no_grad():
            assert torch.allclose(first, network(x), atol=1e-4)
            assert torch.allclose(mirrored, network(x.flip(2)), atol=1e-4)


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_folds_and_mirroring_give_pytorchs_logits_and_posterior(tiny_dataset: str, configuration: str) -> None:
    model = write_model(tiny_dataset, configuration=configuration)
    data = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 20, 24, 20)).astype(np.float32))
    logits, entropies = [], []
    for engine in ("pytorch", "openvino"):
        predictor = load_model(
            model, folds=("0", "1"), checkpoint="checkpoint_final.pth", device="cpu", engine=engine, tta=True, step=0.5,
            uncertainty=True, on_window=lambda share: None,
        )  # fmt: skip
        assert predictor.allowed_mirroring_axes
        logits.append(predictor.predict_logits_from_preprocessed_data(data))
        box = [[0, size] for size in data.shape[1:]]
        properties = {"spacing": [1.0] * 3, "bbox_used_for_cropping": box}
        shapes = ("shape_before_cropping", "shape_after_cropping_and_before_resampling")
        posterior = predictor.posterior(properties | dict.fromkeys(shapes, data.shape[1:]))
        entropies.append(entropy(posterior, regions=False))
    pytorch, compiled = logits
    assert pytorch.std() > 0.01
    # nnU-Net adds windows up in half precision, whose steps are coarse for the tiny weights of a window's corners.
    difference = (pytorch - compiled).abs().float()
    assert difference.max() < 1e-2 * pytorch.abs().max()
    assert difference.mean() < 1e-4 * pytorch.abs().max()
    np.testing.assert_allclose(*entropies, atol=1e-3)


def test_bfloat16_is_refused_where_the_cpu_has_none() -> None:
    core = openvino.openvino.Core()
    if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has it")
    with pytest.raises(InputError, match="does not compute in bfloat16"):
        openvino.OpenVINONetwork(unet(3), (1, 2, 16, 16, 16), threads=1, bfloat16=True)


def test_a_prediction_reports_nothing_over_the_network(tmp_path: Path) -> None:
    """OpenVINO's telemetry leaves a client's number in the home folder before it sends anything."""
    subprocess.run(
        [sys.executable, "-c", "import missu_nnunet.prediction.engines.openvino"],
        check=True,
        env={name: value for name, value in os.environ.items() if name != "CI"} | {"HOME": str(tmp_path)},
    )
    assert not list(tmp_path.rglob("openvino*"))
