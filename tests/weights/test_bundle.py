"""A folder that segments on its own, against ``nnUNetv2_predict``, where neither PyTorch nor nnU-Net is there."""

import importlib.util
import json
import os
import subprocess
import venv
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.preprocessing.normalization import default_normalization_schemes
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
from typer.testing import CliRunner

from missu_nnunet.cli.main import app
from missu_nnunet.errors import InputError
from missu_nnunet.weights import standalone
from missu_nnunet.weights.bundle import export_bundle

NEEDED = ("numpy", "scipy", "onnxruntime", "SimpleITK")
"""The libraries that ``requirements.txt`` names."""


@pytest.fixture(scope="module")
def bundle(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundle") / "out"
    done = CliRunner().invoke(app, ["weights", "export", str(model), str(out)])
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment's Python that has the folder's requirements, borrowed from this one, and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in NEEDED:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        package = Path(spec.origin).parent
        for part in (package, package.with_name(f"{name}.libs")):
            if part.exists():
                (site / part.name).symlink_to(part)
    return folder / "bin" / "python"


def test_same_segmentation_where_neither_pytorch_nor_nnunet_is(
    bundle: Path, bare_python: Path, model: Path, tmp_path: Path
) -> None:
    def bare(*command: object) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
        arguments = [str(bare_python), *map(str, command)]
        return subprocess.run(arguments, env=environment, cwd=tmp_path, text=True, capture_output=True, check=False)

    for absent in ("torch", "nnunetv2", "missu_nnunet"):
        assert f"No module named '{absent}'" in bare("-c", f"import {absent}").stderr
    assert (bundle / "requirements.txt").read_text().split() == list(NEEDED)
    assert "Segments shell, core in images" in (bundle / "README.md").read_text()

    images = Path(os.environ["nnUNet_raw"]) / model.parent.name / "imagesTs"
    done = bare(bundle / "predict.py", images, "--output", tmp_path / "ours")
    assert done.returncode == 0, done.stderr
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), None)
    (tmp_path / "stock").mkdir()
    predictor.predict_from_files_sequential(str(images), str(tmp_path / "stock"))
    for case in ("case_000", "case_001"):
        ours, stock = (sitk.ReadImage(str(tmp_path / name / f"{case}.nii.gz")) for name in ("ours", "stock"))
        assert ours.GetPixelID() == stock.GetPixelID()
        assert ours.GetSpacing() == stock.GetSpacing()
        values = sitk.GetArrayFromImage(stock)
        assert len(np.unique(values)) > 1
        # Of random weights logits are close everywhere; of 9600 voxels rounding may turn a few.
        assert (sitk.GetArrayFromImage(ours) != values).mean() < 0.001


def test_a_plan_that_the_folder_cannot_follow_is_refused(model: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=False)
    configuration = checkpoint["init_args"]["plans"]["configurations"]["3d_fullres"]
    configuration["resampling_fn_data"] = "resample_torch_fornnunet"
    torch.save(checkpoint, tmp_path / "checkpoint.pth")
    with pytest.raises(InputError, match="its plan has resample_torch_fornnunet, which"):
        export_bundle(tmp_path / "checkpoint.pth", tmp_path / "out", "")
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pth"]


def test_channels_may_be_named_as_the_decathlon_does(model: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=False)
    dataset_json = checkpoint["init_args"]["dataset_json"]
    dataset_json["modality"] = dataset_json.pop("channel_names")
    torch.save(checkpoint, tmp_path / "checkpoint.pth")
    export_bundle(tmp_path / "checkpoint.pth", tmp_path / "out", os.fsdecode(b"card of \xff"))
    assert (tmp_path / "out" / "README.md").read_text() == "card of \\udcff"
    channels = json.loads((tmp_path / "out" / "model.json").read_text())["channels"]
    assert channels == list(dataset_json["modality"].values())


