from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoints import LABELS, dataset_json, initialized, saved, tiny_plans, write_plans
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor, nn

from missu_nnunet.architecture.missu import MISSU
from missu_nnunet.errors import InputError
from missu_nnunet.nnunet.checkpoint import read_checkpoint
from missu_nnunet.training import variants
from missu_nnunet.training.trainer import MISSUTrainer
from missu_nnunet.weights.inspection import inspect_file
from missu_nnunet.weights.transfer import adapt, from_nnssl, from_nnunet, with_input_channels

MORE_LABELS = LABELS | {"rim": 3, "spot": 4}
NoTransformer = variants.MISSUTrainerNoTransformer


def missu_of(trainer: nnUNetTrainer) -> MISSU:
    return trainer.network.network if hasattr(trainer.network, "network") else trainer.network


def features(network: MISSU, x: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return network.eval().decoder.features(network.encode(x))


def stock(plans: dict, dataset: dict, folder: Path) -> tuple[nnUNetTrainer, Path]:
    trainer = initialized(nnUNetTrainer, plans, dataset)
    return trainer, saved(trainer, folder / "stock.pth")


def outputs(network: nn.Module, x: Tensor) -> Tensor:
    network.eval()
    network.decoder.deep_supervision = False
    with torch.no_grad():
        return network(x)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("trainer_class", [MISSUTrainer, NoTransformer])
@pytest.mark.parametrize(
    ("patch_size", "channels", "labels"), [(24, 1, LABELS), (16, 3, LABELS), (16, 1, MORE_LABELS), (24, 2, MORE_LABELS)]
)
def test_adapted_weights_load_as_nnunets_pretrained_weights(
    trainer_class: type[MISSUTrainer],
    residual: bool,
    patch_size: int,
    channels: int,
    labels: dict,
    nnunet_folders: Path,
    tmp_path: Path,
) -> None:
    old = initialized(trainer_class, tiny_plans(residual=residual), dataset_json())
    plans, dataset = tiny_plans(patch_size=patch_size, residual=residual), dataset_json(channels, labels)
    checkpoint, out = saved(old, tmp_path / "old.pth"), tmp_path / "adapted.pth"
    transfer = adapt(checkpoint, out, write_plans(tmp_path, plans, dataset), "3d_fullres")
    assert transfer.input_channels == (1, channels)
    assert transfer.dropped == transfer.new == []
    assert transfer.kept_classes == list(LABELS)
    assert transfer.new_classes == [name for name in labels if name not in LABELS]

    new = initialized(trainer_class, plans, dataset)
    load_pretrained_weights(new.network, out)
    x = torch.randn(1, 1, *[patch_size] * 3)
    same_in_every_channel = x.expand(-1, channels, -1, -1, -1)
    for mine, theirs in zip(features(missu_of(new), same_in_every_channel), features(missu_of(old), x), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


OTHER_LABELS = {"background": 0, "core": 1, "rim": 2, "shell": 3}
REGIONS = {"background": 0, "whole": [1, 2], "core": [2]}
OTHER_REGIONS = {"background": 0, "core": [1], "whole": [1, 2, 3], "rim": [3], "ignore": 4}


@pytest.mark.parametrize(
    ("before", "after", "outputs"),
    [
        (LABELS, OTHER_LABELS, {0: 0, 2: 1, 1: 3}),
        (OTHER_LABELS, LABELS, {0: 0, 1: 2, 3: 1}),
        (LABELS, {"background": 0, "core": [1], "shell": [2]}, {0: 0, 2: 1, 1: 2}),
        (REGIONS, OTHER_REGIONS, {0: 1, 1: 0}),
        (LABELS, {"background": 0, "skin": 1, "bone": 2}, {0: 0}),
        (LABELS, REGIONS, {}),
    ],
)
def test_outputs_follow_their_classes_names(
    before: dict, after: dict, outputs: dict[int, int], nnunet_folders: Path, tmp_path: Path
) -> None:
    old_dataset, new_dataset = (dataset_json(labels=labels) for labels in (before, after))
    for dataset in (old_dataset, new_dataset):
        foreground = [labels for name, labels in dataset["labels"].items() if name not in ("background", "ignore")]
        dataset["regions_class_order"] = list(range(1, len(foreground) + 1))
    checkpoint = saved(initialized(MISSUTrainer, tiny_plans(), old_dataset), tmp_path / "old.pth")
    out = tmp_path / "adapted.pth"
    adapt(checkpoint, out, write_plans(tmp_path, tiny_plans(), new_dataset), "3d_fullres")
    old, new = (read_checkpoint(file, "it")["network_weights"] for file in (checkpoint, out))
    layers = [key for key in new if ".seg_layers." in key]
    assert len(layers) == 4  # weight and bias of two levels
    for key in layers:
        found = {
            theirs: mine
            for mine, row in enumerate(new[key])
            for theirs, other in enumerate(old[key])
            if torch.equal(row, other)
        }
        assert found == outputs


def test_a_training_begins_with_all_adapted_weights(nnunet_folders: Path, tmp_path: Path) -> None:
    checkpoint = saved(initialized(MISSUTrainer, tiny_plans(), dataset_json()), tmp_path / "old.pth")
    out = tmp_path / "checkpoint_latest.pth"
    adapt(checkpoint, out, write_plans(tmp_path, tiny_plans(), dataset_json(labels=OTHER_LABELS)), "3d_fullres")
    trainer = initialized(MISSUTrainer, tiny_plans(), dataset_json(labels=OTHER_LABELS))
    trainer.load_checkpoint(str(out))
    assert trainer.current_epoch == 0
    for key, weight in read_checkpoint(out, "it")["network_weights"].items():
        assert torch.equal(trainer.network.state_dict()[key], weight)
    best = saved(trainer, tmp_path / "checkpoint_best.pth")
    assert out.exists()  # it lies elsewhere
    trainer.output_folder = str(tmp_path)
    trainer.load_checkpoint(str(out))
    saved(trainer, best)
    assert not out.exists()  # --c would take it first, and begin again
    saved(trainer, out)
    saved(trainer, best)
    assert out.exists()


def test_a_network_that_is_no_longer_made_is_refused(nnunet_folders: Path, tmp_path: Path) -> None:
    file = saved(initialized(MISSUTrainer, tiny_plans(), dataset_json()), tmp_path / "old.pth")
    checkpoint = torch.load(file, weights_only=False)
    checkpoint["init_args"]["plans"] = tiny_plans()
    torch.save(checkpoint, file)
    with pytest.raises(InputError, match=r"old\.pth: trained on a plan of nnU-Net's by a former version"):
        adapt(file, tmp_path / "out.pth", write_plans(tmp_path, tiny_plans(), dataset_json()), "3d_fullres")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weight: weight[:1], r"seg_layers\.\d\.\w+ has 1 outputs, fewer than the classes of its own dataset"),
        (lambda weight: weight.long(), r"seg_layers\.\d\.\w+ holds numbers of type torch.int64"),
        (lambda weight: weight * float("nan"), r"seg_layers\.\d\.\w+ holds NaN or infinite values"),
    ],
)
def test_weights_that_no_training_leaves_are_refused(
    nnunet_folders: Path, tmp_path: Path, change: Callable[[Tensor], Tensor], message: str
) -> None:
    file = saved(initialized(MISSUTrainer, tiny_plans(), dataset_json()), tmp_path / "old.pth")
    checkpoint = torch.load(file, weights_only=False)
    weights = checkpoint["network_weights"]
    weights |= {key: change(weight) for key, weight in weights.items() if ".seg_layers." in key}
    torch.save(checkpoint, file)
    with pytest.raises(InputError, match=message):
        adapt(file, tmp_path / "out.pth", write_plans(tmp_path, tiny_plans(), dataset_json()), "3d_fullres")
    assert not (tmp_path / "out.pth").exists()


