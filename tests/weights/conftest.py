from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def missu_checkpoint(nnunet_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of MISSUTrainer: three stages, one channel, three classes."""
    from checkpoints import dataset_json, initialized, saved, tiny_plans, train_epoch

    from missu_nnunet.training.trainer import MISSUTrainer

    trainer = initialized(MISSUTrainer, tiny_plans(), dataset_json())
    train_epoch(trainer)
    return saved(trainer, tmp_path_factory.mktemp("missu") / "checkpoint_final.pth")