def test_a_folder_without_a_finished_fold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no fold has a checkpoint_final\.pth"):
        export_bundle(tmp_path, tmp_path / "out", "")


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("scheme", ["ZScore", "CT", "RescaleTo01", "RGBTo01", "No"])
def test_intensities_are_normalised_as_nnunet_does(scheme: str, mask: bool) -> None:
    random = np.random.default_rng(0)
    channel = random.uniform(0, 255, (6, 8, 8)).astype(np.float32)
    inside = random.random(channel.shape) > 0.3
    intensities = {"mean": 100.0, "std": 40.0, "percentile_00_5": 20.0, "percentile_99_5": 200.0}
    scheme = f"{scheme}Normalization"
    stock = getattr(default_normalization_schemes, scheme)(use_mask_for_norm=mask, intensityproperties=intensities)
    expected = stock.run(channel.copy(), np.where(inside, 0, -1))
    found = standalone.normalize(channel, {"scheme": scheme, "mask": mask} | intensities, inside)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize(
    ("spacing", "target", "shape"),
    [
        ((1, 1, 1), (1.3, 0.8, 0.9), (8, 15, 13)),
        ((5, 1, 1), (4, 0.8, 0.9), (12, 15, 13)),  # thick slices before and after
        ((1, 1, 1), (1, 6, 1), (10, 2, 12)),  # thick after
        ((1, 4, 1), (1, 4, 0.7), (10, 12, 17)),  # the slices' number stays
        ((0.2, 1, 1), (0.3, 1, 1), (7, 12, 12)),  # two axes are the coarse ones
        ((999, 1, 1), (999, 0.5, 0.5), (1, 24, 24)),  # a photograph
    ],
)
def test_images_are_resampled_as_nnunet_does(
    spacing: tuple[float, ...], target: tuple[float, ...], shape: tuple[int, ...], order: int
) -> None:
    size = (1 if max(spacing) == 999 else 10, 12, 12)
    image = np.random.default_rng(0).normal(size=(2, *size)).astype(np.float32)
    settings = {"order": order, "force_separate_z": None, "anisotropy_threshold": 3}
    expected = resample_data_or_seg_to_shape(image, shape, spacing, target, order=order, force_separate_z=None)
    found = standalone.resample(image, shape, spacing, target, settings)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_files_are_taken_by_their_channels(tmp_path: Path) -> None:
    settings = {"file_ending": ".nii.gz", "channels": ["T1", "T2"], "photograph": False}
    files = [tmp_path / name for name in ("b/a_0000.nii.gz", "a/a_0001.nii.gz")]
    for file in (*files, tmp_path / "a" / "._a_0000.nii.gz"):
        file.parent.mkdir(exist_ok=True)
        file.touch()
    for given in (files, files[::-1], [file.parent for file in files]):
        assert standalone.find_cases(given, settings) == {"a": files}
    missing = tmp_path / "a_0001.nii.gz"
    for given, message in (
        (files[:1], f"{files[0]}: expected a_0000.nii.gz and so on, one file each of T1, T2"),
        ([*files, files[1]], f"{files[0]}, {files[1]}, {files[1]}: expected a_0000.nii.gz"),
        ([files[0], missing], f"{missing}: no image found, expected files such as CASE_0000.nii.gz"),
    ):
        with pytest.raises(SystemExit) as ended:
            standalone.find_cases(given, settings)
        assert str(ended.value).startswith(message)
    assert standalone.find_cases(files[:1], settings | {"photograph": True}) == {"a": files[:1]}


def test_images_that_cannot_be_read_and_a_step_of_nothing_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / f"a_000{channel}.nii.gz" for channel in range(3)]
    for file, size in zip(files, (4, 5), strict=False):
        sitk.WriteImage(sitk.Image(size, 4, 4, sitk.sitkUInt8), str(file))
    files[2].write_bytes(b"no image")
    settings = {"reorient": False, "photograph": False, "channels": ["T1", "T2"]}
    for given, message in (
        (files[:2], r"a_0000\.nii\.gz, .*a_0001\.nii\.gz: sizes \(4, 4, 4\), \(5, 4, 4\), expected one; resample"),
        (files[2:], r"a_0002\.nii\.gz: cannot be read \(.+\); replace the damaged file$"),
    ):
        with pytest.raises(SystemExit, match=message):
            standalone.read(given, settings)
    monkeypatch.setattr("sys.argv", ["predict.py", str(tmp_path), "-o", str(tmp_path), "--step", "0"])
    with pytest.raises(SystemExit):
        standalone.main()
    assert "--step 0: expected a share of the patch" in capsys.readouterr().err


def test_regions_and_photographs(tmp_path: Path) -> None:
    """Features that the tiny model lacks."""
    logits = np.array([[1.0, 1.0, -1.0], [-1.0, 1.0, 1.0]], np.float32)[:, None, None]
    model = standalone.Model.__new__(standalone.Model)
    model.settings = {"regions": True, "labels": [1, 2]}
    assert model.decide(logits).tolist() == [[[1, 2, 2]]]
    colours = np.random.default_rng(0).integers(0, 255, (7, 9, 3)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(tmp_path / "a_0000.png"))
    settings = {"reorient": False, "photograph": True, "channels": ["R", "G", "B"]}
    image, spacing, original = standalone.read([tmp_path / "a_0000.png"], settings)
    assert np.array_equal(image[:, 0], colours.transpose(2, 0, 1))
    assert spacing == [999, 1, 1]
    standalone.write(image[0].astype(np.uint8), original, {"reorient": False}, tmp_path / "a.png")
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.png"))), colours[..., 0])

    NaturalImage2DIO().write_seg(colours[None, ..., 0], str(tmp_path / "a_0000.bmp"), {})
    image, _, _ = standalone.read([tmp_path / "a_0000.bmp"], settings | {"channels": ["grey"]})
    assert np.array_equal(image, colours[None, None, ..., 0])


def test_images_are_turned_and_segmentations_turned_back(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 5, (4, 5, 6)).astype(np.uint8)
    image = sitk.GetImageFromArray(values)
    image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
    sitk.WriteImage(image, str(tmp_path / "a_0000.nii.gz"))
    settings = {"reorient": True, "photograph": False, "channels": ["MRI"]}
    read, _, original = standalone.read([tmp_path / "a_0000.nii.gz"], settings)
    assert read.shape != (1, 4, 5, 6)
    standalone.write(read[0], original, settings, tmp_path / "a.nii.gz")
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.nii.gz"))), values)


def test_settings_are_json_of_the_plan(bundle: Path, model: Path) -> None:
    settings = json.loads((bundle / "model.json").read_text())
    assert settings["patch_size"] == [16, 32, 16]
    assert settings["outputs"] == ["background", "shell", "core"]
    assert settings["networks"] == ["network_0.onnx", "network_1.onnx"]
    assert settings["mirror_axes"] == [0, 1, 2]
