"""An epoch of one process of several, as nnU-Net trains with -num_gpus, but on CPUs."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from checkpoints import LABELS, dataset_json, initialized, tiny_plans
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as nnunet
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from missu_nnunet.distillation import cutmix
from missu_nnunet.training.logger import LOSS_TERMS
from missu_nnunet.training.trainer import MISSUTrainer

Batch = dict[str, Any]


class MISSUTrainerOnCPU(MISSUTrainer):
    """nnU-Net takes for granted that several processes have a GPU each.

    With SGD, because Adam makes steps of full length of gradients that are rounding errors, such as those of biases in
    front of a normalisation.
    """

    hyperparameters = replace(MISSUTrainer.hyperparameters, optimizer="SGD")

    def initialize(self) -> None:
        self.device, self.grad_scaler = torch.device("cpu"), None
        super().initialize()


def made_batch() -> Batch:
    """Four noisy images, with labels at the resolutions of deep supervision."""
    torch.manual_seed(1)
    target = torch.randint(0, 3, (4, 1, 16, 16, 16)).float()
    return {"data": torch.randn(4, 1, 16, 16, 16), "target": [target, target[..., ::2, ::2, ::2]]}


def trained(batch: Batch) -> tuple[MISSUTrainer, dict[str, Any]]:
    """A trainer after an epoch of two steps, and what came of it."""
    trainer = initialized(MISSUTrainerOnCPU, tiny_plans(), dataset_json(labels=LABELS | {"ignore": 3}))
    trainer.on_train_epoch_start()
    trainer.on_train_epoch_end([trainer.train_step(batch) for _ in range(2)])
    with torch.no_grad():
        trainer.on_validation_epoch_start()
        trainer.on_validation_epoch_end([trainer.validation_step(batch)])
    logged = ("train_losses", "val_losses", "mean_fg_dice", *LOSS_TERMS)
    # nnU-Net leaves the coarsest output out of the loss of one process, and gives it 1e-6 in that of several.
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trainer.network.parameters()]
    return trainer, {
        "gradients": gradients,
        "weights": weights(trainer),
        "average": list(trainer.moving_average.module.parameters()),
        "log": {key: float(trainer.logger.get_value(key, 0)) for key in logged},
    }


def weights(trainer: MISSUTrainer) -> list[Tensor]:
    return [p.detach().clone() for p in trainer.network.parameters()]


def train_in_parallel(rank: int, environment: dict[str, str], folder: Path, batch: Batch) -> None:
    """Train on this process's half of the batch; what came of it goes to ``folder``.

    The halves are such that the patches mixed by both are those that one process mixes of the joint batch.
    """
    os.environ.update(environment)
    cutmix.BOX_SHARES = (0.0, 0.0)  # one process would paste other patches
    torch.set_num_threads(1)
    nnunet.DDP = lambda network, device_ids: DistributedDataParallel(network)
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2)
    mine = {"data": batch["data"][rank::2], "target": [level[rank::2] for level in batch["target"]]}
    trainer, result = trained(mine)
    assert isinstance(trainer.network, DistributedDataParallel)
    checkpoint = folder / f"checkpoint_of_{rank}.pth"
    trainer.save_checkpoint(str(checkpoint))

    if rank == 1:
        mine["data"][:] = float("nan")
    trainer.current_epoch = 1
    trainer.on_train_epoch_start()
    trainer.on_train_epoch_end([trainer.train_step(mine)])
    result |= {"average after NaN": list(trainer.moving_average.module.parameters())}
    result |= {"weights after NaN": weights(trainer), "non-finite": trainer.nonfinite_steps}

    distributed.barrier()
    with torch.no_grad():
        for parameter in trainer.network.parameters():
            parameter.zero_()
    trainer.load_checkpoint(str(folder / "checkpoint_of_0.pth"))
    result["weights loaded"] = weights(trainer)
    torch.save(result, folder / f"result_of_{rank}.pt")
    distributed.destroy_process_group()
