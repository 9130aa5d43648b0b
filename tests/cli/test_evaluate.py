"""``missu evaluate`` as a user runs it."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from missu_nnunet.cli.options import parse_scoring


@pytest.fixture
def folders(tmp_path):
    for folder, shift in (("pred", 1), ("ref", 0)):
        (tmp_path / folder).mkdir()
        labels = np.zeros((6, 12, 12), np.uint8)
        labels[2:4, 3 + shift : 9 + shift, 3:9] = 1
        sitk.WriteImage(sitk.GetImageFromArray(labels), str(tmp_path / folder / "a.nii.gz"))
    return tmp_path / "pred", tmp_path / "ref"


def test_table_and_files(missu, folders, tmp_path):
    options = ("evaluate", *folders, "--protocol", "chaos", "-np", "1")
    run = missu(*options)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("protocol chaos, 1 case\n")
    assert "liver" in run.stdout
    assert "0.8333 " in run.stdout
    assert "±" not in run.stdout.splitlines()[2]  # of a single case
    liver = json.loads(missu(*options, "--json").stdout)["cases"]["a"]["liver"]
    assert liver["dice"] == pytest.approx(5 / 6)
    assert liver["ravd"] == 0
    assert missu(*options, "--csv", tmp_path / "out.csv").stdout == run.stdout
    assert missu(*options, "--csv", "-").stdout.splitlines() == (tmp_path / "out.csv").read_text().splitlines()


def test_the_dataset_beside_the_predictions_names_classes_and_the_ignore_label(missu, folders):
    predictions, references = folders
    labels = {"background": 0, "organ": 1, "ignore": 2}
    description = {"channel_names": {"0": "MRI"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    (predictions / "dataset.json").write_text(json.dumps(description))
    reference = sitk.GetArrayFromImage(sitk.ReadImage(str(references / "a.nii.gz")))
    reference[0] = 2
    sitk.WriteImage(sitk.GetImageFromArray(reference), str(references / "a.nii.gz"))
    run = missu("evaluate", *folders, "--json")
    assert run.returncode == 0, run.stderr
    content = json.loads(run.stdout)
    assert content["classes"] == {"organ": [1]}
    assert content["foreground_mean"]["dice"] == pytest.approx(5 / 6)


def test_a_metric_that_is_named_twice_counts_once():
    assert parse_scoring("nnunet", "dice,hd95, dice")[1] == ["dice", "hd95"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--protocol", "acdc"], "missu: --protocol acdc: unknown, expected one of nnunet, brats, chaos"),
        (["--metrics", "dice,jaccard"], "missu: --metrics jaccard: unknown, expected some of dice, hd95"),
        (["--metrics", "score"], "missu: --metrics score: unknown"),
        (["-d", "nowhere"], "missu: nowhere: no dataset there"),
        (["--json", "--csv", "-"], "missu: --json and --csv -: both print to standard output"),
        (["--csv", ""], "missu: --csv .: cannot be written (Is a directory); give the name of a file"),
        (["--csv", f"{__file__}/new/out.csv"], f"missu: {__file__}/new: {__file__} is not a folder that can be"),
    ],
)
def test_errors_are_one_line(missu, folders, options, message):
    run = missu("evaluate", *folders, *options)
    assert run.returncode == 2
    assert run.stderr.startswith(message)
    assert run.stderr.count("\n") == 1
