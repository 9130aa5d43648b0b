"""This machine's memory and devices."""

import torch

from missu_nnunet.machine import available_memory, fastest_device, physical_memory, total_memory


def test_the_fastest_device_computes_and_is_a_gpu_where_there_is_one() -> None:
    assert torch.ones(2, device=fastest_device()).sum().item() == 2
    assert (fastest_device() == "cuda") is torch.cuda.is_available()


def test_what_is_available_is_part_of_what_is_there() -> None:
    available, total, physical = available_memory(), total_memory(), physical_memory()
    assert available is not None
    assert total is not None
    assert physical is not None
    assert 2**20 < available <= total
    assert physical > 2**20
