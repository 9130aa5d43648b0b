"""``missu dataset …`` as a user runs it."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from chaos_tree import write_download
from tiny_dataset import write_raw_dataset

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def missu(tmp_path):
    """Run the command in an empty folder with nnU-Net's variables set; ``before`` is Python run first."""

    def run(*arguments, before="", **variables):
        folders = {name: name for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
        code = f"{before}\nfrom missu_nnunet.cli.main import main\nmain()"
        return subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"COLUMNS": "200", "PYTHONPATH": str(REPOSITORY)} | folders | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def download(tmp_path):
    write_download(tmp_path / "CHAOS", np.random.default_rng(0))
    return tmp_path / "CHAOS"


def assert_one_line(run, message):
    assert run.returncode == 2
    assert run.stderr.startswith(f"missu: {message}"), run.stderr
    assert run.stderr.count("\n") == 1


def test_chaos_there_and_back(missu, download, tmp_path):
    planned = missu("dataset", "chaos", "CHAOS", "--modality", "t1dual", "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "write nnUNet_raw/Dataset057_CHAOST1DUAL/imagesTr/MR_01_T1DUAL_0001.nii.gz\n" in planned.stdout
    assert "skip CHAOS/Train_Sets/CT/1/DICOM_anon/i0000,0000b.dcm: CT is not part of this dataset\n" in planned.stdout
    assert planned.stdout.endswith("\n42 source files to convert, 70 to skip, 0 errors\n")
    assert not (tmp_path / "nnUNet_raw").exists()

    done = missu("dataset", "chaos", "CHAOS", "--modality", "t1dual", "-np", 1)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "nnUNet_raw" / "Dataset057_CHAOST1DUAL"
    written = {f"write nnUNet_raw/{path.relative_to(folder.parent)}" for path in folder.rglob("*") if path.is_file()}
    assert written - {"write nnUNet_raw/Dataset057_CHAOST1DUAL/conversion.csv"} <= set(planned.stdout.splitlines())

    verified = missu("dataset", "verify", 57, "-np", 1)
    assert verified.returncode == 0, verified.stdout
    submitted = missu("dataset", "chaos-submit", folder / "labelsTr", "submission/Task5", "--dicom", "CHAOS", "-np", 1)
    assert submitted.returncode == 0, submitted.stderr
    assert len(list((tmp_path / "submission" / "Task5" / "MR" / "1" / "T1DUAL" / "Results").iterdir())) == 6

    other = missu("dataset", "chaos", "CHAOS", "--task", 2, "--id", 57)
    assert_one_line(other, "ID 57: found Dataset057_CHAOST1DUAL in nnU-Net's folders, expected a free ID")


def test_what_ct_needs_is_said_until_it_is_there(nnunet_folders, capsys):
    from missu_nnunet.cli.dataset import sparse

    name, copies = write_raw_dataset(nnunet_folders / "nnUNet_raw", 946), ["Dataset947_One", "Dataset948_Two"]
    description = nnunet_folders / "nnUNet_raw" / name / "dataset.json"
    fingerprint = nnunet_folders / "nnUNet_preprocessed" / copies[1] / "dataset_fingerprint.json"
    said = []
    for channel, copy in (("MRI", copies[0]), ("CT", copies[0]), ("ct", copies[1])):
        content = json.loads(description.read_text()) | {"channel_names": {"0": channel}}
        description.write_text(json.dumps(content))
        if copy == copies[1]:
            fingerprint.parent.mkdir()
            fingerprint.touch()
        sparse(name, copy, scribbles=False, slices=None, cases=1, seed=0, symlink=False, dry_run=True, workers=1)
        said.append(f"copy it from {name}'s folder in nnUNet_preprocessed to {copy}'s" in capsys.readouterr().out)
    assert said == [False, True, False]


def test_verify_fails_on_errors(missu, tmp_path):
    write_download(tmp_path / "CHAOS", np.random.default_rng(0))
    assert missu("dataset", "chaos", "CHAOS", "--task", 2, "-np", 1).returncode == 0
    labels = tmp_path / "nnUNet_raw" / "Dataset052_CHAOSTask2" / "labelsTr"
    (labels / "CT_01.nii.gz").unlink()
    run = missu("dataset", "verify", "Dataset052_CHAOSTask2", "--pictures", "pictures", "-np", 1)
    assert run.returncode == 1
    assert "an image without a label map" in run.stdout
    run = missu("dataset", "verify", "Dataset052_CHAOSTask2", "--pictures", "pictures", "-np", 1, "--json")
    assert run.returncode == 1
    report = json.loads(run.stdout)
    assert report["dataset"] == "Dataset052_CHAOSTask2"
    assert report["findings"][0]["cases"] == ["CT_01"]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_verify_shows_findings_where_pictures_cannot_be_written(missu, tmp_path, options):
    write_download(tmp_path / "CHAOS", np.random.default_rng(0))
    assert missu("dataset", "chaos", "CHAOS", "--task", 2, "-np", 1).returncode == 0
    for part, name in (("imagesTr", "CT_01_0000"), ("labelsTr", "CT_01")):
        file = tmp_path / "nnUNet_raw" / "Dataset052_CHAOSTask2" / part / f"{name}.nii.gz"
        file.with_name(name.replace("01", "90") + ".nii.gz").write_bytes(file.read_bytes())
    (tmp_path / "file").touch()
    run = missu("dataset", "verify", 52, "--pictures", "file/pictures", "-np", 1, *options)
    assert_one_line(run, "file/pictures: no such folder, and it cannot be made")
    assert "the same image in several cases" in run.stdout


def test_verify_puts_no_picture_into_the_dataset(missu, tmp_path):
    """Where images are PNG, it would replace them."""
    dataset = write_raw_dataset(tmp_path / "nnUNet_raw", 7)
    run = missu("dataset", "verify", 7, "--pictures", f"nnUNet_raw/{dataset}/imagesTr", "-np", 1)
    assert_one_line(run, f"--pictures nnUNet_raw/{dataset}/imagesTr: in the dataset, whose files they could replace")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chaos", "CHAOS"], "chaos: expected either --task"),
        (["chaos", "CHAOS", "--modality", "pet"], "--modality pet: unknown, expected one of ct, t1dual, t2spir"),
        (["brats2019", "nowhere"], "nowhere: no such folder"),
        (["msd", "Task12"], "Task12: neither a folder, nor an archive"),
        (["msd", "Task04"], "Task04: no such folder or archive; add --download to fetch Task04_Hippocampus from https"),
        (
            ["msd", "Task04", "--download", "--mirror", "http://127.0.0.1:9"],
            "http://127.0.0.1:9/Task04_Hippocampus.tar: download failed",
        ),
    ],
)
def test_errors_are_one_line(missu, arguments, message):
    assert_one_line(missu("dataset", *arguments), message)


