import torch
from torch import nn

from missu_nnunet.planning.summary import count_macs


def test_macs_of_a_convolution_and_a_linear_map() -> None:
    with torch.device("meta"):
        network = nn.Sequential(nn.Conv3d(2, 5, 3, padding=1), nn.Flatten(), nn.Linear(5 * 4 * 6 * 8, 7))
    assert count_macs(network, 2, [4, 6, 8]) == 4 * 6 * 8 * 27 * 2 * 5 + 5 * 4 * 6 * 8 * 7
