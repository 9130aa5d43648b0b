import copy
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from forked import run
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import nnUNetTrainerNoMirroring
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from PIL import Image
from random_plans import plain_arch_kwargs
from tiny_dataset import LABELS, REGIONS, write_raw_dataset

from missu_nnunet.architecture.configuration import MISSU_CLASS, MISSU_KEYS
from missu_nnunet.architecture.missu import MISSU
from missu_nnunet.errors import InputError
from missu_nnunet.files import PARTIAL
from missu_nnunet.nnunet.fold import Fold
from missu_nnunet.training import variants
from missu_nnunet.training.absent_classes import ABSENT_EPOCHS
from missu_nnunet.training.early_end import STOP_FILE
from missu_nnunet.training.logger import LOSS_TERMS
from missu_nnunet.training.trainer import MAX_NONFINITE_STEPS, MISSUTrainer

LABEL_MODES = {
    "labels": LABELS,
    "regions": REGIONS,
    "ignore": LABELS | {"ignore": 3},
    "regions and ignore": REGIONS | {"ignore": 3},
}


def trainer_of(
    name: str,
    plans: dict,
    dataset_json: dict,
    continue_training: bool = False,
    configuration: str = "3d_fullres",
) -> nnUNetTrainer:
    torch.manual_seed(0)
    np.random.seed(0)
    trainer_class = getattr(variants, name)
    plans = plans | {"continue_training": continue_training}
    return trainer_class(plans, configuration, 0, dataset_json, torch.device("cpu"))


def synthetic_trainer(
    name: str,
    strides: list[list[int]],
    patch_size: list[int],
    labels: dict[str, Any],
    folder: Path,
    configuration: str = "3d_fullres",
) -> nnUNetTrainer:
    """A trainer on a plan of its own, with the loss and network built and no data behind it."""
    names = {"conv_op": "torch.nn.Conv3d", "norm_op": "torch.nn.InstanceNorm3d", "nonlin": "torch.nn.LeakyReLU"}
    if len(patch_size) == 2:
        names |= {"conv_op": "torch.nn.Conv2d", "norm_op": "torch.nn.InstanceNorm2d"}
    plans = {
        "dataset_name": "Dataset902_Synthetic",
        "plans_name": "nnUNetPlans",
        "label_manager": "LabelManager",
        "configurations": {
            "3d_fullres": {
                "data_identifier": "nnUNetPlans_3d_fullres",
                "batch_size": 2,
                "patch_size": patch_size,
                "batch_dice": False,
                "architecture": {
                    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                    "arch_kwargs": plain_arch_kwargs(strides) | names,
                    "_kw_requires_import": list(names),
                },
            },
            "3d_lowres": {"inherits_from": "3d_fullres", "next_stage": "3d_cascade_fullres"},
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        },
    }
    dataset_json = {"channel_names": {"0": "MRI"}, "labels": labels, "numTraining": 5, "file_ending": ".nii.gz"}
    if any(isinstance(value, list) for value in labels.values()):
        dataset_json["regions_class_order"] = [1, 2]
    trainer = trainer_of(name, plans, dataset_json, configuration=configuration)
    data = folder / "nnUNet_preprocessed" / "Dataset902_Synthetic" / "nnUNetPlans_3d_fullres"
    data.mkdir(parents=True, exist_ok=True)
    (data / "case.b2nd").touch()  # by which nnU-Net tells the storage format
    trainer.initialize()
    return trainer


def batch_for(trainer: nnUNetTrainer) -> dict[str, Any]:
    """Random image and labels (the ignore label included) in nnU-Net's form for the trainer's label mode."""
    torch.manual_seed(1)
    patch_size = trainer.configuration_manager.patch_size
    manager = trainer.label_manager
    target = torch.randint(0, 4 if manager.has_ignore_label else 3, (2, 1, *patch_size))
    if manager.has_regions:
        regions = [torch.isin(target, torch.tensor(region)) for region in manager.foreground_regions]
        target = torch.cat([*regions, target == 3] if manager.has_ignore_label else regions, dim=1)
    data = torch.randn(2, trainer.num_input_channels, *patch_size)
    if not trainer.enable_deep_supervision:
        return {"data": data, "target": target.float()}
    scales = np.array(trainer._get_deep_supervision_scales())
    sizes = (scales * patch_size).round().astype(int).tolist()
    levels = [torch.nn.functional.interpolate(target.float(), size=size, mode="nearest-exact") for size in sizes]
    return {"data": data, "target": levels}


