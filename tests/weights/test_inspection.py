import io
import json
import os
import pickle
import shutil
import stat
import zipfile
from pathlib import Path

import pytest
import torch
from checkpoints import DATASET, dataset_json, initialized, saved, tiny_plans, train_epoch, write_plans
from nnunetv2.model_sharing.model_export import export_pretrained_model
from nnunetv2.postprocessing.remove_connected_components import (
    apply_postprocessing,
    remove_all_but_largest_component_from_segmentation,
)
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from missu_nnunet.datasets.readers import IMAGE_ENDINGS
from missu_nnunet.errors import InputError
from missu_nnunet.planning.network import with_missu_network
from missu_nnunet.training import variants
from missu_nnunet.weights.inspection import inspect_file

TRAINERS = {f"MISSUTrainer{name}": getattr(variants, f"MISSUTrainer{name}") for name in variants.VARIANTS}
TRAINERS |= {"nnUNetTrainer": nnUNetTrainer}


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("name", TRAINERS)
def test_every_trainers_checkpoint_passes_and_is_described(
    name: str, residual: bool, nnunet_folders: Path, tmp_path: Path
) -> None:
    trainer = initialized(TRAINERS[name], tiny_plans(residual=residual), dataset_json())
    train_epoch(trainer)
    (inspection,) = inspect_file(saved(trainer, tmp_path / "checkpoint_best.pth"))
    assert (inspection.trainer, inspection.dataset, inspection.plans) == (name, DATASET, "nnUNetPlans")
    assert (inspection.configuration, inspection.fold, inspection.epochs) == ("3d_fullres", 0, 1)
    assert inspection.best_ema_pseudo_dice == pytest.approx(float(trainer._best_ema))
    logged = trainer.logger.local_logger.my_fantastic_logging
    assert inspection.last_epoch["mean_fg_dice"] == pytest.approx(float(logged["mean_fg_dice"][-1]))
    assert {"train_losses", "val_losses", "ema_fg_dice", "lrs"} <= inspection.last_epoch.keys()
    assert not [key for key in inspection.last_epoch if "timestamp" in key]
    network = trainer.network.network if hasattr(trainer.network, "network") else trainer.network
    assert inspection.parameters == sum(p.numel() for p in network.parameters())
    assert inspection.bytes["network_weights"] == 4 * inspection.parameters
    assert (inspection.hyperparameters is None) == (name == "nnUNetTrainer")


def test_a_log_without_numbers_passes(missu_checkpoint: Path, tmp_path: Path) -> None:
    content = torch.load(missu_checkpoint, weights_only=False)
    for number, log in enumerate(({"a": ["text"], "b": [], "c": 3, "d": [10**400], 5: [float("nan")]}, "text")):
        file = tmp_path / f"{number}.pth"
        torch.save(content | {"logging": log}, file)
        (inspection,) = inspect_file(file)
        assert inspection.last_epoch == ({"5": None} if number == 0 else {})


