import json
import math

import pytest
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from missu_nnunet.errors import InputError
from missu_nnunet.nnunet.dataset import find_dataset, read_dataset


@pytest.fixture
def raw(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    for name in ("Dataset007_Liver", "Dataset070_Spleen"):
        (tmp_path / name).mkdir()
        description = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz"}
        (tmp_path / name / "dataset.json").write_text(json.dumps(description))
    return tmp_path


def test_a_dataset_by_any_of_its_names(raw):
    folder = raw / "Dataset007_Liver"
    for name in ("7", "007", "Dataset007_Liver", str(folder), str(folder / "dataset.json")):
        assert find_dataset(name) == folder
    for name in (
        "8",
        "Dataset007_Heart",
        "Liver",
        str(raw),
        "²",
        "",
        "Dataset007_**",
        "Dataset007_[",
        "\0",
    ):
        with pytest.raises(InputError):
            find_dataset(name)
    (raw / "Dataset007_Other").mkdir()
    (raw / "Dataset007_Other" / "dataset.json").write_text("{}")
    with pytest.raises(InputError, match="found Dataset007_Liver, Dataset007_Other in nnUNet_raw"):
        find_dataset("7")


def test_a_linked_dataset_has_the_name_of_the_link(raw):
    """It is the one that nnU-Net finds, and has in its other folders."""
    (raw / "Dataset007_Liver").rename(raw / "elsewhere")
    (raw / "Dataset007_Liver").symlink_to(raw / "elsewhere")
    assert read_dataset(find_dataset("7")).name == "Dataset007_Liver"


def test_without_nnunet_raw(monkeypatch):
    monkeypatch.delenv("nnUNet_raw", raising=False)
    with pytest.raises(InputError, match="export nnUNet_raw="):
        find_dataset("7")


def test_regions_and_the_ignore_label(raw):
    path = raw / "Dataset007_Liver" / "dataset.json"
    description = json.loads(path.read_text())
    description["labels"] = {"background": [0], "whole": [1, 2], "core": 2, "ignore": 3}
    description["channel_names"] = {str(number): f"c{number}" for number in (10, *range(10))}
    path.write_text(json.dumps(description))
    dataset = read_dataset(path.parent)
    assert dataset.regions == {"whole": (1, 2), "core": (2,)}
    assert (dataset.ignore, dataset.labels) == (3, {0, 1, 2, 3})
    assert dataset.channels == tuple(f"c{number}" for number in range(11))


GOOD = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz"}


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "cannot be read as JSON"), ("[]", "expected an object"), ("{}", "the key 'labels' is missing")],
)
def test_files_that_do_not_describe_a_dataset(raw, text, message):
    path = raw / "Dataset007_Liver" / "dataset.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_dataset(path.parent)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("channel_names", value) for value in (["CT"], 3, None, {}, {"R": 0}, {"R": "0"}, {"0": 0}, {"0": ["CT"]})),
        *(("labels", value) for value in (3, [], None, {}, {"liver": "one"}, {"liver": []}, {"liver": [[1]]})),
        *(("labels", {"liver": value}) for value in (math.inf, math.nan, True, None, 1.5, {"1": 1}, [1, True])),
        *(("labels", {"liver": value}) for value in (10**30, 2**15, -(2**15), "32768")),
        *(("labels", {"background": 0, "ignore": value}) for value in ([], [3], True, "x")),
        *(("file_ending", value) for value in (3, "", None, [], "/../x", "\0")),
        *(("dataset", value) for value in (None, [], 3, {"case": 3}, {"case": {"images": [], "label": "a"}})),
        *(("dataset", {"case": value}) for value in ({"images": "a", "label": "a"}, {"images": [3], "label": "a"})),
        ("dataset", {"../case": {"images": ["a"], "label": "a"}}),
    ],
)
def test_descriptions_that_cannot_be_used(raw, key, value):
    path = raw / "Dataset007_Liver" / "dataset.json"
    path.write_text(json.dumps(GOOD | {key: value}))
    with pytest.raises(InputError, match=rf"dataset\.json: {key}.*found .*; nnU-Net describes every dataset"):
        read_dataset(path.parent)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": {"background": "0", "organ": "1"}},
        {"labels": {"background": 0, "organ": 1.0}},
        {"labels": {"background": 0, "organ": 1, "ignore": None}},
        {"labels": {"background": 0, "organ": [1]}, "regions_class_order": [1]},
        {"overwrite_image_reader_writer": "NibabelIOWithReorient", "licence": 3, "numTraining": "3"},
        {"dataset": {}},
    ],
)
def test_descriptions_that_nnunet_takes(raw, change):
    path = raw / "Dataset007_Liver" / "dataset.json"
    path.write_text(json.dumps(GOOD | change))
    dataset = read_dataset(path.parent)
    assert dataset.regions == {"organ": (1,)}
    assert dataset.ignore is None
    LabelManager((GOOD | change)["labels"], change.get("regions_class_order"))


def test_old_descriptions_call_the_channels_modality(raw):
    path = raw / "Dataset007_Liver" / "dataset.json"
    content = {key: value for key, value in GOOD.items() if key != "channel_names"}
    path.write_text(json.dumps(content | {"modality": {"0": "MRI"}}))
    assert read_dataset(path.parent).channels == ("MRI",)