STRIDES_3D = [[1, 1, 1]] + [[2, 2, 2]] * 4


@pytest.mark.parametrize("name", ["MISSUTrainer" + variant for variant in variants.VARIANTS])
@pytest.mark.parametrize("mode", LABEL_MODES)
def test_trains_and_validates_in_every_label_mode(name: str, mode: str, nnunet_folders: Path) -> None:
    trainer = synthetic_trainer(name, STRIDES_3D, [32, 16, 16], LABEL_MODES[mode], nnunet_folders)
    trainer.network.train()
    first, *_, last = (float(trainer.train_step(batch_for(trainer))["loss"]) for _ in range(6))
    assert last < first
    trainer.network.eval()
    with torch.no_grad():
        assert np.isfinite(trainer.validation_step(batch_for(trainer))["loss"])


@pytest.mark.parametrize(
    ("strides", "patch_size", "deep_supervision"),
    [
        (STRIDES_3D, [32, 32, 32], True),
        ([[1, 1, 1], [1, 2, 2], [2, 2, 2]], [6, 16, 16], True),
        ([[1, 1, 1], [2, 2, 2]], [12, 12, 12], False),  # nnU-Net's loss weights would be 0/0
        (STRIDES_3D, [33, 19, 25], False),  # nnU-Net's targets would be rounded otherwise
        ([[1, 1]] + [[2, 2]] * 5, [64, 32], True),
        ([[1, 1], [2, 2]], [16, 16], False),
    ],
)
def test_every_topology_trains(
    strides: list[list[int]], patch_size: list[int], deep_supervision: bool, nnunet_folders: Path
) -> None:
    trainer = synthetic_trainer("MISSUTrainer", strides, patch_size, LABELS, nnunet_folders)
    assert trainer.enable_deep_supervision is deep_supervision
    trainer.on_train_epoch_start()
    terms = trainer.train_step(batch_for(trainer))
    assert all(np.isfinite(terms[name]) for name in ("loss", *LOSS_TERMS))
    assert all(p.grad is None or p.grad.isfinite().all() for p in trainer.network.parameters())


def test_cascade_feeds_the_previous_stage_into_the_network(nnunet_folders: Path) -> None:
    trainer = synthetic_trainer(
        "MISSUTrainer", STRIDES_3D, [32, 16, 16], LABELS, nnunet_folders, configuration="3d_cascade_fullres"
    )
    assert trainer.num_input_channels == 3  # the image, and a map of each of the two labels
    trainer.network.train()
    assert np.isfinite(trainer.train_step(batch_for(trainer))["loss"])


@pytest.mark.parametrize(
    ("name", "mode", "distilled"),
    [("MISSUTrainer", "labels", False), ("MISSUTrainer", "ignore", True), ("MISSUTrainerPaper", "labels", True)],
)
def test_loss_terms_add_up(name: str, mode: str, distilled: bool, nnunet_folders: Path) -> None:
    trainer = synthetic_trainer(name, STRIDES_3D, [32, 16, 16], LABEL_MODES[mode], nnunet_folders)
    trainer.network.train()
    terms = trainer.train_step(batch_for(trainer))
    hp = trainer.hyperparameters
    total = terms["seg_loss"] + hp.w_aux * terms["aux_loss"] + hp.w_kd * terms["kd_loss"]
    assert float(terms["loss"]) == pytest.approx(total, rel=1e-5)
    assert (terms["kd_loss"] > 0) is distilled


