"""`missu predict` as a user runs it, against nnUNetv2_predict."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from commands import Missu
from forked import run
from matplotlib import pyplot as plt
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_file_ending
from tiny_dataset import REGIONS, write_raw_dataset
from trained_model import write_model

from missu_nnunet.cli.nnunet_spelling import join_folds


@pytest.fixture(scope="module")
def images(model: Path) -> Path:
    """A folder of two cases."""
    return Path(os.environ["nnUNet_raw"]) / model.parent.name / "imagesTs"


def nnunet_predict(model: Path, images: Path, output: Path, *options: object) -> None:
    trainer, plans, configuration = model.name.split("__")
    run(
        *("nnUNetv2_predict", "-i", images, "-o", output, "-d", model.parent.name, "-c", configuration),
        *("-tr", trainer, "-p", plans, "-device", "cpu", "-npp", 1, "-nps", 1, *options),
    )


def assert_same_files(output: Path, expected: Path) -> None:
    names = sorted(file.name for file in expected.glob("*.nii.gz"))
    assert len(names) == 2
    for name in names:
        ours, stock = (sitk.ReadImage(str(folder / name)) for folder in (output, expected))
        assert np.array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(stock))
        assert ours.GetPixelID() == stock.GetPixelID()
        assert ours.GetSpacing() == stock.GetSpacing()


def test_two_folds_with_mirroring_and_everything_beside(
    missu: Missu, model: Path, images: Path, tmp_path: Path
) -> None:
    ours, stock = tmp_path / "ours", tmp_path / "stock"
    options = ("--device", "cpu", "--engine", "pytorch", "--uncertainty", "--overlays")
    done = missu("predict", images, "-o", ours, "-m", model, *options)
    assert done.returncode == 0, done.stderr
    assert "2 cases, 2 folds, on cpu with pytorch" in done.stdout
    assert "needs more than 0 MB of memory for case_000 (" in done.stdout
    assert "[1/2] case_000: shell" in done.stdout
    assert " left)" in done.stdout
    nnunet_predict(model, images, stock, "-f", 0, 1)
    assert_same_files(ours, stock)

    segmentation = sitk.ReadImage(str(ours / "case_001.nii.gz"))
    labels = sitk.GetArrayFromImage(segmentation)
    assert len(np.unique(labels)) > 1
    rows = {(row["case"], row["class"]): row for row in csv.DictReader((ours / "volumes.csv").open())}
    for name, label in (("shell", 1), ("core", 2)):
        row = rows["case_001", name]
        assert int(row["voxels"]) == np.count_nonzero(labels == label)
        assert float(row["ml"]) == pytest.approx(np.count_nonzero(labels == label) / 1000)
    uncertainty = sitk.ReadImage(str(ours / "uncertainty" / "case_001.nii.gz"))
    values = sitk.GetArrayFromImage(uncertainty)
    assert uncertainty.GetSize() == segmentation.GetSize()
    assert values.dtype == np.float32
    assert 0 <= values.min() < values.max() <= 1
    picture = plt.imread(ours / "overlays" / "case_001.png")
    assert picture.shape[0] > 500
    assert not [file for file in ours.iterdir() if file.name.startswith(".")]

    # Another prediction into the same folder: nothing of this one seems to belong to it.
    (ours / "uncertainty" / "mine.txt").write_text("kept")
    done = missu("predict", images, "-o", ours, "-m", model, "--device", "cpu", "-f", "0", "--no-tta")
    assert done.returncode == 0, done.stderr
    assert [file.name for file in (ours / "uncertainty").iterdir()] == ["mine.txt"]
    assert not (ours / "overlays").exists()


def test_one_fold_without_mirroring_of_single_files(missu: Missu, model: Path, images: Path, tmp_path: Path) -> None:
    ours, stock = tmp_path / "ours", tmp_path / "stock"
    shutil.copy(images / "case_000_0000.nii.gz", tmp_path / "scan.nii.gz")
    files = (images / "case_001_0000.nii.gz", tmp_path / "scan.nii.gz")
    options = ("-f", "1", "--no-tta", "--step", "0.7", "--device", "cpu", "--engine", "pytorch")
    done = missu("predict", *files, "-o", ours, "-m", model, *options)
    assert done.returncode == 0, done.stderr
    (ours / "scan.nii.gz").rename(ours / "case_000.nii.gz")
    nnunet_predict(model, images, stock, "-f", 1, "--disable_tta", "-step_size", 0.7)
    assert_same_files(ours, stock)
    trainer, plans, configuration = model.name.split("__")
    named = ("-d", model.parent.name, "-c", configuration, "-tr", trainer, "-p", plans, "-chk", "checkpoint_final.pth")
    settings = ("-f", 1, "--disable_tta", "-step_size", 0.7, "-device", "cpu", "--engine", "pytorch")
    done = missu("predict", "-i", images, "-o", tmp_path / "again", *named, *settings)
    assert done.returncode == 0, done.stderr
    assert_same_files(tmp_path / "again", stock)
    assert not (ours / "uncertainty").exists()
    assert not (ours / "overlays").exists()


def test_cases_may_have_the_names_of_maps_and_pictures(missu: Missu, model: Path, images: Path, tmp_path: Path) -> None:
    scans, out, names = tmp_path / "images", tmp_path / "out", ("o", "uncertainty")
    scans.mkdir()
    for name in names:
        shutil.copy(images / "case_000_0000.nii.gz", scans / f"{name}_0000.nii.gz")
    for name in ("a.nii.gz", "b_0000.nii", "notes.txt"):
        (scans / name).touch()
    options = ("-m", model, "-f", "0", "--no-tta", "--step", "1", "--device", "cpu", "--engine", "pytorch")
    done = missu("predict", scans, "-o", out, *options, "--uncertainty", "--overlays")
    assert done.returncode == 0, done.stderr
    assert "left out, since not named CASE_0000.nii.gz: a.nii.gz, b_0000.nii\n" in done.stdout
    o, uncertainty = (sitk.GetArrayFromImage(sitk.ReadImage(str(out / f"{name}.nii.gz"))) for name in names)
    assert np.array_equal(o, uncertainty)
    assert {file.name for file in (out / "uncertainty").iterdir()} == {f"{name}.nii.gz" for name in names}
    assert {file.name for file in (out / "overlays").iterdir()} == {f"{name}.png" for name in names}
    assert not list(out.glob("*.png"))


def test_regions_of_a_2d_configuration(missu: Missu, tiny_dataset: str, images: Path, tmp_path: Path) -> None:
    model = write_model(tiny_dataset, REGIONS, "2d", folds=1)
    ours, stock = tmp_path / "ours", tmp_path / "stock"
    options = ("--device", "cpu", "--engine", "pytorch", "--uncertainty", "--overlays")
    done = missu("predict", images, "-o", ours, "-m", model, *options)
    assert done.returncode == 0, done.stderr
    nnunet_predict(model, images, stock, "-f", 0)
    assert_same_files(ours, stock)
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(ours / "case_000.nii.gz")))
    rows = {row["class"]: row for row in csv.DictReader((ours / "volumes.csv").open()) if row["case"] == "case_000"}
    assert int(rows["whole"]["voxels"]) == np.count_nonzero(np.isin(labels, (1, 2)))
    assert int(rows["core"]["voxels"]) == np.count_nonzero(labels == 2)
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(ours / "uncertainty" / "case_000.nii.gz")))
    assert values.shape == labels.shape
    assert values.max() <= 1


@pytest.mark.parametrize(
    ("dataset_id", "file_ending", "configuration"),
    [(911, ".png", "2d"), (912, ".tif", "3d_fullres"), (913, ".gipl", "3d_fullres")],
)
def test_two_channels_in_files_of_other_formats(
    missu: Missu, nnunet_folders: Path, tmp_path: Path, dataset_id: int, file_ending: str, configuration: str
) -> None:
    raw = nnunet_folders / "nnUNet_raw"
    dataset = write_raw_dataset(raw, dataset_id, channels=2, file_ending=file_ending)
    run("nnUNetv2_extract_fingerprint", "-d", dataset_id, "-np", 1)
    model = write_model(dataset, configuration=configuration, folds=1)
    ours, stock = tmp_path / "ours", tmp_path / "stock"
    images = raw / dataset / "imagesTs"
    done = missu("predict", images, "-o", ours, "-m", model, "--device", "cpu", "--engine", "pytorch")
    assert done.returncode == 0, done.stderr
    nnunet_predict(model, images, stock, "-f", 0)
    reader = determine_reader_writer_from_file_ending(file_ending, str(next(images.iterdir())))()
    for name in (f"case_{case:03d}{file_ending}" for case in range(2)):
        labels, expected = (reader.read_seg(str(folder / name))[0] for folder in (ours, stock))
        assert len(np.unique(labels)) > 1
        assert np.array_equal(labels, expected)


def test_auto_is_openvino_on_a_cpu(missu: Missu, model: Path, images: Path, tmp_path: Path) -> None:
    pytest.importorskip("missu_nnunet.prediction.engines.openvino", exc_type=ImportError)
    names = ("auto", "pytorch")
    for name in names:
        options = ("--device", "cpu", "--engine", name, "-f", "0", "--no-tta")
        done = missu("predict", images, "-o", tmp_path / name, "-m", model, *options)
        assert done.returncode == 0, done.stderr
        assert f"on cpu with {'openvino' if name == 'auto' else name}" in done.stdout
    for case in ("case_000.nii.gz", "case_001.nii.gz"):
        auto, pytorch = (sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / name / case))) for name in names)
        # Float32 in another order: a voxel may change where two classes are equally likely.
        assert np.mean(auto == pytorch) > 0.999


def test_auto_is_pytorch_where_openvino_cannot_run_the_network(
    missu: Missu, model: Path, images: Path, tmp_path: Path
) -> None:
    pytest.importorskip("missu_nnunet.prediction.engines.openvino", exc_type=ImportError)
    copy, out = tmp_path / model.name, tmp_path / "out"
    shutil.copytree(model, copy)
    plans = json.loads((copy / "plans.json").read_text())
    unknown_to_openvino = {"nonlin": "torch.nn.Hardshrink", "nonlin_kwargs": None}
    plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"] |= unknown_to_openvino
    (copy / "plans.json").write_text(json.dumps(plans))
    options = ("-o", out, "-m", copy, "--device", "cpu", "-f", "0", "--no-tta", "--step", "1")
    done = missu("predict", images, *options)
    assert done.returncode == 0, done.stderr
    first, second, *_ = done.stdout.splitlines()
    assert first.startswith("openvino cannot run this model's network (")
    assert first.endswith("aten::hardshrink): PyTorch does")
    assert second == "2 cases, 1 fold, on cpu with pytorch"
    done = missu("predict", images, *options, "--engine", "pytorch", "--continue")
    assert "2 segmentations there already" in done.stdout, done.stderr

    done = missu("predict", images, *options, "--engine", "openvino")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "hardshrink); use --engine pytorch" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-m", "nowhere"], "--model nowhere: no such folder or file; give a trained model's folder"),
        (["-d", "901"], "-d 901: expected the configuration too"),
        (["-d", "901", "-c", "2d", "-tr", "X"], "X__nnUNetPlans__2d: no such model, found "),
        (["-m", "MODEL", "-d", "901"], "-d 901: names a model, as -m does; give one of both"),
        (["-m", "MODEL", "-tr", "MISSUTrainer"], "-tr MISSUTrainer: names a model, as -m does; give one of both"),
        (["-m", "MODEL", "-c", "2d"], "of configuration 3d_fullres, expected 2d as -c says; leave -c out, or give"),
        (["-m", "CHECKPOINT"], "checkpoint_final.pth: no Trainer__Plans__configuration/plans.json in it, expected"),
        (["-m", "MODEL", "-f", "7"], "fold_7/checkpoint_final.pth: no such file; name folds"),
        (["-m", "MODEL", "--checkpoint", "checkpoint_best.pth"], "no fold has a checkpoint_best.pth"),
        (["-m", "MODEL", "--device", "tpu"], "--device tpu: not there, expected one of cpu"),
        (["-m", "MODEL", "--engine", "tpu"], "--engine tpu: no such engine, expected one of auto, pytorch, openvino"),
        (["-m", "MODEL", "--step", "0"], "--step 0: expected a share of the patch"),
        (["-m", "MODEL", "missing.nii.gz"], "missing.nii.gz: no such file or folder"),
        (["-m", "MODEL", "-o", "IMAGES"], "holds the images; choose another folder"),
        (["-m", "MODEL", "-o", "MODEL"], "is the model's folder; choose another folder"),
        (["-m", "MODEL", "-o", ""], "--output: the name is empty"),
        (["-m", "MODEL", "COARSE"], "coarse_0000.nii.gz: 20×20×20 voxels, predicting it needs more than "),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    missu: Missu,
    model: Path,
    images: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    options: list[str],
    message: str,
) -> None:
    coarse = tmp_path_factory.mktemp("coarse") / "coarse_0000.nii.gz"
    image = sitk.GetImageFromArray(np.ones((20, 20, 20), np.float32))
    image.SetSpacing([1000.0] * 3)  # µm taken for mm
    sitk.WriteImage(image, str(coarse))
    places = {"MODEL": str(model), "IMAGES": str(images), "COARSE": str(coarse)}
    places["CHECKPOINT"] = str(model / "fold_0" / "checkpoint_final.pth")
    given = [places.get(option, option) for option in options]
    done = missu("predict", images, "-o", tmp_path / "out", "--device", "cpu", *given)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("missu: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert not list(tmp_path.iterdir())


def test_a_cascade_is_refused(missu: Missu, model: Path, images: Path, tmp_path: Path) -> None:
    copy = tmp_path / "MISSUTrainer__nnUNetPlans__3d_fullres"
    shutil.copytree(model, copy)
    plans = json.loads((copy / "plans.json").read_text())
    plans["configurations"]["3d_fullres"]["previous_stage"] = "2d"
    (copy / "plans.json").write_text(json.dumps(plans))
    done = missu("predict", images, "-o", tmp_path / "out", "-m", copy, "--device", "cpu")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert "cascade" in done.stderr


def test_a_broken_image_stops_with_its_name(missu: Missu, model: Path, tmp_path: Path) -> None:
    """Its header is whole, and SimpleITK would fill what is missing with zeros."""
    folder = tmp_path / "images"
    folder.mkdir()
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32))
    sitk.WriteImage(image, str(folder / "a_0000.nii.gz"))
    whole = (folder / "a_0000.nii.gz").read_bytes()
    (folder / "a_0000.nii.gz").write_bytes(whole[: len(whole) // 2])
    done = missu("predict", folder, "-o", tmp_path / "out", "-m", model, "--device", "cpu")
    assert done.returncode == 2
    assert f"{folder / 'a_0000.nii.gz'}: damaged or cut short" in done.stderr
    assert not list((tmp_path / "out").glob("*.nii.gz"))
    assert not list((tmp_path / "out").glob(".*"))


def test_an_image_without_numbers_and_what_lies_in_the_folder_are_named(
    missu: Missu, model: Path, images: Path, tmp_path: Path
) -> None:
    copy, out = tmp_path / model.name, tmp_path / "out"
    shutil.copytree(model, copy, ignore=shutil.ignore_patterns("fold_1"))
    plans = json.loads((copy / "plans.json").read_text())
    plans["foreground_intensity_properties_per_channel"]["0"]["mean"] = float("nan")  # as without any foreground
    (copy / "plans.json").write_text(json.dumps(plans))
    image = images / "case_000_0000.nii.gz"
    options = ("-o", out, "-m", copy, "--device", "cpu", "--engine", "pytorch", "--no-tta", "--step", "1")
    done = missu("predict", image, *options)
    assert done.returncode == 0, done.stderr
    assert (out / "plans.json").is_file()

    (out / "case_000.nii.gz").write_bytes(b"")
    done = missu("predict", image, *options, "--continue")
    assert done.returncode == 2
    assert f"{out / 'case_000.nii.gz'}: not a readable image" in done.stderr
    bad = tmp_path / "bad_0000.nii.gz"
    for value in (np.nan, np.inf):
        sitk.WriteImage(sitk.GetImageFromArray(np.full((20, 20, 20), value, np.float32)), str(bad))
        done = missu("predict", bad, *options)
        assert done.returncode == 2
        assert f"{bad}: holds NaN or infinite values alone" in done.stderr

    description = json.loads((copy / "dataset.json").read_text()) | {"file_ending": ".nrrd"}
    (copy / "dataset.json").write_text(json.dumps(description))
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(image)))
    values[9, 9, 9] = np.inf  # which SimpleITK reads as 0 from NIfTI files alone
    bad = tmp_path / "bad_0000.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(values), str(bad))
    done = missu("predict", bad, *options)
    assert done.returncode == 2
    assert f"{bad}: NaN or infinite values once it is preprocessed" in done.stderr
    assert not list(out.glob("bad*"))


def test_folds_are_taken_apart_by_commas_and_by_spaces() -> None:
    assert join_folds(["x", "-f", "0", "1", "all", "-o", "2"]) == ["x", "-f", "0,1,all", "-o", "2"]
    assert join_folds(["--folds", "0,1", "scan.nii.gz"]) == ["--folds", "0,1", "scan.nii.gz"]
