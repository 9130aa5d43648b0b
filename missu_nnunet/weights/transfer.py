"""Fits trained weights to the network of another plan, for nnU-Net's ``-pretrained_weights``.

nnU-Net asserts that every weight apart from those of the segmentation layers has the shape that its network expects.
These changes make it so:

- *Input channels.* Where their number differs, each input channel of the first convolution gets the mean of the old
  ones, times old number / new number. Nobody knows which new channel corresponds to which old one, so all are treated
  alike. An image whose channels are all equal then gives the same features as before.
- *Stages and blocks.* Those that the plan's network has not are dropped: the deepest stages, or the residual blocks in
  whose place MISSU's planners put the Transformer.
- *Classes.* A class or region keeps its outputs of the segmentation layers where the checkpoint has one of the same
  name; others keep the new network's initialisation. A class does not become a region, nor a region a class, because
  their logits mean different things.

A new patch size needs no change: no weight depends on it, nor does the Transformer's position encoding.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor

from missu_nnunet import __version__
from missu_nnunet.architecture.missu import MISSU
from missu_nnunet.errors import InputError
from missu_nnunet.files import check_is_new
from missu_nnunet.nnunet.checkpoint import check_weights, read_checkpoint, read_pretrained, write_checkpoint
from missu_nnunet.nnunet.labels import output_names
from missu_nnunet.nnunet.plans import malformed_plan_named, read_plan
from missu_nnunet.planning.network import with_missu_network
from missu_nnunet.training.trainer import MISSUTrainer
from missu_nnunet.weights.network import build_network, trainer_for

_ENCODER_STAGE = re.compile(r"encoder\.stages\.(\d+)\.")
_BLOCK = re.compile(r"(encoder\.stages\.\d+\.(0\.convs|blocks)|decoder\.stages\.\d+\.convs)\.\d+")
_DECODER_LEVEL = re.compile(r"(?P<part>decoder\.(?:stages|transpconvs|seg_layers)\.)(?P<index>\d+)(?=\.)")


@dataclass(frozen=True)
class Transfer:
    """A report of which weights were kept, changed and started anew.

    Attributes:
        input_channels: number of input channels of the checkpoint and of the network.
        dropped: modules of the checkpoint that the network does not have.
        new: modules of the network that keep their initialisation.
        kept_classes: classes or regions whose outputs come from the checkpoint.
        new_classes: classes or regions whose outputs start anew.
    """

    input_channels: tuple[int, int]
    dropped: list[str]
    new: list[str]
    kept_classes: list[str]
    new_classes: list[str]


def adapt(checkpoint_file: Path, out: Path, plans_file: Path, configuration: str) -> Transfer:
    """Fit a MISSU checkpoint to a plan with another patch size, other classes or another number of input channels.

    Args:
        checkpoint_file: the checkpoint.
        out: the checkpoint to write.
        plans_file: plans of the new network, with the dataset's ``dataset.json`` beside it.
        configuration: configuration of the plans, such as ``3d_fullres``.

    Raises:
        InputError: if a file cannot be used, or the plan's network has other stages, features or kernels.
    """
    checkpoint = read_checkpoint(checkpoint_file, str(checkpoint_file))
    if "missu" not in checkpoint:
        raise InputError(
            f"{checkpoint_file}: a checkpoint of {checkpoint.get('trainer_name')}, expected one of MISSU; "
            "use missu weights from-nnunet"
        )
    with malformed_plan_named(checkpoint_file):
        init_args = checkpoint["init_args"]
        plan = PlansManager(init_args["plans"]).get_configuration(init_args["configuration"])
        former = "transformer" not in plan.network_arch_init_kwargs
    if former:
        raise InputError(
            f"{checkpoint_file}: trained on a plan of nnU-Net's by a former version of MISSU, which had another "
            "network there; predict with it, or train anew"
        )
    trainer = trainer_for(checkpoint["network_weights"])
    return _transfer(_Source(checkpoint_file, checkpoint), trainer, out, plans_file, configuration)


def from_nnunet(checkpoint_file: Path, out: Path, plans_file: Path, configuration: str) -> Transfer:
    """Start MISSU from a stock checkpoint of nnU-Net (PlainConvUNet or ResidualEncoderUNet).

    The Transformer starts as the identity. Where nothing of the stock network is dropped, the new network therefore
    gives its outputs before it is trained.

    Args:
        checkpoint_file: the stock checkpoint.
        out: the checkpoint to write.
        plans_file: plans of the new network, with the dataset's ``dataset.json`` beside it.
        configuration: configuration of the plans, such as ``3d_fullres``.

    Raises:
        InputError: if a file cannot be used, or the plan's network does not match the checkpoint's.
    """
    checkpoint = read_checkpoint(checkpoint_file, str(checkpoint_file))
    if "missu" in checkpoint:
        raise InputError(
            f"{checkpoint_file}: a checkpoint of MISSU, expected one of a stock nnU-Net trainer; "
            "use missu weights adapt"
        )
    return _transfer(_Source(checkpoint_file, checkpoint), MISSUTrainer, out, plans_file, configuration)


def from_nnssl(checkpoint_file: Path, out: Path, plans_file: Path, configuration: str) -> Transfer:
    """Start MISSU's encoder from an encoder that nnssl has pre-trained.

    The decoder and the outputs of all classes start anew, and the Transformer as the identity.

    Args:
        checkpoint_file: the checkpoint of nnssl.
        out: the checkpoint to write.
        plans_file: plans of the new network, with the dataset's ``dataset.json`` beside it.
        configuration: configuration of the plans, such as ``3d_fullres``.

    Raises:
        InputError: if a file cannot be used, or the plan's encoder does not match the checkpoint's.
    """
    weights = {key: value for key, value in read_pretrained(checkpoint_file).items() if key.startswith("encoder.")}
    if not weights:
        raise InputError(
            f"{checkpoint_file}: no weights of an encoder of nnU-Net's U-Nets (encoder.…), such as ResEnc L; no "
            "other fits"
        )
    source = _Source(checkpoint_file, {"network_weights": weights})
    return _transfer(source, MISSUTrainer, out, plans_file, configuration)


@dataclass(frozen=True)
class _Source:
    """A file of weights, and what it holds."""

    file: Path
    checkpoint: dict[str, Any]

    def outputs(self, regions: bool) -> list[str]:
        """Return the ``output_names`` of the checkpoint; empty where they are unknown or of the other kind.

        Args:
            regions: whether outputs of regions are wanted, rather than of classes.
        """
        if "init_args" not in self.checkpoint:
            return []
        init_args = self.checkpoint["init_args"]
        with malformed_plan_named(self.file):
            labels = PlansManager(init_args["plans"]).get_label_manager(init_args["dataset_json"])
            return output_names(labels) if labels.has_regions == regions else []


def _transfer(
    source: _Source, trainer: type[MISSUTrainer], out: Path, plans_file: Path, configuration: str
) -> Transfer:
    """Fit the source's weights to the network that ``trainer`` builds from the plan, and write the result."""
    check_is_new(out)
    plans_manager, _, dataset_json = read_plan(plans_file, configuration)
    with malformed_plan_named(plans_file):
        plans_manager = PlansManager(with_missu_network(plans_manager.plans, configuration))
        network = build_network(trainer, plans_manager, configuration, dataset_json)
        labels = plans_manager.get_label_manager(dataset_json)
        outputs = output_names(labels)
    weights, old_outputs = source.checkpoint["network_weights"], source.outputs(labels.has_regions)
    check_weights(weights, str(source.file))
    for key, weight in weights.items():
        if ".seg_layers." in key and weight.ndim and len(weight) < len(old_outputs):
            raise InputError(
                f"{source.file}: {key} has {len(weight)} outputs, fewer than the classes of its own dataset.json; "
                "fetch it again"
            )
    try:
        transfer = load_fitted(network, weights, old_outputs, outputs)
    except ValueError as error:
        raise InputError(
            f"{source.file}: {error} of {plans_file} {configuration}; give a plan whose stages, features and "
            "kernels are those of the checkpoint's plan"
        ) from None
    fitted: dict[str, Any] = {
        "network_weights": network.state_dict(),
        "init_args": {"plans": plans_manager.plans, "configuration": configuration, "dataset_json": dataset_json},
        "trainer_name": trainer.__name__,
        "missu": {"version": __version__},
    }
    write_checkpoint(fitted, out)
    return transfer