@pytest.mark.parametrize("name", ["MISSUTrainer", "MISSUTrainerNoDistillation", "MISSUTrainerNoTransformer"])
def test_only_the_transformer_learns_at_a_share_of_the_learning_rate(name: str, nnunet_folders: Path) -> None:
    trainer = synthetic_trainer(name, STRIDES_3D, [32, 16, 16], LABELS, nnunet_folders)
    trainer.on_train_epoch_start()
    names = {id(parameter): name for name, parameter in trainer.network.named_parameters()}
    rates = {names[id(p)]: group["lr"] for group in trainer.optimizer.param_groups for p in group["params"]}
    assert rates.keys() == set(names.values())
    slow = {name for name, rate in rates.items() if rate < max(rates.values())}
    assert slow == {name for name in rates if "bottleneck." in name}
    if slow:
        assert rates[min(slow)] == pytest.approx(max(rates.values()) * trainer.hyperparameters.transformer_lr)


def test_the_average_teaches_where_labels_are_missing_alone(nnunet_folders: Path) -> None:
    for mode, taught in {"labels": False, "ignore": True, "regions and ignore": True}.items():
        trainer = synthetic_trainer("MISSUTrainer", STRIDES_3D, [32, 16, 16], LABEL_MODES[mode], nnunet_folders)
        trainer.network.train()
        batch = batch_for(trainer)
        before = batch["data"].clone()
        trainer.train_step(batch)
        assert (trainer.moving_average is not None) is taught
        assert torch.equal(batch["data"], before)
        if taught:  # the first update takes the network as it is
            weights = zip(trainer.moving_average.module.parameters(), trainer.network.parameters(), strict=True)
            assert all(torch.equal(average, weight) for average, weight in weights)


def test_validation_has_no_teacher(nnunet_folders: Path) -> None:
    trainer = synthetic_trainer("MISSUTrainer", STRIDES_3D, [32, 16, 16], LABEL_MODES["ignore"], nnunet_folders)
    trainer.network.train()
    trainer.train_step(batch_for(trainer))
    trainer.network.eval()
    with torch.no_grad():
        trainer.validation_step(batch_for(trainer))
    assert trainer.loss.terms["kd_loss"] == 0


def test_a_patch_too_small_for_a_transformer_is_refused(nnunet_folders: Path) -> None:
    with pytest.raises(InputError, match="has a single stage for its patch"):
        synthetic_trainer("MISSUTrainer", [[1, 1, 1]], [4, 4, 4], LABELS, nnunet_folders)


def stages_of(trainer: nnUNetTrainer) -> int:
    return len(trainer.network.encoder.stages)


def test_the_network_on_a_plan_of_nnunets_is_written_down(nnunet_folders: Path) -> None:
    trainer = synthetic_trainer("MISSUTrainer", STRIDES_3D, [32, 16, 16], LABELS, nnunet_folders)
    plans = trainer.my_init_kwargs["plans"]
    assert plans == trainer.plans_manager.plans
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    assert architecture["network_class_name"] == MISSU_CLASS
    assert architecture["arch_kwargs"]["stages_below_transformer"] == 1
    stock = get_network_from_plans(*architecture.values(), 1, 3)
    assert stock.state_dict().keys() == trainer.network.state_dict().keys()
    assert stages_of(trainer) == len(STRIDES_3D)


@pytest.mark.parametrize(("damaged", "stages"), [(False, len(STRIDES_3D) - 1), (True, len(STRIDES_3D))])
def test_a_model_keeps_the_former_network_that_it_was_trained_with(
    damaged: bool, stages: int, nnunet_folders: Path
) -> None:
    name = f"MISSUTrainer_{len(STRIDES_3D) + damaged}epochs"
    arguments = (name, STRIDES_3D, [32, 16, 16], LABELS, nnunet_folders)
    trainer = synthetic_trainer(*arguments)
    plans = copy.deepcopy(trainer.plans_manager.plans)
    configuration = plans["configurations"]["3d_fullres"] | {"spacing": [1.0, 1.0, 1.0]}
    for key in MISSU_KEYS:
        del configuration["architecture"]["arch_kwargs"][key]
    plans["configurations"]["3d_fullres"] = configuration
    file = Path(trainer.output_folder_base) / "plans.json"
    file.write_text(json.dumps(plans)[: 100 if damaged else None])
    again = synthetic_trainer(*arguments)
    assert stages_of(again) == stages
    if not damaged:
        manager = PlansManager(plans)
        predicts = type(again).build_network_architecture(manager, manager.get_configuration("3d_fullres"), 1, 3)
        assert predicts.state_dict().keys() == again.network.state_dict().keys()
        assert "transformer" not in json.dumps(again.my_init_kwargs["plans"])


