"""Which devices trainings get; ``tests/integration/test_crossval.py`` runs trainings."""

import pytest
import torch

from missu_nnunet.errors import InputError
from missu_nnunet.experiments.launchers.local import device_groups


@pytest.mark.parametrize(
    ("count", "visible", "gpus", "groups"),
    [
        (0, None, None, [()]),
        (4, None, 0, [()]),
        (4, None, None, [("0",), ("1",), ("2",), ("3",)]),
        (4, None, 2, [("0", "1"), ("2", "3")]),
        (5, None, 2, [("0", "1"), ("2", "3")]),
        (2, "GPU-a,3", 1, [("GPU-a",), ("3",)]),
    ],
)
def test_groups_of_gpus(
    monkeypatch: pytest.MonkeyPatch, count: int, visible: str | None, gpus: int | None, groups: list[tuple[str, ...]]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert device_groups(gpus) == groups


def test_too_few_gpus_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="1 GPUs are here"):
        device_groups(2)