def test_fewer_channels_keep_the_response_to_equal_ones(nnunet_folders: Path, tmp_path: Path) -> None:
    old = initialized(MISSUTrainer, tiny_plans(), dataset_json(channels=4))
    out = tmp_path / "adapted.pth"
    adapt(saved(old, tmp_path / "old.pth"), out, write_plans(tmp_path, tiny_plans(), dataset_json(2)), "3d_fullres")
    new = initialized(MISSUTrainer, tiny_plans(), dataset_json(2))
    load_pretrained_weights(new.network, out)
    x = torch.randn(1, 1, 16, 16, 16)
    mine = features(missu_of(new), x.expand(-1, 2, -1, -1, -1))
    theirs = features(missu_of(old), x.expand(-1, 4, -1, -1, -1))
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_the_first_convolution_answers_to_equal_channels_as_before(channels: int) -> None:
    # In a network the normalisation behind it would hide a wrong scale.
    weight, x = torch.randn(4, 3, 3, 3), torch.randn(1, 1, 8, 8)
    before = torch.conv2d(x.expand(-1, 3, -1, -1), weight)
    after = torch.conv2d(x.expand(-1, channels, -1, -1), with_input_channels(weight, channels))
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


def test_result_is_small_and_passes_inspection(missu_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "adapted.pth"
    adapt(missu_checkpoint, out, write_plans(tmp_path, tiny_plans(), dataset_json()), "3d_fullres")
    (before,), (after,) = inspect_file(missu_checkpoint), inspect_file(out)
    assert after.parameters == before.parameters
    assert after.bytes == {"network_weights": before.bytes["network_weights"]}
    assert after.trainer == "MISSUTrainer"


@pytest.mark.parametrize(("residual", "dim"), [(False, 3), (True, 3), (False, 2)])
def test_warm_start_gives_the_stock_networks_outputs_bit_for_bit(
    residual: bool, dim: int, nnunet_folders: Path, tmp_path: Path
) -> None:
    plans, dataset = tiny_plans(residual=residual, dim=dim), dataset_json(channels=2)
    trainer, checkpoint = stock(plans, dataset, tmp_path)
    (configuration,) = plans["configurations"]
    out = tmp_path / "warm.pth"
    transfer = from_nnunet(checkpoint, out, write_plans(tmp_path, plans, dataset), configuration)
    assert transfer.dropped == []
    assert transfer.new == ["bottleneck"]

    missu = missu_of(initialized(MISSUTrainer, plans, dataset))
    missu.load_state_dict(read_checkpoint(out, "it")["network_weights"])
    x = torch.randn(2, 2, *[16] * dim)
    assert torch.equal(outputs(missu, x), outputs(trainer.network, x))

    # nnU-Net starts the segmentation layers anew; below them all is equal.
    pretrained = initialized(MISSUTrainer, plans, dataset)
    load_pretrained_weights(pretrained.network, out)
    assert torch.equal(features(missu_of(pretrained), x)[0], features(missu, x)[0])


def test_warm_start_drops_the_stages_that_the_plan_has_not(nnunet_folders: Path, tmp_path: Path) -> None:
    dataset = dataset_json()
    trainer, checkpoint = stock(tiny_plans(n_stages=6, patch_size=32), dataset, tmp_path)
    plans, out = tiny_plans(n_stages=4, patch_size=32), tmp_path / "warm.pth"
    transfer = from_nnunet(checkpoint, out, write_plans(tmp_path, plans, dataset), "3d_fullres")
    assert transfer.dropped == [
        *("encoder.stages.4", "encoder.stages.5", "decoder.stages.0", "decoder.stages.1"),
        *("decoder.transpconvs.0", "decoder.transpconvs.1", "decoder.seg_layers.0", "decoder.seg_layers.1"),
    ]
    missu = missu_of(initialized(MISSUTrainer, plans, dataset))
    missu.load_state_dict(read_checkpoint(out, "it")["network_weights"])
    x = torch.randn(1, 1, 64, 32, 32)
    with torch.no_grad():
        skips = trainer.network.encoder(x)
        # The stock decoder from MISSU's bottleneck on: what of it is left must be what MISSU got.
        for mine, theirs in zip(missu.encode(x), skips, strict=False):
            assert torch.equal(mine, theirs)
        y = skips[3]
        for level in range(2, 5):
            y = trainer.network.decoder.transpconvs[level](y)
            y = trainer.network.decoder.stages[level](torch.cat((y, skips[4 - level]), dim=1))
        assert torch.equal(missu.decoder.features(missu.encode(x))[0], y)


@pytest.mark.parametrize("residual", [False, True])
def test_warm_start_names_the_blocks_that_gave_way_to_the_transformer(
    residual: bool, nnunet_folders: Path, tmp_path: Path
) -> None:
    blocks, block = ("n_blocks_per_stage", "blocks.1") if residual else ("n_conv_per_stage", "0.convs.1")
    plans = {n: tiny_plans(residual=residual) for n in (1, 2)}
    for n, it in plans.items():
        it["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"][blocks] = [1, n, 1]
    _, checkpoint = stock(plans[2], dataset_json(), tmp_path)
    plans_file = write_plans(tmp_path, plans[1], dataset_json())
    transfer = from_nnunet(checkpoint, tmp_path / "warm.pth", plans_file, "3d_fullres")
    assert transfer.dropped == [f"encoder.stages.1.{block}"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"base_features": 8},
            r"encoder\.stages\.0.* is of shape \(4, 1, 3, 3, 3\), but has the shape \(8, 1, 3, 3, 3\)",
        ),
        ({"residual": True}, r"encoder\.\S+ is missing"),
        ({"n_stages": 4, "patch_size": 32}, "3 encoder stages, but there are 4"),
    ],
)
@pytest.mark.parametrize("transfer", [adapt, from_nnunet])
def test_another_architecture_is_refused(
    transfer: Callable, changes: dict, message: str, nnunet_folders: Path, tmp_path: Path
) -> None:
    trainer_class = MISSUTrainer if transfer is adapt else nnUNetTrainer
    checkpoint = saved(initialized(trainer_class, tiny_plans(), dataset_json()), tmp_path / "old.pth")
    plans_file = write_plans(tmp_path, tiny_plans(**changes), dataset_json())
    with pytest.raises(InputError, match=message) as raised:
        transfer(checkpoint, tmp_path / "out.pth", plans_file, "3d_fullres")
    assert str(raised.value).startswith(f"{checkpoint}: ")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out.pth").exists()


