"""The options of ``missu predict``, against the separate commands of nnU-Net."""

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from commands import Missu
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.model_sharing.model_export import export_pretrained_model
from nnunetv2.postprocessing.remove_connected_components import remove_all_but_largest_component_from_segmentation
from scipy import ndimage
from trained_model import write_model

FAST = ("--no-tta", "--step", "1", "--device", "cpu", "--engine", "pytorch")
"""Few windows, because only what follows the network is tested here."""


@pytest.fixture(scope="module")
def images(model: Path) -> Path:
    """A folder of two cases."""
    return Path(os.environ["nnUNet_raw"]) / model.parent.name / "imagesTs"


@pytest.fixture(scope="module")
def model_2d(tiny_dataset: str) -> Path:
    return write_model(tiny_dataset, configuration="2d", folds=1)


def nnunet(model: Path, images: Path, output: Path) -> Path:
    """nnU-Net's own prediction with the probabilities, in this process."""
    predictor = nnUNetPredictor(tile_step_size=1, use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), None)
    output.mkdir()
    predictor.predict_from_files_sequential(str(images), str(output), save_probabilities=True)
    return output


def array(file: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def probabilities(file: Path) -> np.ndarray:
    with np.load(file) as content:
        return content["probabilities"]


@pytest.fixture(scope="module")
def stock(model: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nnunet(model, images, tmp_path_factory.mktemp("stock") / "out")


def test_probabilities_are_nnunets(missu: Missu, model: Path, images: Path, stock: Path, tmp_path: Path) -> None:
    done = missu("predict", images, "-o", tmp_path, "-m", model, "--save-probabilities", *FAST)
    assert done.returncode == 0, done.stderr
    for case in ("case_000", "case_001"):
        assert np.array_equal(probabilities(tmp_path / f"{case}.npz"), probabilities(stock / f"{case}.npz"))
        assert np.array_equal(array(tmp_path / f"{case}.nii.gz"), array(stock / f"{case}.nii.gz"))
        assert (tmp_path / f"{case}.pkl").is_file()


def test_several_models_are_nnunets_ensemble(
    missu: Missu, model: Path, model_2d: Path, images: Path, stock: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = ("--save-probabilities", "--uncertainty", *FAST)
    done = missu("predict", images, "-o", out, "-m", model, "-m", model_2d, *options)
    assert done.returncode == 0, done.stderr
    assert "2 models, 3 folds, on cpu with pytorch" in done.stdout
    stock_2d = nnunet(model_2d, images, tmp_path / "stock_2d")
    for case in ("case_000", "case_001"):
        mean = (probabilities(stock / f"{case}.npz") + probabilities(stock_2d / f"{case}.npz")) / 2
        assert np.array_equal(probabilities(out / f"{case}.npz"), mean)
        assert np.array_equal(array(out / f"{case}.nii.gz"), mean.argmax(axis=0))
        assert not np.array_equal(array(out / f"{case}.nii.gz"), array(stock / f"{case}.nii.gz"))
        assert array(out / "uncertainty" / f"{case}.nii.gz").max() > 0
    assert not [file for file in out.iterdir() if file.name.startswith(".")]


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            "dataset.json",
            {"labels": {"background": 0, "core": 1, "shell": 2}},
            "its labels is {'background': 0, 'core'",
        ),
        (
            "plans.json",
            {"image_reader_writer": "NibabelIOWithReorient"},
            "reader_writer is NibabelIOWithReorient, that",
        ),
    ],
)
def test_models_of_different_classes_or_readers_do_not_form_an_ensemble(
    missu: Missu,
    model: Path,
    model_2d: Path,
    images: Path,
    tmp_path: Path,
    file: str,
    change: dict[str, Any],
    message: str,
) -> None:
    other = tmp_path / model_2d.name
    shutil.copytree(model_2d, other)
    (other / file).write_text(json.dumps(json.loads((other / file).read_text()) | change))
    done = missu("predict", images, "-o", tmp_path / "out", "-m", model, "-m", other, *FAST)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_interrupted_prediction_continues(missu: Missu, model: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert missu("predict", images, "-o", out, "-m", model, *FAST).returncode == 0
    expected, volumes = array(out / "case_001.nii.gz"), (out / "volumes.csv").read_text()
    (out / "case_001.nii.gz").unlink()
    (out / "volumes.csv").unlink()
    (out / ".partial-case_001").mkdir()  # as a kill leaves it
    before = (out / "case_000.nii.gz").stat().st_mtime_ns

    done = missu("predict", images, "-o", out, "-m", model, "--continue", *FAST)
    assert done.returncode == 0, done.stderr
    assert "1 segmentation there already" in done.stdout
    assert "[1/1] case_001" in done.stdout
    assert (out / "case_000.nii.gz").stat().st_mtime_ns == before
    assert np.array_equal(array(out / "case_001.nii.gz"), expected)
    assert (out / "volumes.csv").read_text() == volumes
    assert not (out / ".partial-case_001").exists()

    done = missu("predict", images, "-o", out, "-m", model, "-f", "0", "--continue", *FAST)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "was predicted with folds [['0', '1']], not [['0']]" in done.stderr


def test_segmentations_of_earlier_settings_are_not_taken_for_finished(
    missu: Missu, model: Path, images: Path, tmp_path: Path
) -> None:
    out, broken = tmp_path / "out", tmp_path / "images"
    assert missu("predict", images, "-o", out, "-m", model, "-f", "0", *FAST).returncode == 0
    of_fold_0 = array(out / "case_001.nii.gz")
    shutil.copytree(images, broken)
    (broken / "case_001_0000.nii.gz").write_bytes((images / "case_001_0000.nii.gz").read_bytes()[:-100])
    done = missu("predict", broken, "-o", out, "-m", model, "-f", "1", *FAST)
    assert done.returncode == 2
    assert "case_001_0000.nii.gz: damaged or cut short" in done.stderr

    done = missu("predict", images, "-o", out, "-m", model, "-f", "1", "--continue", *FAST)
    assert done.returncode == 0, done.stderr
    assert "[1/1] case_001" in done.stdout
    assert not np.array_equal(array(out / "case_001.nii.gz"), of_fold_0)


def test_folds_trained_in_between_are_not_continued_with(
    missu: Missu, model: Path, images: Path, tmp_path: Path
) -> None:
    copy, out = tmp_path / model.name, tmp_path / "out"
    shutil.copytree(model, copy, ignore=shutil.ignore_patterns("fold_1"))
    assert missu("predict", images, "-o", out, "-m", copy, *FAST).returncode == 0
    shutil.copytree(model / "fold_1", copy / "fold_1")
    done = missu("predict", images, "-o", out, "-m", copy, "--continue", *FAST)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "was predicted with folds [['0']], not [['0', '1']]" in done.stderr


def test_weights_trained_anew_and_other_images_are_not_continued_with(
    missu: Missu, model: Path, images: Path, tmp_path: Path
) -> None:
    copy, out, others = tmp_path / model.name, tmp_path / "out", tmp_path / "images"
    shutil.copytree(model, copy, ignore=shutil.ignore_patterns("fold_1"))
    shutil.copytree(images, others)
    assert missu("predict", others, "-o", out, "-m", copy, *FAST).returncode == 0
    shutil.copy(others / "case_001_0000.nii.gz", others / "case_000_0000.nii.gz")
    done = missu("predict", others, "-o", out, "-m", copy, "--continue", *FAST)
    assert done.returncode == 0, done.stderr
    assert "[1/1] case_000" in done.stdout
    assert np.array_equal(array(out / "case_000.nii.gz"), array(out / "case_001.nii.gz"))

    shutil.copy(model / "fold_1" / "checkpoint_final.pth", copy / "fold_0")
    done = missu("predict", others, "-o", out, "-m", copy, "--continue", *FAST)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "was predicted with model_contents " in done.stderr


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "checkpoint_final.pth: decoder.seg_layers.0.weight holds NaN or infinite values, which a"),
        (1e9, "case_000_0000.nii.gz: the model cannot predict it (a logit is NaN, or exceeds what half precision"),
    ],
)
def test_a_model_out_of_range_is_one_line(
    missu: Missu, model: Path, images: Path, tmp_path: Path, value: float, message: str
) -> None:
    copy = tmp_path / model.name
    shutil.copytree(model, copy, ignore=shutil.ignore_patterns("fold_1"))
    file = copy / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False)
    for key, weight in checkpoint["network_weights"].items():
        if ".seg_layers." in key:
            weight.fill_(value)
    torch.save(checkpoint, file)
    done = missu("predict", images, "-o", tmp_path / "out", "-m", copy, *FAST)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr


@pytest.mark.parametrize("options", [(), ("--continue",)])
@pytest.mark.parametrize("name", ["case_000.nii.gz", "case_of_a_reference.nii.gz", "dataset.json"])
def test_files_of_others_are_not_overwritten(
    missu: Missu, model: Path, images: Path, tmp_path: Path, name: str, options: tuple[str, ...]
) -> None:
    (tmp_path / name).write_text("mine")
    done = missu("predict", images, "-o", tmp_path, "-m", model, *options, *FAST)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"{tmp_path / name}: missu predict did not write it" in done.stderr
    assert (tmp_path / name).read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.fixture
def zipped(model: Path, model_2d: Path, tmp_path: Path) -> Path:
    """Both models in one zip, as nnU-Net exports them."""
    trainer, plans, _ = model.name.split("__")
    for folder in (model, model_2d):
        (folder / "dataset_fingerprint.json").write_text("{}")
        for fold in folder.glob("fold_*"):
            (fold / "validation").mkdir(exist_ok=True)
            (fold / "validation" / "summary.json").write_text('{"metric_per_case": []}')
            (fold / "progress.png").touch()
    file = tmp_path / "model.zip"
    export_pretrained_model(model.parent.name, str(file), ("3d_fullres", "2d"), trainer, plans, folds=(0,))
    return file


