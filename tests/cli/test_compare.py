"""``missu compare`` as a user runs it."""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk

CASES = [f"case_{index}" for index in range(8)]


def write(folder, case, length):
    """A bar of ``length`` voxels that starts at a fixed place."""
    folder.mkdir(exist_ok=True)
    labels = np.zeros((3, 8, 40), np.uint8)
    labels[1, 2:6, 2 : 2 + length] = 1
    sitk.WriteImage(sitk.GetImageFromArray(labels), str(folder / f"{case}.nii.gz"))


@pytest.fixture
def arms(tmp_path):
    """References, a good arm (one voxel short) and a poor one (two to nine voxels short)."""
    for index, case in enumerate(CASES):
        write(tmp_path / "ref", case, 30)
        write(tmp_path / "good", case, 29)
        write(tmp_path / "poor", case, 28 - index)
    return tmp_path / "good", tmp_path / "poor", "--reference", tmp_path / "ref", "-np", "1"


def test_table_sentence_and_files(missu, arms, tmp_path):
    run = missu("compare", *arms)
    assert run.returncode == 0, run.stderr
    assert "8/0/0" in run.stdout
    assert "corrected p 0.00781: shown, good is better" in run.stdout
    run = missu("compare", *arms, "--json", "--csv", tmp_path / "out.csv")
    content = json.loads(run.stdout)
    (comparison,) = content["comparisons"]
    # 2·29 / (29 + 30) − the mean of 2·(28 − i) / (58 − i)
    expected = 58 / 59 - np.mean([2 * (28 - i) / (58 - i) for i in range(8)])
    assert comparison["difference"] == pytest.approx(expected)
    assert comparison["p"] == pytest.approx(2 / 2**8)
    assert comparison["low"] < expected < comparison["high"]
    assert content["rankings"][0]["shares"] == {"good": [1, 0], "poor": [0, 1]}
    assert list(content["cases"]["poor"]) == CASES
    (row,) = csv.DictReader((tmp_path / "out.csv").open())
    assert (row["better"], row["shown"]) == ("good", "True")
    assert float(row["difference"]) == comparison["difference"]


def test_undefined_values_are_null_in_json(missu, arms, tmp_path):
    write(tmp_path / "poor", CASES[0], 0)
    run = missu("compare", *arms, "--metrics", "hd95", "--json")
    assert run.returncode == 0, run.stderr
    content = json.loads(run.stdout)
    assert "left out where undefined in one arm alone: 0 of good, 1 of poor" in content["comparisons"][0]["sentence"]
    assert content["cases"]["poor"][CASES[0]]["1"]["hd95"] is None
    assert content["comparisons"][0]["dropped"] == 1


def test_a_single_case_is_said_plainly(missu, arms, tmp_path):
    for folder in ("good", "poor"):
        for case in CASES[1:]:
            (tmp_path / folder / f"{case}.nii.gz").unlink()
    run = missu("compare", *arms, "--json")
    assert run.returncode == 0, run.stderr
    (comparison,) = json.loads(run.stdout)["comparisons"]
    assert "one case cannot show it" in comparison["sentence"]
    assert comparison["low"] is None


def test_three_arms_with_brackets_in_a_name(missu, arms, tmp_path):
    for index, case in enumerate(CASES):
        write(tmp_path / "[bold]", case, 20 + index)
    run = missu("compare", tmp_path / "[bold]", *arms)
    assert run.returncode == 0, run.stderr
    for pair in ("[bold] − good", "[bold] − poor", "good − poor"):
        assert pair in run.stdout


def test_missing_cases_leave_nothing_behind(missu, arms, tmp_path):
    (tmp_path / "poor" / "case_3.nii.gz").unlink()
    run = missu("compare", *arms, "--csv", tmp_path / "out.csv")
    assert run.returncode == 2
    assert run.stderr.startswith(f"missu: {tmp_path / 'poor'}: no segmentation of case_3.nii.gz")
    assert run.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--level", "5"], "missu: --level 5: expected a probability between 0 and 1"),
        (["--metrics", "jaccard"], "missu: --metrics jaccard: unknown"),
        (["--protocol", "acdc"], "missu: --protocol acdc: unknown"),
        (["--dataset", "nowhere"], "missu: nowhere: no dataset there"),
    ],
)
def test_errors_are_one_line(missu, arms, options, message):
    run = missu("compare", *arms, *options)
    assert run.returncode == 2
    assert run.stderr.startswith(message)
    assert run.stderr.count("\n") == 1


def test_a_single_folder_is_an_error(missu, tmp_path):
    run = missu("compare", tmp_path)
    assert run.returncode == 2
    assert run.stderr == f"missu: {tmp_path}: a single folder, expected two or more to compare; give another one\n"