@pytest.mark.parametrize("part", [".0.convs.0.conv.weight", "seg_layers.1.bias"])
def test_weights_of_other_axes_are_refused(part: str, nnunet_folders: Path, tmp_path: Path) -> None:
    checkpoint = saved(initialized(nnUNetTrainer, tiny_plans(), dataset_json()), tmp_path / "old.pth")
    content = torch.load(checkpoint, weights_only=False)
    weights = content["network_weights"]
    weights |= {key: value.sum() for key, value in weights.items() if part in key}
    torch.save(content, checkpoint)
    plans_file = write_plans(tmp_path, tiny_plans(), dataset_json())
    with pytest.raises(InputError, match=rf"{part} is of shape \(\), but has the shape"):
        from_nnunet(checkpoint, tmp_path / "out.pth", plans_file, "3d_fullres")


def test_each_command_names_the_other(missu_checkpoint: Path, nnunet_folders: Path, tmp_path: Path) -> None:
    plans_file = write_plans(tmp_path, tiny_plans(), dataset_json())
    _, stock_checkpoint = stock(tiny_plans(), dataset_json(), tmp_path)
    with pytest.raises(InputError, match="use missu weights adapt"):
        from_nnunet(missu_checkpoint, tmp_path / "out.pth", plans_file, "3d_fullres")
    with pytest.raises(InputError, match="use missu weights from-nnunet"):
        adapt(stock_checkpoint, tmp_path / "out.pth", plans_file, "3d_fullres")


