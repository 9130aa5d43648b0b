"""Hold the planner's memory estimate against the bytes that autograd really keeps for the backward pass.

    python benchmarks/memory.py

Prints a table in Markdown; takes a minute on a CPU. Bytes are float32, without weights and loss; plans come from
nnU-Net's own topology rule. The error is (estimate - kept) / kept.
"""

import platform
from typing import Any

import numpy as np
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from unet_plans import unet_plan

from missu_nnunet.architecture.configuration import missu_arch_kwargs
from missu_nnunet.architecture.missu import MISSU
from missu_nnunet.planning.memory import count_activation_bytes, estimate_activation_bytes

BATCH_SIZE = 2
CASES = [  # spacing, patch, base features, residual encoder
    ((1, 1, 1), (32, 40, 32), 16, False),
    ((1, 1, 1), (40, 56, 40), 32, False),
    ((1, 1, 1), (64, 64, 64), 32, False),
    ((3, 1, 1), (16, 96, 96), 32, False),
    ((1, 1, 1), (40, 56, 40), 32, True),
    ((3, 1, 1), (16, 96, 96), 16, True),
    ((1, 1), (256, 256), 32, False),
    ((1, 1), (512, 64), 32, True),
]


def main() -> None:
    """Print the table and the largest error."""
    print(f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, batch {BATCH_SIZE}\n")
    print("| patch | encoder, features | network | estimate [MiB] | kept [MiB] | error |\n|---|---|---|---|---|---|")
    errors = []
    for spacing, patch, features, residual in CASES:
        plan_kwargs, patch_size = unet_plan(spacing, patch, features, residual)
        kwargs = missu_arch_kwargs(plan_kwargs, patch_size)
        missu = MISSU(1, num_classes=3, deep_supervision=True, **kwargs)
        networks: dict[str, Any] = {"MISSU": missu}
        if not residual:
            networks = {
                "PlainConvUNet": PlainConvUNet(1, num_classes=3, deep_supervision=True, **plan_kwargs)
            } | networks
        for name, network in networks.items():
            kept = count_activation_bytes(network, torch.randn(BATCH_SIZE, 1, *patch_size))
            estimate = estimate_activation_bytes(network, patch_size, BATCH_SIZE, bytes_per_element=4)
            errors.append(estimate / kept - 1)
            row = (
                "×".join(map(str, patch_size)),
                f"{'residual' if residual else 'plain'}, {features}",
                name,
                f"{estimate / 2**20:.0f}",
                f"{kept / 2**20:.0f}",
                f"{errors[-1]:+.1%}",
            )
            print(f"| {' | '.join(row)} |")
    print(f"\nLargest error {max(np.abs(errors)):.1%}, mean error {np.mean(errors):+.1%}.")


if __name__ == "__main__":
    main()
