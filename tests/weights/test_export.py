import json
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from checkpoints import dataset_json, initialized, saved, tiny_plans
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from safetensors import safe_open
from safetensors.torch import load_model
from torch import nn

from missu_nnunet.errors import InputError
from missu_nnunet.planning.network import with_missu_network
from missu_nnunet.training import variants
from missu_nnunet.training.trainer import MISSUTrainer
from missu_nnunet.weights.export import OPSET, TOLERANCE, export
from missu_nnunet.weights.network import build_network


def network_of(trainer: MISSUTrainer) -> nn.Module:
    trainer.set_deep_supervision_enabled(False)
    return trainer.network.network.eval() if hasattr(trainer.network, "network") else trainer.network.eval()


def plans_with_one_layer() -> dict[str, Any]:
    """Plans for MISSU that spell its Transformer out; one layer of it keeps the tracing short."""
    plans = tiny_plans()
    kwargs = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    kwargs["transformer"] = {"embedding_dim": 32, "depth": 1, "num_heads": 2, "mlp_dim": 32}
    return plans


@pytest.mark.parametrize(
    ("name", "plans"),
    [("MISSUTrainer", plans_with_one_layer()), ("MISSUTrainerNoTransformer", tiny_plans(dim=2, residual=True))],
)
def test_onnx_gives_pytorchs_logits_for_any_batch(
    name: str, plans: dict[str, Any], nnunet_folders: Path, tmp_path: Path
) -> None:
    trainer = initialized(getattr(variants, name), plans, dataset_json(channels=2))
    out = tmp_path / "missu.onnx"
    summary = export(saved(trainer, tmp_path / "checkpoint.pth"), out)
    assert f"opset {OPSET}" in summary
    model = onnx.load(out)
    assert model.opset_import[0].version == OPSET
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    for batch in (1, 2, 5):
        x = torch.randn(batch, 2, *trainer.configuration_manager.patch_size)
        with torch.no_grad():
            expected = network_of(trainer)(x)
        (logits,) = session.run(None, {"image": x.numpy()})
        assert (torch.from_numpy(logits) - expected).abs().max() <= TOLERANCE * expected.abs().max()
    assert {file.name for file in tmp_path.iterdir()} == {"checkpoint.pth", "missu.onnx"}


def test_a_network_that_onnx_runs_differently_is_not_written(
    nnunet_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = initialized(variants.MISSUTrainerNoTransformer, tiny_plans(n_stages=2, dim=2), dataset_json())
    checkpoint = saved(trainer, tmp_path / "checkpoint.pth")
    monkeypatch.setattr("missu_nnunet.weights.export.TOLERANCE", -1.0)
    with pytest.raises(RuntimeError, match="onnxruntime's logits differ"):
        export(checkpoint, tmp_path / "missu.onnx")
    assert list(tmp_path.iterdir()) == [checkpoint]


@pytest.mark.parametrize("residual", [False, True])
def test_safetensors_holds_tied_weights_once_and_what_builds_the_network(
    residual: bool, nnunet_folders: Path, tmp_path: Path
) -> None:
    trainer = initialized(MISSUTrainer, tiny_plans(residual=residual), dataset_json())
    out = tmp_path / "missu.safetensors"
    export(saved(trainer, tmp_path / "checkpoint.pth"), out)
    with safe_open(out, "pt") as file:
        metadata = file.metadata()
        written = sum(file.get_tensor(key).numel() for key in file.keys())  # noqa: SIM118 not a dictionary
    trained = network_of(trainer)
    assert written == sum(p.numel() for p in trained.parameters())
    plans_manager, dataset = PlansManager(json.loads(metadata["plans"])), json.loads(metadata["dataset_json"])
    network = build_network(MISSUTrainer, plans_manager, metadata["configuration"], dataset).eval()
    load_model(network, out)
    x = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        assert torch.equal(network(x), trained(x))


def test_other_suffixes_are_refused(missu_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected \.safetensors or \.onnx"):
        export(missu_checkpoint, tmp_path / "missu.pt")


def test_a_stock_checkpoint_is_refused(nnunet_folders: Path, tmp_path: Path) -> None:
    checkpoint = saved(initialized(nnUNetTrainer, tiny_plans(), dataset_json()), tmp_path / "stock.pth")
    with pytest.raises(InputError, match="a checkpoint of nnUNetTrainer, expected one of MISSU"):
        export(checkpoint, tmp_path / "missu.onnx")


def test_nnunets_trainer_trains_missu_too(nnunet_folders: Path, tmp_path: Path) -> None:
    trainer = initialized(nnUNetTrainer, with_missu_network(tiny_plans(), "3d_fullres"), dataset_json())
    out = tmp_path / "missu.safetensors"
    export(saved(trainer, tmp_path / "checkpoint.pth"), out)
    with safe_open(out, "pt") as file:
        key = "bottleneck.project_in.weight"
        assert torch.equal(file.get_tensor(key), trainer.network.state_dict()[key])


def test_weights_of_another_plan_are_refused(missu_checkpoint: Path, tmp_path: Path) -> None:
    content = torch.load(missu_checkpoint, weights_only=False)
    content["init_args"]["plans"] = tiny_plans(base_features=8)
    torch.save(content, tmp_path / "mixed.pth")
    with pytest.raises(InputError, match="its weights are not those of its plan's network") as raised:
        export(tmp_path / "mixed.pth", tmp_path / "missu.onnx")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "missu.onnx").exists()


def test_a_plan_that_is_not_json_is_refused(missu_checkpoint: Path, tmp_path: Path) -> None:
    content = torch.load(missu_checkpoint, weights_only=False)
    content["init_args"]["plans"]["more"] = torch.zeros(2)
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(InputError, match=r"odd\.pth: its plan.* is not as nnU-Net writes it \(TypeError: .*Tensor"):
        export(tmp_path / "odd.pth", tmp_path / "missu.safetensors")
    assert not (tmp_path / "missu.safetensors").exists()