def load_fitted(
    network: MISSU, weights: dict[str, Tensor], old_outputs: Sequence[str], outputs: Sequence[str]
) -> Transfer:
    """Load the weights of another MISSU or of a stock U-Net into ``network``, fitted as this module says.

    Args:
        network: the newly initialised network.
        weights: state dict of the other network.
        old_outputs: ``output_names`` of the other network; empty where they mean something else.
        outputs: ``output_names`` of the new network.

    Raises:
        ValueError: if a weight is missing or has a shape that is not changed here; ``network`` then stays as it was.
    """
    renamed, dropped = _aligned_at_finest(weights, len(network.encoder.stages))
    absent = {"bottleneck", "decoder"} - {key.split(".")[0] for key in weights}
    first_convolution = {f"{key}.weight" for key in network.keys_to_in_proj}
    kept = [name for name in outputs if name in old_outputs]
    fitted, new, channels = {}, [], (0, 0)
    # Each tied weight once, by the name that comes first; the state dict lists it under all of its names.
    for key, initial in (*network.named_parameters(), *network.named_buffers()):
        weight = renamed.get(key)
        if weight is not None and weight.ndim != initial.ndim:
            found = f"of shape {tuple(weight.shape)}"
            raise ValueError(f"{key} is {found}, but has the shape {tuple(initial.shape)} in the network")
        if weight is not None and key in first_convolution:
            channels = weight.shape[1], initial.shape[1]
            weight = with_input_channels(weight, initial.shape[1])
        if weight is not None and ".seg_layers." in key and weight.shape[1:] == initial.shape[1:]:
            fitted[key] = initial.detach().clone()
            fitted[key][[*map(outputs.index, kept)]] = weight[[*map(old_outputs.index, kept)]]
        elif weight is not None and weight.shape == initial.shape:
            fitted[key] = weight
        elif ".seg_layers." in key or key.split(".")[0] in absent:
            new.append(_module(key))
        else:
            found = "missing" if weight is None else f"of shape {tuple(weight.shape)}"
            raise ValueError(f"{key} is {found}, but has the shape {tuple(initial.shape)} in the network")
    network.load_state_dict(fitted, strict=False)
    known = network.state_dict().keys()
    dropped += [_block(key) for key in renamed if key not in known and not key.startswith("decoder.encoder.")]
    return Transfer(channels, _unique(dropped), _unique(new), kept, [name for name in outputs if name not in kept])


