"""OpenVINO: runs a network's forward pass on CPUs, faster than PyTorch does."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from missu_nnunet.errors import InputError

# OpenVINO reports its use over the network when it is imported; a prediction must not. Without the package that does,
# it goes on in silence.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino  # noqa: E402


class OpenVINONetwork(nn.Module):
    """A network that OpenVINO computes, to put in the place of the network of nnU-Net's predictor.

    Weights are compiled when they are loaded for the first time, and kept, so that an ensemble compiles each of its
    folds once and not for every case.

    Args:
        network: a network whose output is one tensor.
        input_shape: the only shape of its input, ``(B, C, D, H, W)`` or ``(B, C, H, W)``.
        threads: number of CPU threads.
        bfloat16: compute in bfloat16 instead of float32.

    Raises:
        InputError: if the CPU does not compute in bfloat16.
    """

    def __init__(self, network: nn.Module, input_shape: Sequence[int], threads: int, *, bfloat16: bool = False) -> None:
        super().__init__()
        self.network = getattr(network, "_orig_mod", network)  # of a network that torch.compile has wrapped
        self.input_shape = tuple(input_shape)
        self._core = openvino.Core()
        if bfloat16 and "BF16" not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise InputError(
                "--engine openvino-bf16: this CPU does not compute in bfloat16 (it takes AVX512-BF16 or AMX); use "
                "--engine openvino"
            )
        self._settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": threads,
        }
        self._compiled: dict[int, tuple[Mapping[str, Any], openvino.CompiledModel]] = {}
        self._current: openvino.CompiledModel | None = None

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights into the network, and compile it with them."""
        keys = self.network.load_state_dict(state_dict, strict, assign)
        # The weights are kept beside, so that no others can come to have their identity.
        if id(state_dict) not in self._compiled:
            self._compiled[id(state_dict)] = (state_dict, self._compile())
        self._current = self._compiled[id(state_dict)][1]
        return keys

    def forward(self, x: Tensor) -> Tensor:
        """Image of ``input_shape`` → the network's output."""
        assert self._current is not None, "weights must be loaded first"
        return torch.from_numpy(self._current(x.numpy())[0])

    def _compile(self) -> openvino.CompiledModel:
        # OpenVINO may keep the tensors it is given, and the next weights are written into the network's.
        network = copy.deepcopy(self.network).cpu().eval()
        example = torch.zeros(self.input_shape)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer takes sizes for constants, which they are here
            traced = torch.jit.trace(network, example, check_trace=False)
            model = openvino.convert_model(traced, example_input=example, input=[list(self.input_shape)])
        return self._core.compile_model(model, "CPU", self._settings)
