"""The training module under torch.compile and DistributedDataParallel."""

from pathlib import Path

import pytest
import torch
from distributed_step import STRIDES_3D, total, train_step, training_module
from torch import multiprocessing


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


def test_two_processes_have_the_gradients_of_one_on_the_joint_batch(tmp_path: Path) -> None:
    x = torch.randn(2, 2, 16, 16, 24)
    multiprocessing.spawn(train_step, (str(tmp_path / "store"), x, str(tmp_path / "gradients.pt")), nprocs=2)
    module = training_module(STRIDES_3D, (16, 16, 24)).train()
    # Means of per-sample squares differ from the joint batch's in nothing: instance normalisation mixes no samples.
    total(module(x)).backward()
    for ours, theirs in zip(module.parameters(), torch.load(tmp_path / "gradients.pt"), strict=True):
        torch.testing.assert_close(theirs, ours.grad, rtol=1e-4, atol=1e-6)
