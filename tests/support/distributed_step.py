"""A training step of one process of several; in a module of its own, which spawned processes can import."""

import torch
from random_plans import plain_arch_kwargs
from torch import distributed, nn

from missu_nnunet.architecture.configuration import missu_arch_kwargs
from missu_nnunet.architecture.missu import MISSU
from missu_nnunet.distillation.losses import TrainingOutput
from missu_nnunet.distillation.self_distillation import SelfDistillation
from missu_nnunet.hyperparameters import Hyperparameters

STRIDES_3D = [[1, 1, 1]] + [[2, 2, 2]] * 3


def training_module(strides: list[list[int]], patch_size: tuple[int, ...], **changes: object) -> SelfDistillation:
    torch.manual_seed(0)
    kwargs = missu_arch_kwargs(plain_arch_kwargs(strides), patch_size)
    network = MISSU(2, num_classes=3, deep_supervision=True, **kwargs)
    return SelfDistillation(network.apply(network.initialize), 3, False, Hyperparameters(**changes))


def total(output: TrainingOutput) -> torch.Tensor:
    return sum(x.square().mean() for x in [*output.segmentation, *output.auxiliary]) + output.distillation


def train_step(rank: int, store: str, x: torch.Tensor, gradients: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    module = nn.SyncBatchNorm.convert_sync_batchnorm(training_module(STRIDES_3D, (16, 16, 24)))
    parallel = nn.parallel.DistributedDataParallel(module)
    for _ in range(2):  # a parameter without a gradient would fail the second step
        parallel.zero_grad()
        total(parallel.train()(x[rank : rank + 1])).backward()
    if rank == 0:
        torch.save([p.grad for p in module.parameters()], gradients)
    distributed.destroy_process_group()
