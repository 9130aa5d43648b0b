"""Measures what networks cost: time and memory of a forward pass and of a training step, side by side.

Every round measures every network once, in turn, so that other work on the machine slows all of them alike. What counts
are the ratios within a round.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from missu_nnunet.architecture.configuration import MISSU_CLASS, MISSU_KEYS, missu_arch_kwargs
from missu_nnunet.architecture.missu import MISSU
from missu_nnunet.distillation.losses import SelfDistillationLoss
from missu_nnunet.distillation.moving_average import MovingAverage
from missu_nnunet.hyperparameters import Hyperparameters
from missu_nnunet.nnunet.plans import malformed_plan_named, read_plan
from missu_nnunet.planning.memory import count_activation_bytes
from missu_nnunet.planning.summary import count_macs

UNET_CLASSES = {
    "n_conv_per_stage": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "n_blocks_per_stage": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
}
"""nnU-Net's U-Nets, by the argument that tells their plans apart."""

TAUGHT = "MISSU, labels missing"
"""The network whose training step has the moving average for a teacher."""


@dataclass(frozen=True)
class Cost:
    """The cost of one network.

    Attributes:
        name: name of the network.
        parameters: number of parameters at inference.
        macs: multiply-accumulate operations of a forward pass of one patch.
        forward: seconds of a forward pass of one patch without gradients, for each round.
        step: seconds of a training step, for each round; empty where none was measured.
        training_bytes: memory of training in bytes: on CUDA the peak of a training step, elsewhere what autograd keeps
            for the backward pass.
    """

    name: str
    parameters: int
    macs: int
    forward: list[float]
    step: list[float]
    training_bytes: int


def measure(
    networks: Mapping[str, Callable[[], nn.Module]],
    input_channels: int,
    num_classes: int,
    patch_size: Sequence[int],
    batch_size: int,
    device: torch.device,
    rounds: int,
    training: bool = True,
) -> list[Cost]:
    """Measure networks in turn, on CUDA under autocast, as nnU-Net runs them; the first round does not count.

    Args:
        networks: name → function that builds the network, whose finest logits come first.
        input_channels: image channels.
        num_classes: channels of the logits.
        patch_size: patch size in voxels.
        batch_size: patches of a training step; the forward pass takes a single one.
        device: the device to run on.
        rounds: measurements of each network.
        training: whether to measure training steps as well: forward, nnU-Net's loss, backward, AdamW.
    """
    runs = {
        name: _Run(build, input_channels, num_classes, patch_size, batch_size, device, taught=name == TAUGHT)
        for name, build in networks.items()
    }
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in networks}
    for index in range(rounds + 1):
        for name, run in runs.items():
            forward = run.forward()
            step = run.step() if training else 0.0
            if index:
                times[name][0].append(forward)
                times[name][1].extend([step] * training)
    return [
        Cost(name, run.parameters, run.macs, *times[name], run.training_bytes() if training else 0)
        for name, run in runs.items()
    ]


class _Run:
    """One network with its optimiser and batch on the device."""

    def __init__(
        self,
        build: Callable[[], nn.Module],
        input_channels: int,
        num_classes: int,
        patch_size: Sequence[int],
        batch_size: int,
        device: torch.device,
        taught: bool,
    ) -> None:
        self.device = device
        self.parameters, self.macs = inference_size(build, input_channels, patch_size)
        self.network = build().to(device)
        self.optimizer = torch.optim.AdamW(self.network.parameters())
        self.scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
        hp = Hyperparameters()
        self.loss = SelfDistillationLoss(_deeply_supervised, _LOSS, False, hp.w_kd, hp.w_aux, hp.level_decay)
        self.teacher = MovingAverage(cast(MISSU, self.network), hp.average_decay) if taught else None
        self.batch = torch.randn(batch_size, input_channels, *patch_size, device=device)
        self.target = torch.randint(num_classes, (batch_size, 1, *patch_size), device=device).float()

    def forward(self) -> float:
        """Seconds of one patch through the network in evaluation mode."""
        _inference_mode(self.network)
        with torch.inference_mode():
            return self._timed(lambda: self.network(self.batch[:1]))

    def step(self) -> float:
        """Seconds of one training step."""
        _training_mode(self.network)
        return self._timed(self._step)

    def training_bytes(self) -> int:
        """See ``Cost.training_bytes``."""
        _training_mode(self.network)
        if self.device.type != "cuda":
            return count_activation_bytes(self.network, self._given())
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        self._step()
        return torch.cuda.max_memory_allocated(self.device) - before

    def _step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, enabled=self.device.type == "cuda"):
            loss = self.loss(self.network(self._given()), self.target)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.teacher is not None:
            self.teacher.update_parameters(self.network)

    def _given(self) -> Tensor:
        """The batch as the network gets it in training, ``(B, C, D, H, W)``; with a teacher half as many more."""
        if self.teacher is None:
            return self.batch
        given, self.loss.posterior = self.teacher.teach(self.batch, len(self.batch), regions=False)
        return given

    def _timed(self, work: Callable[[], object]) -> float:
        self._synchronize()
        # Of a single thread the processor's time, which other jobs on the machine do not lengthen.
        alone = self.device.type == "cpu" and torch.get_num_threads() == 1
        clock = time.process_time if alone else time.perf_counter
        start = clock()
        with torch.autocast(self.device.type, enabled=self.device.type == "cuda"):
            work()
        self._synchronize()
        return clock() - start

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def inference_size(build: Callable[[], nn.Module], input_channels: int, patch_size: Sequence[int]) -> tuple[int, int]:
    """Count a network's parameters at inference, and the multiply-accumulate operations for one patch.

    Args:
        build: function that builds the network.
        input_channels: image channels.
        patch_size: patch size in voxels.
    """
    network = _inference_mode(build().to("meta"))  # some of MONAI's cannot be built there
    macs = count_macs(network, input_channels, list(patch_size))
    return sum(parameter.numel() for parameter in network.parameters()), macs