def test_nnunet_raw_must_be_set(missu, download):
    assert_one_line(missu("dataset", "chaos", "CHAOS", "--task", 2, nnUNet_raw=""), "nnUNet_raw is not set")


def test_a_dry_run_of_an_archive_writes_nothing(missu, tmp_path):
    task = tmp_path / "Task05_Tiny"
    (task / "imagesTr").mkdir(parents=True)
    (task / "labelsTr").mkdir()
    for part in ("imagesTr", "labelsTr"):
        (task / part / "tiny_00.nii.gz").touch()
    listed = {"image": "imagesTr/tiny_00.nii.gz", "label": "labelsTr/tiny_00.nii.gz"}
    description = {"modality": {"0": "MR"}, "labels": {"0": "background", "1": "PZ"}, "training": [listed], "test": []}
    (task / "dataset.json").write_text(json.dumps(description))
    with tarfile.open(tmp_path / "it.tar", "w") as tar:
        tar.add(task, task.name)
    run = missu("dataset", "msd", "it.tar", "--dry-run")
    assert run.returncode == 0, run.stderr
    assert "write nnUNet_raw/Dataset005_Tiny/labelsTr/tiny_00.nii.gz\n" in run.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Task05_Tiny", "it.tar"]


def test_archives_cannot_be_linked(missu, tmp_path):
    with tarfile.open(tmp_path / "Task04_Hippocampus.tar", "w"):
        pass
    run = missu("dataset", "msd", "Task04_Hippocampus.tar", "--symlink")
    assert_one_line(run, "Task04_Hippocampus.tar: an archive cannot be linked to")


@pytest.mark.parametrize(
    ("library", "arguments"),
    [
        ("pydicom", ["chaos", "CHAOS", "--task", "2"]),
        ("pooch", ["msd", "Task04", "--download"]),
    ],
)
def test_a_missing_extra_is_named(missu, library, arguments):
    run = missu("dataset", *arguments, before=f"import sys; sys.modules[{library!r}] = None")
    assert_one_line(run, f"{library} is not installed: pip install 'missu-nnunet[datasets]'")


def test_help_loads_no_library(missu):
    libraries = ("torch", "numpy", "SimpleITK", "nnunetv2")
    check = f"import atexit, sys; atexit.register(lambda: print([m for m in {libraries} if m in sys.modules]))"
    run = missu("dataset", "--help", before=check)
    assert run.returncode == 0
    assert run.stdout.endswith("[]\n")