@pytest.fixture(scope="module")
def sparse(nnunet_folders: Path) -> tuple[dict, dict]:
    """``(plans, dataset_json)`` of six cases: some voxels of the first have no label, and none of the last three."""
    from missu_nnunet.planning.planners import MISSUPlannerCPU

    name = write_raw_dataset(nnunet_folders / "nnUNet_raw", 909, labels=LABEL_MODES["ignore"])
    for case in range(1, 6):
        file = nnunet_folders / "nnUNet_raw" / name / "labelsTr" / f"case_{case:03d}.nii.gz"
        label = sitk.ReadImage(str(file))
        sitk.WriteImage(label * (label != 3) if case < 3 else label * 0 + 3, str(file))
    run("nnUNetv2_extract_fingerprint", "-d", 909, "-np", 1)
    planner = MISSUPlannerCPU(name)
    planner.UNet_base_num_features = 4
    planner.plan_experiment()
    run("nnUNetv2_preprocess", "-d", 909, "-plans_name", planner.plans_identifier, "-c", "3d_fullres", "-np", 1)
    folder = nnunet_folders / "nnUNet_preprocessed" / name
    plans = json.loads((folder / f"{planner.plans_identifier}.json").read_text())
    return plans, json.loads((folder / "dataset.json").read_text())


def test_cases_without_a_label_are_learned_from_and_never_validated_on(sparse: tuple[dict, dict]) -> None:
    trainer = trainer_of("MISSUTrainer", *sparse)
    splits = Path(trainer.preprocessed_dataset_folder_base) / "splits_final.json"
    missing = {"case_003", "case_004", "case_005"}
    for made_by_nnunet in (False, True):
        if made_by_nnunet:  # as after a training of stock nnU-Net
            entry = {"train": ["case_000", "case_001", "case_003", "case_004"], "val": ["case_002", "case_005"]}
            splits.write_text(json.dumps([entry]))
        training, validation = trainer.do_split()
        assert missing < set(training)
        assert len(validation) == 1
        assert not missing.intersection(validation)
        assert len({*training, *validation}) == 6
    splits.write_text(json.dumps([{"train": sorted(missing), "val": ["case_000"]}]))
    with pytest.raises(InputError, match="no labelled training case"):
        trainer.do_split()
    splits.write_text(json.dumps([{"train": ["case_000", "new"], "val": ["case_001"]}]))
    with pytest.raises(InputError, match=r"splits_final.json: found new, which is not .* preprocess the dataset again"):
        trainer.do_split()
    splits.unlink()


def test_without_a_teacher_cases_without_a_label_are_left_out(sparse: tuple[dict, dict]) -> None:
    for name, drawn in (("MISSUTrainer", 3 + 3 * 2), ("MISSUTrainerNoDistillation", 2)):
        trainer = trainer_of(name, *sparse)
        trainer.initialize()
        training, validation = trainer.get_tr_and_val_datasets()
        assert len(training.identifiers) == drawn
        assert len(validation.identifiers) == 1


@pytest.mark.parametrize("missing", [["case_000"], ["case_003"], []])
def test_an_ignore_label_that_no_training_case_has_brings_no_teacher(
    sparse: tuple[dict, dict], missing: list[str]
) -> None:
    trainer = trainer_of("MISSUTrainer", *sparse)
    splits = Path(trainer.preprocessed_dataset_folder_base) / "splits_final.json"
    splits.write_text(json.dumps([{"train": ["case_001", *missing], "val": ["case_002"]}]))
    trainer.initialize()
    trainer.moving_average = trainer._new_moving_average()  # as a checkpoint from before brings it
    trainer.get_tr_and_val_datasets()
    splits.unlink()
    assert trainer.teaches_missing_labels is bool(missing)
    assert (trainer.moving_average is not None) is bool(missing)