def _inference_mode(network: nn.Module) -> nn.Module:
    """Switch to what nnU-Net predicts with: the finest level's logits alone."""
    _set_deep_supervision(network, False)
    return network.eval()


def _training_mode(network: nn.Module) -> nn.Module:
    """Switch to what nnU-Net trains with: the logits of every level."""
    _set_deep_supervision(network, True)
    return network.train()


def _set_deep_supervision(network: nn.Module, enabled: bool) -> None:
    """Switch it where nnU-Net's trainer does; networks of other projects have none."""
    decoder: Any = getattr(network, "decoder", None)
    if hasattr(decoder, "deep_supervision"):
        decoder.deep_supervision = enabled


_LOSS = DC_and_CE_loss(
    {"batch_dice": True, "do_bg": False, "smooth": 1e-5, "ddp": False}, {}, dice_class=MemoryEfficientSoftDiceLoss
)


def _deeply_supervised(output: Tensor | Sequence[Tensor], target: Any) -> Tensor:
    """nnU-Net's loss of every level but the coarsest, halved from level to level."""
    if isinstance(output, Tensor):
        return _LOSS(output, target)
    losses = [
        0.5**level * _LOSS(logits, F.interpolate(target, size=logits.shape[2:])) for level, logits in enumerate(output)
    ]
    return torch.stack(losses[:-1] or losses).sum()


@dataclass(frozen=True)
class Ratio:
    """Median of the rounds' ratios with a bootstrap 95 % interval."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}–{self.high:.2f})"


def ratio(times: Sequence[float], reference: Sequence[float]) -> Ratio:
    """Compare two networks' times, round by round.

    Args:
        times: seconds of each round.
        reference: seconds of each round for the network to compare with.
    """
    ratios = np.array(times) / np.array(reference)
    if len(ratios) < 2:
        return Ratio(float(ratios[0]), float("nan"), float("nan"))
    interval = stats.bootstrap((ratios,), np.median, method="percentile", rng=np.random.default_rng(0))
    return Ratio(float(np.median(ratios)), *map(float, interval.confidence_interval))


def measure_plan(plans_file: Path, configuration: str, device: torch.device, rounds: int) -> list[Cost]:
    """Measure a plan's U-Net, as nnU-Net builds it, and MISSU without and with self-distillation.

    For a plan of MISSU's planners, the U-Net has the plan's stages without the Transformer.

    Args:
        plans_file: a plans file of nnU-Net; the dataset's ``dataset.json`` lies beside it, as nnU-Net puts it.
        configuration: e.g. ``3d_fullres``.
        device: the device to run on.
        rounds: measurements of each network.

    Raises:
        InputError: if a file is missing or unreadable, or the plan has no such configuration, is not for a U-Net, or
            cannot be built.
    """
    plans_manager, manager, dataset_json = read_plan(plans_file, configuration)
    patch_size = [int(size) for size in manager.patch_size]
    with malformed_plan_named(plans_file):
        input_channels = determine_num_input_channels(plans_manager, manager, dataset_json)
        num_classes = plans_manager.get_label_manager(dataset_json).num_segmentation_heads
        networks = plan_networks(
            manager.network_arch_init_kwargs,
            manager.network_arch_init_kwargs_req_import,
            patch_size,
            input_channels,
            num_classes,
        )
        for build in networks.values():  # without memory, to find what is wrong with the plan before anything is timed
            with torch.device("meta"):
                network = build()
            count_macs(network, input_channels, patch_size)
    return measure(networks, input_channels, num_classes, patch_size, manager.batch_size, device, rounds)


def plan_networks(
    arch_kwargs: dict[str, Any],
    requires_import: Sequence[str],
    patch_size: Sequence[int],
    input_channels: int,
    num_classes: int,
) -> dict[str, Callable[[], nn.Module]]:
    """Return functions that build the networks of ``measure_plan``, by name.

    Args:
        arch_kwargs: ``plan["architecture"]["arch_kwargs"]``.
        requires_import: ``plan["architecture"]["_kw_requires_import"]``.
        patch_size: patch size in voxels.
        input_channels: image channels.
        num_classes: channels of the logits.
    """

    def build(class_name: str, kwargs: dict[str, Any]) -> nn.Module:
        return get_network_from_plans(class_name, kwargs, requires_import, input_channels, num_classes, True, True)

    missu_kwargs = missu_arch_kwargs(arch_kwargs, patch_size)
    unet_kwargs = {key: value for key, value in arch_kwargs.items() if key not in MISSU_KEYS}
    unet_class = next(name for argument, name in UNET_CLASSES.items() if argument in arch_kwargs)
    return {
        unet_class.rpartition(".")[2]: lambda: build(unet_class, unet_kwargs),
        "MISSU": lambda: build(MISSU_CLASS, missu_kwargs),
        TAUGHT: lambda: build(MISSU_CLASS, missu_kwargs),
    }
