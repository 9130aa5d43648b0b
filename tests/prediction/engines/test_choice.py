import sys

import pytest
import torch

from missu_nnunet.errors import InputError
from missu_nnunet.prediction.engines import choice
from missu_nnunet.prediction.engines.choice import choose_engine, network_on


def test_auto_is_openvino_on_a_cpu_and_pytorch_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: name)
    assert choose_engine("auto", "cpu") == "openvino"
    assert choose_engine("auto", "cuda") == choose_engine("auto", "mps") == "pytorch"
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    assert choose_engine("auto", "cpu") == "pytorch"


def test_a_named_engine_is_used_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: name)
    assert choose_engine("openvino-bf16", "cpu") == "openvino-bf16"
    assert choose_engine("pytorch", "cuda") == "pytorch"
    with pytest.raises(InputError, match="made for the CPU, found --device cuda"):
        choose_engine("openvino", "cuda")
    with pytest.raises(InputError, match="expected one of auto, pytorch, openvino, openvino-bf16"):
        choose_engine("onnx", "cpu")
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "missu_nnunet.prediction.engines.openvino", raising=False)
    with pytest.raises(InputError, match=r"openvino is not installed: pip install 'missu-nnunet\[openvino\]'"):
        network_on("openvino", torch.nn.Identity(), (1, 1, 8, 8), 1)