@pytest.fixture(scope="module")
def model(missu_checkpoint: Path, nnunet_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with post-processing, as nnU-Net exports it."""
    folder = nnunet_folders / "nnUNet_results" / DATASET / "MISSUTrainer__nnUNetPlans__3d_fullres"
    write_plans(folder, with_missu_network(tiny_plans(), "3d_fullres"), dataset_json())
    (folder / "dataset_fingerprint.json").write_text("{}")
    (folder / "fold_0" / "validation").mkdir(parents=True, exist_ok=True)
    (folder / "fold_0" / "validation" / "summary.json").write_text("{}")
    (folder / "fold_0" / "progress.png").touch()
    shutil.copy(missu_checkpoint, folder / "fold_0" / "checkpoint_final.pth")
    crossval = folder / "crossval_results_folds_0"
    crossval.mkdir(exist_ok=True)
    functions = [remove_all_but_largest_component_from_segmentation]
    (crossval / "postprocessing.pkl").write_bytes(pickle.dumps((functions, [{"labels_or_regions": 1}])))
    file = tmp_path_factory.mktemp("model") / "model.zip"
    export_pretrained_model(DATASET, str(file), ("3d_fullres",), "MISSUTrainer", folds=(0,))
    return file


def test_exported_model_is_described(model: Path) -> None:
    (inspection,) = inspect_file(model)
    assert inspection.name.endswith("fold_0/checkpoint_final.pth")
    assert inspection.trainer == "MISSUTrainer"
    with zipfile.ZipFile(model) as archive:
        assert any(name.endswith("postprocessing.pkl") for name in archive.namelist())


@pytest.mark.parametrize("ending", IMAGE_ENDINGS)
def test_a_model_may_bring_the_segmentations_of_its_validation(ending: str, model: Path, tmp_path: Path) -> None:
    """As nnU-Net exports it with ``--exp_cv_preds``."""
    assert inspect_file(with_member(model, tmp_path, f"Dataset/fold_0/validation/case{ending}", b""))


def with_member(model: Path, folder: Path, member: str | zipfile.ZipInfo, content: bytes) -> Path:
    file = folder / "stranger.zip"
    shutil.copy(model, file)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(member, content)
    return file


def checkpoint_that_runs(file: Path) -> bytes:
    class Runs:
        def __reduce__(self) -> tuple:
            return os.system, (f"touch {file}",)

    buffer = io.BytesIO()
    torch.save({"network_weights": Runs()}, buffer)
    return buffer.getvalue()


def link() -> zipfile.ZipInfo:
    member = zipfile.ZipInfo("Dataset/fold_0/link.json")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


@pytest.mark.parametrize(
    ("member", "content", "reason"),
    [
        ("../outside.json", b"{}", "leads out of the archive's folder"),
        ("Dataset/../../outside.json", b"{}", "leads out of the archive's folder"),
        ("/etc/outside.json", b"{}", "leads out of the archive's folder"),
        ("..\\outside.json", b"{}", "leads out of the archive's folder"),
        ("C:/outside.json", b"{}", "leads out of the archive's folder"),
        (link(), b"/etc/passwd", "symbolic link"),
        ("Dataset/two\nlines\x1b.py", b"", r"two\\nlines\\x1b\.py: not a kind of file"),
        ("Dataset/trainer.py", b"import os", "not a kind of file that nnU-Net exports"),
        ("Dataset/postprocessing.pkl", pickle.dumps(os.system), f"would run {os.system.__module__}.system"),
        ("Dataset/postprocessing.pkl", pickle.dumps(apply_postprocessing), "would run nnunetv2.postprocessing"),
        ("Dataset/postprocessing.pkl", b"\x80", "cannot be read as a pickle"),
        ("Dataset/plans.json", json.dumps({"network_class_name": "os.system"}).encode(), "would run os.system"),
        ("Dataset/plans.json", b"{", "cannot be read as JSON"),
        ("Dataset/fold_1/checkpoint_final.pth", b"", "cannot be read as a checkpoint"),
    ],
)
def test_a_foreign_file_in_the_model_is_refused(
    member: str | zipfile.ZipInfo, content: bytes, reason: str, model: Path, tmp_path: Path
) -> None:
    file = with_member(model, tmp_path, member, content)
    with pytest.raises(InputError, match=reason) as raised:
        inspect_file(file)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == [file]


def test_a_checkpoint_in_the_model_does_not_run(model: Path, tmp_path: Path) -> None:
    content = checkpoint_that_runs(tmp_path / "ran")
    file = with_member(model, tmp_path, "Dataset/fold_1/checkpoint_final.pth", content)
    with pytest.raises(
        InputError, match=r"fold_1/checkpoint_final\.pth: refused, because loading it would run \w+\.sys"
    ):
        inspect_file(file)
    assert not (tmp_path / "ran").exists()


def test_a_model_cannot_pass_for_a_checkpoint(missu_checkpoint: Path, tmp_path: Path) -> None:
    content = checkpoint_that_runs(tmp_path / "ran")
    file = with_member(missu_checkpoint, tmp_path, "Dataset/fold_0/checkpoint_final.pth", content)
    with pytest.raises(InputError, match=r"refused|not a kind of file"):
        inspect_file(file)


def test_a_pickle_with_a_model_behind_it_is_read_as_the_pickle(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "stranger.zip"
    file.write_bytes(pickle.dumps(os.system, protocol=2) + model.read_bytes())
    assert zipfile.is_zipfile(file)
    with pytest.raises(InputError, match=r"cannot be read as a checkpoint|would run"):
        inspect_file(file)


def test_a_zip_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "empty.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("Dataset/dataset.json", "{}")
    with pytest.raises(InputError, match="found no checkpoint"):
        inspect_file(file)