def with_input_channels(weight: Tensor, channels: int) -> Tensor:
    """Fit the first convolution's weight ``(out, in, D, H, W)`` to another number of input channels, see the module."""
    old = weight.shape[1]
    if old == channels:
        return weight
    mean = weight.mean(dim=1, keepdim=True) * (old / channels)
    return mean.expand(-1, channels, *weight.shape[2:])


def _aligned_at_finest(weights: dict[str, Tensor], n_stages: int) -> tuple[dict[str, Tensor], list[str]]:
    """Weights named as in a network of ``n_stages``, and the modules of the surplus stages, which are dropped.

    The encoder counts its stages from the finest, the decoder from the deepest.

    Raises:
        ValueError: if the weights have too few stages.
    """
    found = {int(match[1]) for key in weights if (match := _ENCODER_STAGE.match(key))}
    surplus = len(found) - n_stages
    if surplus < 0:
        raise ValueError(f"{len(found)} encoder stages, but there are {n_stages} in the network")
    kept, dropped = {}, []
    for key, weight in weights.items():
        stage, level = _ENCODER_STAGE.match(key), _DECODER_LEVEL.match(key)
        if (stage and int(stage[1]) >= n_stages) or (level and int(level["index"]) < surplus):
            dropped.append(_module(key))
        elif level:
            kept[f"{level['part']}{int(level['index']) - surplus}{key[level.end() :]}"] = weight
        else:
            kept[key] = weight
    return kept, dropped


def _module(key: str) -> str:
    """The stage, level or part that a weight belongs to."""
    numbered = re.match(r"[a-z_]+\.[a-z_]+\.\d+", key)
    return numbered[0] if numbered and not key.startswith("bottleneck.") else key.split(".")[0]


def _block(key: str) -> str:
    """The residual block or convolution that a weight belongs to."""
    match = _BLOCK.match(key)
    return match[0] if match else _module(key)


def _unique(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))
