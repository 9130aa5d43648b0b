import json
import os
from pathlib import Path

import arms
import pytest
import torch


def test_arms_see_the_same_batches_and_do_not_mirror(planned: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(os.environ["nnUNet_preprocessed"]) / planned
    plans = json.loads((folder / "nnUNetMISSUPlansCPU.json").read_text())
    dataset_json = json.loads((folder / "dataset.json").read_text())
    monkeypatch.setenv("MISSU_SEED", "3")
    batches = {}
    for arm in ("MISSUTrainer", "MISSUTrainerNoTransformer", "nnUNetTrainerAdamW"):
        trainer_class = getattr(arms, f"{arm}_2epochs_3iters_noTTA")
        arguments = (plans | {"continue_training": False}, "3d_fullres", 0, dataset_json, torch.device("cpu"))
        trainer = trainer_class(*arguments)
        assert (trainer.num_epochs, trainer.num_iterations_per_epoch) == (2, 3)
        trainer.on_train_start()
        assert trainer.inference_allowed_mirroring_axes is None
        batches[arm] = [next(trainer.dataloader_train)["data"] for _ in range(2)]
    first, *others = batches.values()
    for batch in others:
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(first, batch, strict=True))
    assert not torch.equal(*first)


@pytest.mark.parametrize("name", ["nnUNetTrainer", "nnUNetTrainer_2epochs_noTTA", "Other_2epochs_3iters_noTTA"])
def test_other_names_are_not_arms(name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        getattr(arms, name)