def test_a_zip_predicts_as_the_model_in_it(
    missu: Missu, model: Path, zipped: Path, images: Path, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    assert missu("predict", images, "-o", here, "-m", model, "-f", "0", *FAST).returncode == 0
    done = missu("predict", images, "-o", there, "-m", zipped, "-c", "3d_fullres", *FAST)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(array(here / "case_000.nii.gz"), array(there / "case_000.nii.gz"))
    done = missu("predict", images, "-o", there, "-m", zipped, "-c", "2d", "--continue", *FAST)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"was predicted with model_folders ['{model.name}'], not " in done.stderr

    # nnU-Net's export leaves the calibration out; a zip that it was added to is calibrated.
    with zipfile.ZipFile(zipped, "a") as archive:
        archive.writestr(f"{model.parent.name}/{model.name}/calibration.json", '{"temperature": 2}')
    image = images / "case_000_0000.nii.gz"
    done = missu(
        "predict", image, "-o", tmp_path / "calibrated", "-m", zipped, "-c", "3d_fullres", "--uncertainty", *FAST
    )
    assert done.returncode == 0, done.stderr
    assert "uncertainty: calibrated, temperature 2.000" in done.stdout

    done = missu("predict", images, "-o", tmp_path / "out", "-m", zipped, *FAST)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "found 2d, 3d_fullres, expected a single model; name one configuration with -c" in done.stderr
    done = missu("predict", images, "-o", tmp_path / "out", "-m", zipped, "-c", "3d_lowres", *FAST)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "expected one of configuration 3d_lowres; name one" in done.stderr


def test_a_zip_never_runs_code(missu: Missu, zipped: Path, images: Path, tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    with zipfile.ZipFile(zipped, "a") as archive:
        archive.writestr(f"{Path(archive.namelist()[0]).parents[1]}/postprocessing.pkl", pickle.dumps(Runs()))
    done = missu("predict", images, "-o", tmp_path / "out", "-m", zipped, "-c", "3d_fullres", *FAST)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "would run" in done.stderr
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()


def test_postprocessing_is_applied_where_it_was_determined(
    missu: Missu, model: Path, images: Path, stock: Path, tmp_path: Path
) -> None:
    copy = tmp_path / model.name
    shutil.copytree(model, copy)
    determined = copy / "crossval_results_folds_0_1" / "postprocessing.json"
    determined.parent.mkdir()
    arguments = [{"labels_or_regions": [1, 2]}, {"labels_or_regions": 2}]
    function = remove_all_but_largest_component_from_segmentation.__name__
    content = {"postprocessing_fns": [function] * 2, "postprocessing_kwargs": arguments}
    determined.write_text(json.dumps(content))

    done = missu("predict", images, "-o", tmp_path / "out", "-m", copy, *FAST)
    assert done.returncode == 0, done.stderr
    assert "post-processing as determined: crossval_results_folds_0_1/postprocessing.json" in done.stdout
    before, after = (array(folder / "case_000.nii.gz") for folder in (stock, tmp_path / "out"))
    expected = before
    for given in arguments:
        expected = remove_all_but_largest_component_from_segmentation(expected, **given)
    assert np.array_equal(after, expected)
    assert not np.array_equal(after, before)
    assert ndimage.label(after == 2, np.ones((3, 3, 3)))[1] <= 1

    done = missu("predict", images, "-o", tmp_path / "without", "-m", copy, "--no-postprocessing", *FAST)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(array(tmp_path / "without" / "case_000.nii.gz"), before)

    determined.write_text(json.dumps(content | {"postprocessing_fns": ["os.system"] * 2}))
    done = missu("predict", images, "-o", tmp_path / "refused", "-m", copy, *FAST)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "found os.system" in done.stderr


def test_a_calibrated_model_is_less_sure(missu: Missu, model: Path, images: Path, stock: Path, tmp_path: Path) -> None:
    copy = tmp_path / model.name
    shutil.copytree(model, copy)
    done = missu("predict", images, "-o", tmp_path / "before", "-m", copy, "--uncertainty", *FAST)
    assert f"uncertainty: not calibrated; missu weights calibrate {copy} does it" in done.stdout
    (copy / "calibration.json").write_text('{"temperature": 4}')
    done = missu("predict", images, "-o", tmp_path / "after", "-m", copy, "--uncertainty", *FAST)
    assert "uncertainty: calibrated, temperature 4.000" in done.stdout
    before, after = (array(tmp_path / name / "uncertainty" / "case_000.nii.gz") for name in ("before", "after"))
    assert after.mean() > before.mean() + 0.01
    assert np.array_equal(array(tmp_path / "after" / "case_000.nii.gz"), array(stock / "case_000.nii.gz"))
