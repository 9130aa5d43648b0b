"""What a watched training writes, and that watching changes nothing."""

import json
import os
from pathlib import Path
from typing import Any

import arms
import pytest
import torch
import watched

from missu_nnunet.architecture.transformer import Attention, grid_rotations

ARM = "MISSUTrainerNoDistillation_1epochs_2iters_noTTA"


def trained(trainer_class: type, planned: str) -> Any:
    """The trainer after an epoch."""
    folder = Path(os.environ["nnUNet_preprocessed"]) / planned
    plans = json.loads((folder / "nnUNetMISSUPlansCPU.json").read_text()) | {"continue_training": False}
    dataset_json = json.loads((folder / "dataset.json").read_text())
    trainer = trainer_class(plans, "3d_fullres", 0, dataset_json, torch.device("cpu"))
    trainer.on_train_start()
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    trainer.on_train_epoch_end([trainer.train_step(next(trainer.dataloader_train)) for _ in range(2)])
    return trainer


def test_a_watched_training_is_the_same_and_says_how_it_goes(planned: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISSU_SEED", "3")
    plain, seen = (trained(getattr(*name), planned) for name in ((arms, ARM), (watched, f"Watched_{ARM}")))
    for mine, theirs in zip(plain.network.parameters(), seen.network.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    log = Path(seen.log_file).read_text()
    (line,) = [line for line in log.splitlines() if watched.WATCHED in line]
    values = json.loads(line.split(watched.WATCHED)[1])
    assert values.pop("epoch") == 0
    assert values["worst_loss"] >= values["mean_loss"]
    assert values["largest_gradient_norm"] >= values["median_gradient_norm"] > 0
    everything = torch.cat([parameter.flatten() for parameter in seen.network.parameters()]).norm().item()
    norms = values["transformer_weight_norm"], values["other_weight_norm"]
    assert sum(norm**2 for norm in norms) ** 0.5 == pytest.approx(everything, rel=1e-4)
    assert values["largest_attention_logit"] > 0


def test_the_largest_logit_is_that_of_the_attention() -> None:
    torch.manual_seed(0)
    attention = Attention(32, num_heads=2)
    rotations = grid_rotations((4, 4), 16, torch.device("cpu"))
    x = torch.randn(1, 16, 32)
    largest = watched.largest_logit(attention, x, rotations)
    assert 0 < largest <= 16**0.5, "queries and keys are normalised"
    torch.nn.init.constant_(attention.norm_q.weight, 3.0)
    assert watched.largest_logit(attention, x, rotations) == pytest.approx(3 * largest, rel=1e-5)
