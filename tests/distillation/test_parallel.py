"""The training module under torch.compile and DistributedDataParallel."""

from pathlib import Path

import pytest
import torch
from random_plans import plain_arch_kwargs
from torch import distributed, multiprocessing, nn

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


@pytest.mark.parametrize("changes", [{}, {"student": "posterior"}, {"teacher": "skip"}])
@pytest.mark.parametrize(("strides", "patch_size"), [(STRIDES_3D, (16, 16, 24)), ([[1, 1]] + [[2, 2]] * 3, (32, 32))])
def test_compiles_without_graph_breaks_and_agrees_with_eager(
    strides: list[list[int]], patch_size: tuple[int, ...], changes: dict
) -> None:
    torch.compiler.reset()
    module = training_module(strides, patch_size, **changes)
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    x = torch.randn(2, 2, *patch_size)
    torch.testing.assert_close(tuple(compiled.train()(x)), tuple(module(x)))
    torch.testing.assert_close(compiled.eval()(x), module(x))


def _train_step(rank: int, store: str, x: torch.Tensor, gradients: str) -> None:
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


def test_two_processes_have_the_gradients_of_one_on_the_joint_batch(tmp_path: Path) -> None:
    x = torch.randn(2, 2, 16, 16, 24)
    multiprocessing.spawn(_train_step, (str(tmp_path / "store"), x, str(tmp_path / "gradients.pt")), nprocs=2)
    module = training_module(STRIDES_3D, (16, 16, 24)).train()
    # Means of per-sample squares differ from the joint batch's in nothing: instance normalisation mixes no samples.
    total(module(x)).backward()
    for ours, theirs in zip(module.parameters(), torch.load(tmp_path / "gradients.pt"), strict=True):
        torch.testing.assert_close(theirs, ours.grad, rtol=1e-4, atol=1e-6)
