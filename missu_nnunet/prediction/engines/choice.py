"""Chooses the engine that a prediction runs on."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from torch import nn

from missu_nnunet.errors import InputError
from missu_nnunet.extras import require_extra

AUTO = "auto"
ENGINES = ("pytorch", "openvino", "openvino-bf16")
"""The engines, by the names that ``missu predict --engine`` takes beside ``auto``."""


class EngineError(InputError):
    """An engine cannot run a model's network.

    Attributes:
        finding: what was found, without the remedy.
    """

    def __init__(self, engine: str, reason: str) -> None:
        self.finding = f"{engine} cannot run this model's network ({reason})"
        super().__init__(f"{self.finding}; use --engine pytorch")


def choose_engine(name: str, device: str) -> str:
    """Choose one of ``ENGINES``.

    ``auto`` stands for OpenVINO on a CPU where it is installed, and for PyTorch elsewhere.

    Args:
        name: the engine that the user asks for.
        device: "cuda", "cpu" or "mps".

    Raises:
        InputError: if there is no such engine, or none for this device.
    """
    if name not in (AUTO, *ENGINES):
        raise InputError(f"--engine {name}: no such engine, expected one of {', '.join((AUTO, *ENGINES))}")
    if name == AUTO:
        return "openvino" if device == "cpu" and find_spec("openvino") else "pytorch"
    if name.startswith("openvino") and device != "cpu":
        raise InputError(f"--engine {name}: made for the CPU, found --device {device}; leave one of both out")
    return name


def network_on(engine: str, network: nn.Module, input_shape: Sequence[int], threads: int) -> nn.Module:
    """Return the network as the engine runs it: it takes the same weights and windows, and gives the same logits.

    Args:
        engine: one of ``ENGINES``.
        network: the network that nnU-Net would predict with.
        input_shape: shape of a window, ``(B, C, D, H, W)`` or ``(B, C, H, W)``.
        threads: number of CPU threads, for engines that have threads of their own.

    Raises:
        InputError: if the engine is not installed, or the CPU lacks what it needs.
    """
    if engine == "pytorch":
        return network
    with require_extra("openvino"):
        from missu_nnunet.prediction.engines.openvino import OpenVINONetwork
    return OpenVINONetwork(network, input_shape, threads, bfloat16=engine == "openvino-bf16")