@pytest.mark.parametrize("missing", [["case_000"], []])
def test_normalisation_by_a_mask_is_warned_of_where_labels_are_missing(
    sparse: tuple[dict, dict], missing: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    plans, dataset_json = copy.deepcopy(sparse)
    plans["configurations"]["3d_fullres"]["use_mask_for_norm"] = [True]
    trainer = trainer_of("MISSUTrainer", plans, dataset_json)
    splits = Path(trainer.preprocessed_dataset_folder_base) / "splits_final.json"
    splits.write_text(json.dumps([{"train": ["case_001", *missing], "val": ["case_002"]}]))
    trainer.on_train_start()
    splits.unlink()
    assert ("WARNING: the plans have use_mask_for_norm" in capsys.readouterr().out) is bool(missing)


def test_a_second_stage_leaves_cases_without_a_label_out(
    sparse: tuple[dict, dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of("MISSUTrainer", *sparse)
    monkeypatch.setattr(trainer, "is_cascaded", True)
    monkeypatch.setattr(trainer, "folder_with_segs_from_previous_stage", None)
    assert set(trainer.get_tr_and_val_datasets()[0].identifiers) <= {"case_000", "case_001", "case_002"}


def test_a_teacher_begins_where_an_ignore_label_has_come(sparse: tuple[dict, dict], tmp_path: Path) -> None:
    plans, dataset_json = sparse
    labels = {name: label for name, label in dataset_json["labels"].items() if name != "ignore"}
    before = trainer_of("MISSUTrainer", plans, dataset_json | {"labels": labels})
    before.initialize()
    before.save_checkpoint(str(tmp_path / "checkpoint.pth"))
    trainer = trainer_of("MISSUTrainer", *sparse)
    trainer.load_checkpoint(str(tmp_path / "checkpoint.pth"))
    assert trainer.moving_average is None
    assert same_state(trainer.network, before.network)


def test_unlabelled_cases_come_beyond_the_batch_and_are_mixed_alone(sparse: tuple[dict, dict]) -> None:
    trainer = trainer_of("MISSUTrainer", *sparse)
    trainer.on_train_start()
    batch_size = trainer.configuration_manager.batch_size
    mixed = (batch_size + 1) // 2
    batch = next(trainer.dataloader_train)
    assert len(batch["data"]) == batch_size + mixed
    given: list[torch.Tensor] = []
    trainer.network.train()
    trainer.moving_average = trainer._new_moving_average()  # before the hook, which it would copy
    trainer.network.register_forward_pre_hook(lambda network, arguments: given.append(arguments[0]))
    batch["keys"] = ["case_003"] * mixed + ["case_000"] * batch_size
    assert np.isfinite(trainer.train_step(batch)["loss"])
    assert torch.equal(given[0][:batch_size], batch["data"][mixed:].flip(0))
    assert len(given[0]) == batch_size + mixed
    for patch in given[0][batch_size:]:
        shares = [(patch == source).float().mean() for source in batch["data"][:mixed]]
        assert max(shares) > 0.4


@pytest.fixture(scope="module")
def finished(sparse: tuple[dict, dict]) -> MISSUTrainer:
    """A training that ran through with a teacher, on real files."""
    trainer = trainer_of("MISSUTrainer_2epochs_2iters", *sparse)
    trainer.run_training()
    return trainer


def checkpoint_of(trainer: nnUNetTrainer, name: str = "checkpoint_final.pth") -> dict[str, Any]:
    return torch.load(Path(trainer.output_folder) / name, weights_only=False)


def test_checkpoint_holds_the_inference_network_and_the_teachers_beside_it(
    finished: MISSUTrainer, sparse: tuple[dict, dict]
) -> None:
    checkpoint = checkpoint_of(finished)
    alone = trainer_of("MISSUTrainerNoDistillation_2epochs_2iters", *sparse)
    alone.initialize()
    assert checkpoint["network_weights"].keys() == alone.network.state_dict().keys()
    assert checkpoint["missu"]["teacher_weights"]["n_averaged"] == 4
    assert checkpoint["missu"]["hyperparameters"]["w_kd"] == finished.hyperparameters.w_kd
    assert not list(Path(finished.output_folder).glob(f"{PARTIAL}*"))


def test_log_has_one_value_per_epoch_of_every_term(finished: MISSUTrainer) -> None:
    logged = checkpoint_of(finished)["logging"]
    assert {len(logged[term]) for term in LOSS_TERMS} == {2}
    log = "".join(file.read_text() for file in Path(finished.output_folder).glob("training_log*.txt"))
    assert log.count("loss terms: segmentation") == 2
    assert "w_kd=" in log


def test_progress_png_is_nnunets_figure_with_a_panel_below(finished: MISSUTrainer) -> None:
    with Image.open(Path(finished.output_folder) / "progress.png") as image:
        assert image.height > image.width * 54 / 30


def test_training_goes_on_where_it_stopped(finished: MISSUTrainer, sparse: tuple[dict, dict]) -> None:
    resumed = trainer_of("MISSUTrainer_2epochs_2iters", *sparse, continue_training=True)
    resumed.load_checkpoint(str(Path(finished.output_folder) / "checkpoint_final.pth"))
    assert resumed.current_epoch == 2
    for mine, theirs in zip(resumed.network.parameters(), finished.network.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    moments = [trainer.optimizer.state_dict()["state"] for trainer in (resumed, finished)]
    assert all(torch.equal(moments[0][i]["exp_avg"], moments[1][i]["exp_avg"]) for i in moments[1])


def test_a_checkpoint_of_another_optimiser_is_refused(
    finished: MISSUTrainer, sparse: tuple[dict, dict], tmp_path: Path
) -> None:
    checkpoint = checkpoint_of(finished)
    first, second, *_ = checkpoint["optimizer_state"]["param_groups"]
    checkpoint["optimizer_state"]["param_groups"] = [first | {"params": first["params"] + second["params"]}]
    torch.save(checkpoint, tmp_path / "checkpoint_latest.pth")
    with pytest.raises(InputError, match=r"another version of MISSU.*train anew with -pretrained_weights"):
        trainer_of(type(finished).__name__, *sparse).load_checkpoint(str(tmp_path / "checkpoint_latest.pth"))


def test_interrupted_write_leaves_the_checkpoint_before(
    finished: MISSUTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path(finished.output_folder) / "checkpoint_final.pth"
    before = file.read_bytes()

    def killed(source: str, target: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        finished.save_checkpoint(str(file))
    assert file.read_bytes() == before


def test_predictor_builds_the_network_that_was_trained(finished: MISSUTrainer) -> None:
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(finished.output_folder_base, (0,))
    predictor.network.eval()
    finished.set_deep_supervision_enabled(False)
    finished.network.eval()
    x = torch.randn(1, 1, *finished.configuration_manager.patch_size)
    with torch.no_grad():
        assert torch.equal(predictor.network(x), finished.network(x))


def test_continued_training_ends_with_the_same_weights_bit_for_bit(
    sparse: tuple[dict, dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISSU_SEED", "7")
    torch.set_num_threads(1)  # sums over several threads have no fixed order
    name = "MISSUTrainerNoTransformer_3epochs_3iters"  # a folder of its own

    through = trainer_of(name, *sparse)
    through.run_training()

    interrupted = trainer_of(name, *sparse)
    interrupted.save_every = 1
    steps = iter(range(4))  # in the middle of the second epoch

    def step_until_interrupted(batch: dict) -> dict:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return type(interrupted).train_step(interrupted, batch)

    interrupted.train_step = step_until_interrupted
    with pytest.raises(KeyboardInterrupt):
        interrupted.run_training()

    continued = trainer_of(name, *sparse, continue_training=True)
    continued.load_checkpoint(str(Path(interrupted.output_folder) / "checkpoint_latest.pth"))
    assert continued.current_epoch == 1
    continued.run_training()
    for mine, theirs in zip(continued.network.parameters(), through.network.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert same_state(continued.moving_average, through.moving_average)


def same_state(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    return all(torch.equal(mine, second.state_dict()[key]) for key, mine in first.state_dict().items())


def test_nonfinite_loss_skips_the_step_is_counted_and_finally_stops(nnunet_folders: Path) -> None:
    trainer = synthetic_trainer("MISSUTrainer", STRIDES_3D, [32, 16, 16], LABELS, nnunet_folders)
    trainer.network.train()
    broken = batch_for(trainer)
    broken["data"][0, 0, 0, 0, 0] = float("nan")
    good = trainer.train_step(batch_for(trainer))
    before = [p.clone() for p in trainer.network.parameters()]
    outputs = [good, *(trainer.train_step(broken) for _ in range(MAX_NONFINITE_STEPS - 1))]
    assert all(torch.equal(p, b) for p, b in zip(trainer.network.parameters(), before, strict=True))
    trainer.on_train_epoch_end(outputs)
    assert trainer.logger.get_value("train_losses", 0) == pytest.approx(float(good["loss"]))
    assert f"steps skipped: {MAX_NONFINITE_STEPS - 1}" in Path(trainer.log_file).read_text()
    with pytest.raises(RuntimeError, match="not finite in 10 steps in a row"):
        trainer.train_step(broken)


def test_a_good_step_resets_the_count(nnunet_folders: Path) -> None:
    trainer = synthetic_trainer("MISSUTrainer", STRIDES_3D, [32, 16, 16], LABELS, nnunet_folders)
    trainer.network.train()
    broken = batch_for(trainer)
    broken["data"][:] = float("inf")
    trainer.train_step(broken)
    assert trainer.nonfinite_steps == 1
    assert np.isfinite(trainer.train_step(batch_for(trainer))["loss"])
    assert trainer.nonfinite_steps == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mode", ["labels", "ignore"])
def test_half_precision_skips_what_the_gradient_scaler_skips(
    dtype: torch.dtype, mode: str, nnunet_folders: Path
) -> None:
    """As nnU-Net trains on CUDA: an overflowing scale is no broken loss, a skipped step moves no learning rate."""
    trainer = synthetic_trainer("MISSUTrainer", STRIDES_3D, [32, 16, 16], LABEL_MODES[mode], nnunet_folders)
    trainer.grad_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    trainer.optimizer, trainer.lr_scheduler = trainer.configure_optimizers()
    trainer.on_train_epoch_start()
    trainer.network.train()
    good, broken = batch_for(trainer), batch_for(trainer)
    broken["data"][:] = float("nan")
    skipped = []
    for batch in [good] * 12 + [broken] * 2 + [good]:
        scale, weights = trainer.grad_scaler.get_scale(), [p.clone() for p in trainer.network.parameters()]
        with torch.autocast("cpu", dtype=dtype):
            outputs = trainer.train_step(batch)
        skipped.append(trainer.grad_scaler.get_scale() < scale)
        assert all(map(torch.equal, weights, trainer.network.parameters())) is skipped[-1]
        assert np.isfinite(outputs["loss"]) is np.bool_(batch is good)
        assert trainer.nonfinite_steps == (0 if batch is good else skipped[12:].count(True))
        assert trainer.lr_scheduler.iteration == skipped.count(False)
    overflows = dtype == torch.float16
    assert skipped[0] is overflows
    assert skipped[-4:] == [False, True, True, False]


@pytest.mark.parametrize("how", ["stop file", "patience", "sigterm"])
def test_a_training_ends_in_order_before_its_last_epoch(how: str, sparse: tuple[dict, dict]) -> None:
    name = "MISSUTrainer_9epochs_1iters" + ("_1patience" if how == "patience" else "")
    trainer = trainer_of(name, *sparse)
    folder = Path(trainer.output_folder)
    (folder / STOP_FILE).touch()  # left by an earlier training, whose end it was meant for
    validate = trainer.validation_step

    def worse_each_time(batch: dict) -> dict:
        if trainer.current_epoch == 1:
            if how == "stop file":
                (folder / STOP_FILE).touch()
            if how == "sigterm":
                signal.raise_signal(signal.SIGTERM)
        outputs = validate(batch)
        perfect = {"tp_hard": np.array([1.0, 1.0]), "fp_hard": np.zeros(2), "fn_hard": np.zeros(2)}
        return outputs | perfect if trainer.current_epoch == 0 and how == "patience" else outputs

    trainer.validation_step = worse_each_time
    if how == "sigterm":
        with pytest.raises(SystemExit) as end:
            trainer.run_training()
        assert end.value.code == 143
        assert torch.load(folder / "checkpoint_latest.pth", weights_only=False)["current_epoch"] == 2
        assert not (folder / "checkpoint_final.pth").exists()
        assert Fold(folder).early_end() is None
    else:
        trainer.run_training()
        checkpoint = checkpoint_of(trainer)
        assert checkpoint["current_epoch"] == 2
        assert checkpoint["missu"]["ended"] in Fold(folder).early_end()
        assert Fold(folder).early_end().startswith("2 of 9 epochs: ")
        assert not (folder / "checkpoint_latest.pth").exists()
        again = trainer_of(name, *sparse, continue_training=True)
        again.load_checkpoint(str(folder / "checkpoint_final.pth"))
        again.run_training()  # as --c does, after which it validates
        assert again.current_epoch == 2
        assert checkpoint_of(again)["missu"]["ended"] == checkpoint["missu"]["ended"]
    shutil.rmtree(folder)


@pytest.mark.parametrize("mode", ["labels", "regions"])
def test_class_weights_weigh_the_cross_entropy(mode: str, nnunet_folders: Path) -> None:
    losses = []
    for weights in (None, (1.0,) * (3 if mode == "labels" else 2), (1.0, 5.0, 5.0) if mode == "labels" else (5.0, 5.0)):
        hyperparameters = replace(MISSUTrainer.hyperparameters, class_weights=weights)
        weighted = type("MISSUTrainerWeighted", (MISSUTrainer,), {"hyperparameters": hyperparameters})
        variants.MISSUTrainerWeighted = weighted
        trainer = synthetic_trainer("MISSUTrainerWeighted", STRIDES_3D, [32, 16, 16], LABEL_MODES[mode], nnunet_folders)
        trainer.network.train()
        losses.append(float(trainer.train_step(batch_for(trainer))["loss"]))
    assert losses[0] == pytest.approx(losses[1])
    assert losses[2] != pytest.approx(losses[0], rel=1e-3)
    del variants.MISSUTrainerWeighted


def test_a_missing_class_weight_is_refused(nnunet_folders: Path) -> None:
    hyperparameters = replace(MISSUTrainer.hyperparameters, class_weights=(1.0, 2.0))
    variants.MISSUTrainerWeighted = type("MISSUTrainerWeighted", (MISSUTrainer,), {"hyperparameters": hyperparameters})
    labels = {"background": 0, "core": 2, "shell": 1, "ignore": 3}
    with pytest.raises(InputError, match=r"expected 3, in this order for background, shell, core$"):
        synthetic_trainer("MISSUTrainerWeighted", STRIDES_3D, [32, 16, 16], labels, nnunet_folders)
    del variants.MISSUTrainerWeighted


def test_nnunets_variants_combine_with_missus(nnunet_folders: Path) -> None:
    trainer_class = type("MISSUTrainerNoMirroring", (MISSUTrainer, nnUNetTrainerNoMirroring), {})
    variants.MISSUTrainerNoMirroring = trainer_class
    for name, mirrored in (("MISSUTrainer", (0, 1, 2)), ("MISSUTrainerNoMirroring", None)):
        trainer = synthetic_trainer(name, STRIDES_3D, [32, 16, 16], LABELS, nnunet_folders)
        trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        assert trainer.inference_allowed_mirroring_axes == mirrored
        assert isinstance(trainer.network, MISSU)
    del variants.MISSUTrainerNoMirroring


@pytest.mark.parametrize("mode", ["labels", "regions", "ignore"])
def test_a_class_that_is_not_learned_is_named(mode: str, nnunet_folders: Path) -> None:
    trainer = synthetic_trainer("MISSUTrainer", STRIDES_3D, [32, 16, 16], LABEL_MODES[mode], nnunet_folders)
    trainer.logger.local_logger.my_fantastic_logging["dice_per_class_or_region"] = [[0.4, 0.0]] * ABSENT_EPOCHS
    trainer._warn_of_absent_classes()
    log = Path(trainer.log_file).read_text()
    assert "no voxel of core was rightly predicted in the last 10 epochs" in log
    assert "of shell" not in log
    assert "of whole" not in log
