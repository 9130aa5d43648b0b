"""torch.compile with its default backend, inductor, on the CPU: one graph in each mode, and eager's output."""

import shutil

import pytest
import torch
import torch._inductor.config
from random_plans import plain_arch_kwargs

from missu_nnunet.architecture.configuration import missu_arch_kwargs
from missu_nnunet.architecture.missu import MISSU

STRIDES = {2: [[1, 1], [2, 2]], 3: [[1, 1, 1], [2, 2, 2]]}


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="inductor needs a C++ compiler")
@pytest.mark.parametrize(("dim", "training"), [(2, True), (3, False)])
@torch._inductor.config.patch(compile_threads=1)  # no pool of processes for two small graphs
def test_inductor_gives_eagers_output_from_one_graph(dim: int, training: bool) -> None:
    kwargs = missu_arch_kwargs(plain_arch_kwargs(STRIDES[dim], residual=True), (8,) * dim)
    kwargs["n_blocks_per_stage"] = [1, 1]
    kwargs["transformer"]["depth"] = 1
    torch.manual_seed(0)
    network = MISSU(1, num_classes=2, **kwargs).train(training)
    torch.nn.init.normal_(network.bottleneck.project_out.weight)
    compiled = torch.compile(network, fullgraph=True)  # a second graph would be an error
    x = torch.randn(2, 1, *(8,) * dim)
    if not training:
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), network(x), rtol=1e-4, atol=1e-5)
        return
    results = []
    for module in (network, compiled):
        network.zero_grad()
        output = module(x)
        output.square().mean().backward()
        results.append((output.detach(), [parameter.grad.clone() for parameter in network.parameters()]))
    (eager, eager_gradients), (inductor, inductor_gradients) = results
    torch.testing.assert_close(inductor, eager, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(inductor_gradients, eager_gradients, rtol=1e-3, atol=1e-5)
