"""Exports the inference network for use without nnU-Net, as safetensors and ONNX."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from missu_nnunet import __version__
from missu_nnunet.architecture.missu import MISSU
from missu_nnunet.errors import InputError
from missu_nnunet.extras import require_extra
from missu_nnunet.files import check_is_new, whole_file
from missu_nnunet.nnunet.checkpoint import check_weights, read_checkpoint
from missu_nnunet.nnunet.plans import find_configuration, malformed_plan_named
from missu_nnunet.weights.network import build_network, trainer_for

OPSET = 18
"""Version of the ONNX operators: the one that torch's exporter writes without converting."""

TOLERANCE = 1e-4
"""Largest difference allowed between the ONNX network's logits and PyTorch's, relative to the largest logit."""


@dataclass(frozen=True)
class TrainedNetwork:
    """The inference network of a checkpoint, with its plan.

    Attributes:
        network: the network with its weights, in evaluation mode.
        checkpoint: content of the file.
        plans_manager: plans of the network.
        configuration_manager: configuration of the network.
    """

    network: MISSU
    checkpoint: dict[str, Any]
    plans_manager: PlansManager
    configuration_manager: ConfigurationManager

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape ``(C, D, H, W)`` of the network's input: the plan's patch."""
        channels = self.network.get_submodule(self.network.keys_to_in_proj[0]).in_channels
        return (channels, *map(int, self.configuration_manager.patch_size))


def trained_network(checkpoint_file: Path) -> TrainedNetwork:
    """Build the network of a MISSU checkpoint.

    Raises:
        InputError: if the file cannot be used, or holds another network.
    """
    checkpoint = read_checkpoint(checkpoint_file, str(checkpoint_file))
    weights, init_args = checkpoint["network_weights"], checkpoint["init_args"]
    trainer = trainer_for(weights)
    # nnU-Net's own trainers train plans of MISSU, too.
    if "missu" not in checkpoint and not trainer.hyperparameters.transformer:
        raise InputError(
            f"{checkpoint_file}: a checkpoint of {checkpoint.get('trainer_name')}, expected one of MISSU; "
            "export takes those only"
        )
    check_weights(weights, str(checkpoint_file))
    configuration = init_args["configuration"]
    with malformed_plan_named(checkpoint_file):
        plans_manager = PlansManager(init_args["plans"])
        configuration_manager = find_configuration(plans_manager, configuration, checkpoint_file)
        json.dumps([init_args["plans"], init_args["dataset_json"]])  # a checkpoint may hold tensors there
        network = build_network(trainer, plans_manager, configuration, init_args["dataset_json"])
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise InputError(
            f"{checkpoint_file}: its weights are not those of its plan's network ({reason}); fetch it again"
        ) from None
    return TrainedNetwork(network.eval(), checkpoint, plans_manager, configuration_manager)


def export(checkpoint_file: Path, out: Path) -> str:
    """Write the inference network of a MISSU checkpoint, in the format that the name of ``out`` ends with.

    - ``.safetensors``: the weights, tied ones once, for ``safetensors.torch.load_model``; plans, configuration and
      ``dataset.json``, from which the network is built, are in the metadata as JSON.
    - ``.onnx``: image ``(batch, C, D, H, W)`` → logits ``(batch, classes, D, H, W)``; any batch, the plan's patch.

    Returns:
        One line on what was written.

    Raises:
        InputError: if the checkpoint cannot be used, or ``out`` has another suffix, exists or cannot be written.
        RuntimeError: if the ONNX network and PyTorch give different logits; nothing is kept then.
    """
    if out.suffix not in (".safetensors", ".onnx"):
        raise InputError(
            f"{out}: the suffix is {out.suffix!r}, expected .safetensors or .onnx, or none for a folder; choose one"
        )
    check_is_new(out)
    trained = trained_network(checkpoint_file)
    with whole_file(out) as partial:
        return export_onnx(trained, partial) if out.suffix == ".onnx" else _export_safetensors(trained, partial, out)


def _export_safetensors(trained: TrainedNetwork, file: Path, out: Path) -> str:
    """Write the weights to ``file``, which messages call ``out``."""
    with require_extra("export"):
        import safetensors.torch
    init_args = trained.checkpoint["init_args"]
    metadata = {"missu_version": __version__, "configuration": init_args["configuration"]}
    metadata |= {key: json.dumps(init_args[key]) for key in ("plans", "dataset_json")}
    try:
        safetensors.torch.save_model(trained.network, str(file), metadata)
    except safetensors.SafetensorError as error:
        raise InputError(f"{out}: cannot be written ({error}); make room there, or choose another place") from None
    return f"{sum(p.numel() for p in trained.network.parameters()):,} parameters"


def export_onnx(trained: TrainedNetwork, file: Path) -> str:
    """Write the ONNX network, and compare it with PyTorch's on batch sizes other than the one it was traced with.

    Returns:
        One line on what was written.

    Raises:
        InputError: if a library of the extra "export" is missing.
        RuntimeError: if the two networks give different logits.
    """
    with require_extra("export"):
        import onnxruntime
        import onnxscript  # noqa: F401  torch's exporter needs it
    network, image_shape = trained.network, trained.image_shape
    torch.onnx.export(
        network,
        (torch.zeros(2, *image_shape),),  # the tracer takes a batch of 1 for a constant
        str(file),
        dynamo=True,
        external_data=False,
        opset_version=OPSET,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    difference = max(_difference(network, session, torch.randn(batch, *image_shape)) for batch in (1, 3))
    if not difference <= TOLERANCE:
        raise RuntimeError(
            f"onnxruntime's logits differ from PyTorch's by {difference:.1e} of the largest logit, more than "
            f"{TOLERANCE:.0e}; nothing was written, please report this"
        )
    return (
        f"ONNX opset {OPSET}, any batch of {'×'.join(map(str, image_shape))}; onnxruntime's logits differ from "
        f"PyTorch's by at most {difference:.1e} of the largest logit"
    )


@torch.no_grad()
def _difference(network: MISSU, session: Any, image: torch.Tensor) -> float:
    """Compute the largest difference between the logits of both networks, relative to the largest logit."""
    expected = network(image)
    (logits,) = session.run(None, {"image": image.numpy()})
    return float((torch.from_numpy(logits) - expected).abs().max() / expected.abs().max())
