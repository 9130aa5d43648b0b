"""The training module under torch.compile and with what nnU-Net does to it for several GPUs."""

import pytest
import torch
from random_plans import plain_arch_kwargs
from torch import nn

from missu_nnunet.architecture.configuration import missu_arch_kwargs
from missu_nnunet.architecture.missu import MISSU
from missu_nnunet.distillation.skip_distillation import SkipDistillation

STRIDES_3D = [[1, 1, 1]] + [[2, 2, 2]] * 3


def training_module(plan: dict, patch_size: tuple[int, ...], fusion: bool = True) -> SkipDistillation:
    torch.manual_seed(0)
    network = MISSU(2, num_classes=3, deep_supervision=True, **missu_arch_kwargs(plan, patch_size))
    return SkipDistillation(network.apply(network.initialize), 3, fusion)


@pytest.mark.parametrize("fusion", [True, False])
@pytest.mark.parametrize(("strides", "patch_size"), [(STRIDES_3D, (16, 16, 24)), ([[1, 1]] + [[2, 2]] * 3, (32, 32))])
def test_compiles_without_graph_breaks_and_agrees_with_eager(
    strides: list[list[int]], patch_size: tuple[int, ...], fusion: bool
) -> None:
    torch.compiler.reset()
    module = training_module(plain_arch_kwargs(strides), patch_size, fusion)
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    x = torch.randn(2, 2, *patch_size)
    torch.testing.assert_close(tuple(compiled.train()(x)), tuple(module(x)))
    torch.testing.assert_close(compiled.eval()(x), module(x))


@pytest.mark.parametrize("training", [True, False])
def test_conversion_to_synchronised_batch_norm_leaves_results_unchanged(training: bool) -> None:
    plan = plain_arch_kwargs(STRIDES_3D) | {"norm_op": nn.BatchNorm3d}
    before, after = (training_module(plan, (16, 16, 24)) for _ in range(2))
    after = nn.SyncBatchNorm.convert_sync_batchnorm(after)
    assert any(isinstance(part, nn.SyncBatchNorm) for part in after.modules())
    assert not any(isinstance(part, nn.BatchNorm3d) for part in after.modules())
    x = torch.randn(2, 2, 16, 16, 24)
    torch.testing.assert_close(tuple(after.train(training)(x)), tuple(before.train(training)(x)), rtol=0, atol=0)
    torch.testing.assert_close(after.state_dict(), before.state_dict(), rtol=0, atol=0)