def test_a_network_of_another_kind_is_refused(nnunet_folders: Path, tmp_path: Path) -> None:
    _, checkpoint = stock(tiny_plans(), dataset_json(), tmp_path)
    content = torch.load(checkpoint, weights_only=False)
    content["network_weights"] = {"vit.blocks.0.weight": torch.zeros(3)}
    torch.save(content, checkpoint)
    plans_file = write_plans(tmp_path, tiny_plans(), dataset_json())
    with pytest.raises(InputError, match="0 encoder stages, but there are 3 in the network"):
        from_nnunet(checkpoint, tmp_path / "out.pth", plans_file, "3d_fullres")


def pretrained(weights: dict[str, Tensor], file: Path) -> Path:
    """A checkpoint as nnssl publishes it."""
    plan = {"architecture_plans": {"arch_class_name": "ResEncL"}, "key_to_encoder": "encoder.stages"}
    torch.save({"network_weights": weights, "citations": [], "nnssl_adaptation_plan": plan}, file)
    return file


@pytest.mark.parametrize("n_stages", [3, 5])
def test_an_encoder_of_nnssl_is_taken_and_the_rest_begins_anew(
    n_stages: int, nnunet_folders: Path, tmp_path: Path
) -> None:
    of_nnssl = tiny_plans(n_stages=n_stages, patch_size=32, residual=True)
    theirs = initialized(nnUNetTrainer, of_nnssl, dataset_json()).network.state_dict()
    plans = tiny_plans(patch_size=32, residual=True)
    checkpoint = pretrained(theirs, tmp_path / "nnssl.pth")
    out = tmp_path / "started.pth"
    transfer = from_nnssl(checkpoint, out, write_plans(tmp_path, plans, dataset_json(2)), "3d_fullres")
    assert transfer.input_channels == (1, 2)
    assert (transfer.dropped == []) is (n_stages == 3)
    assert transfer.kept_classes == []
    assert {name.split(".")[0] for name in transfer.new} == {"bottleneck", "decoder"}
    trainer = initialized(MISSUTrainer, plans, dataset_json(2))
    load_pretrained_weights(trainer.network, out)
    mine = missu_of(trainer).state_dict()
    taken = [key for key in mine if key.startswith("encoder.") and mine[key].shape == theirs[key].shape]
    assert len(taken) > 20
    assert all(torch.equal(mine[key], theirs[key]) for key in taken)


def test_other_pretraining_is_refused(missu_checkpoint: Path, tmp_path: Path) -> None:
    plans_file = write_plans(tmp_path, tiny_plans(), dataset_json())
    transformer = pretrained({"eva.blocks.0.weight": torch.zeros(3)}, tmp_path / "primus.pth")
    with pytest.raises(InputError, match="no weights of an encoder of nnU-Net's U-Nets"):
        from_nnssl(transformer, tmp_path / "out.pth", plans_file, "3d_fullres")
    with pytest.raises(InputError, match="expected a checkpoint of nnssl"):
        from_nnssl(missu_checkpoint, tmp_path / "out.pth", plans_file, "3d_fullres")
