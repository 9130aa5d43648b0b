import json

import pytest

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
    for name in ("8", "Dataset007_Heart", "Liver", str(raw)):
        with pytest.raises(InputError):
            find_dataset(name)
    (raw / "Dataset007_Other").mkdir()
    (raw / "Dataset007_Other" / "dataset.json").write_text("{}")
    with pytest.raises(InputError, match="found Dataset007_Liver, Dataset007_Other in nnUNet_raw"):
        find_dataset("7")


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("{}", "the key 'labels' is missing"),
        ('{"labels": {"liver": "one"}}', "labels must map names to whole numbers"),
        ('{"labels": 3}', "labels must map names to whole numbers"),
    ],
)
def test_descriptions_that_cannot_be_used(raw, text, message):
    path = raw / "Dataset007_Liver" / "dataset.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_dataset(path.parent)
