"""What a model's files must hold before it predicts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from missu_nnunet.errors import InputError
from missu_nnunet.prediction.model import load_model

CHECKPOINT = "checkpoint_final.pth"


@pytest.fixture
def copied(model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model, tmp_path / model.name, ignore=shutil.ignore_patterns("fold_1")))


def load(folder: Path) -> None:
    load_model(
        *(folder,),
        **{"folds": ("0",), "checkpoint": CHECKPOINT, "device": "cpu", "engine": "pytorch"},
        **{"tta": True, "step": 0.5, "uncertainty": False, "on_window": lambda share: None},
    )


def of_configuration(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], object]:
    return lambda plans: change(plans["configurations"]["3d_fullres"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda plans: plans.update(transpose_backward=-1), "transpose_backward: found -1, expected a list"),
        (lambda plans: plans.update(transpose_backward=[0, 0, 2]), r"found transpose_backward \[0, 0, 2\], expected"),
        (lambda plans: plans.update(transpose_backward=[1, 2, 0]), r"found transpose_backward \[1, 2, 0\], expected"),
        (lambda plans: plans.pop("transpose_forward"), "KeyError: 'transpose_forward'"),
        (lambda plans: plans.update(image_reader_writer=[]), "is not as nnU-Net writes it"),
        (of_configuration(lambda it: it.pop("resampling_fn_probabilities")), "KeyError: 'resampling_fn_probabilities'"),
        (of_configuration(lambda it: it.update(resampling_fn_probabilities_kwargs=None)), "found None, expected an ob"),
        (of_configuration(lambda it: it["resampling_fn_probabilities_kwargs"].update(order="x")), "is not as nnU-Net"),
        (
            of_configuration(lambda it: it["architecture"]["arch_kwargs"].update(norm_op_kwargs={"eps": "x"})),
            "norm_op_kwargs.eps: found 'x'",
        ),
    ],
)
def test_a_plan_that_would_fail_with_the_first_case_is_refused(
    copied: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    plans = json.loads((copied / "plans.json").read_text())
    change(plans)
    (copied / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(InputError, match=rf"plans\.json: .*{message}"):
        load(copied)


@pytest.mark.parametrize("axes", ["x", 5, {}, (), (0, 0), (7,), (True,)])
def test_axes_that_cannot_be_mirrored_are_refused(copied: Path, axes: object) -> None:
    file = copied / "fold_0" / CHECKPOINT
    checkpoint = torch.load(file, weights_only=False)
    torch.save(checkpoint | {"inference_allowed_mirroring_axes": axes}, file)
    with pytest.raises(InputError, match=r"inference_allowed_mirroring_axes is .*, expected None or some of \[0, 1, 2"):
        load(copied)
