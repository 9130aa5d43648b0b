"""The phantom dataset: its format, its determinism, and that it poses the problem it claims to pose."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from missu_nnunet.datasets.phantom import LABELS, generate_phantom, write_phantom_dataset

STRUCTURES = {name: value for name, value in LABELS.items() if value}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "Task900_Phantom"
    write_phantom_dataset(folder, seed=3, num_training=3, num_test=2)
    return folder


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_same_seed_writes_same_bytes(dataset: Path, tmp_path: Path) -> None:
    write_phantom_dataset(tmp_path / "Task900_Phantom", seed=3, num_training=3, num_test=2)
    assert _hashes(tmp_path / "Task900_Phantom") == _hashes(dataset)


def test_other_seed_writes_other_cases(dataset: Path, tmp_path: Path) -> None:
    write_phantom_dataset(tmp_path / "Task900_Phantom", seed=4, num_training=3, num_test=2)
    other = _hashes(tmp_path / "Task900_Phantom")
    assert all(other[name] != value for name, value in _hashes(dataset).items() if name.endswith(".nii.gz"))


def test_a_case_does_not_depend_on_the_number_of_cases(dataset: Path, tmp_path: Path) -> None:
    write_phantom_dataset(tmp_path / "Task900_Phantom", seed=3, num_training=4, num_test=0)
    name = "imagesTr/phantom_001.nii.gz"
    assert _hashes(tmp_path / "Task900_Phantom")[name] == _hashes(dataset)[name]


def test_existing_folder_is_left_alone(dataset: Path) -> None:
    before = _hashes(dataset)
    with pytest.raises(FileExistsError):
        write_phantom_dataset(dataset, seed=5)
    assert _hashes(dataset) == before


def test_dataset_json_names_the_files_that_exist(dataset: Path) -> None:
    description = json.loads((dataset / "dataset.json").read_text())
    assert description["labels"] == {str(value): name for name, value in LABELS.items()}
    named = [file for case in description["training"] for file in case.values()] + description["test"]
    on_disk = [f"./{name}" for name in _hashes(dataset) if name.startswith("images") or name.startswith("labelsTr")]
    assert sorted(named) == sorted(on_disk)
    assert (description["numTraining"], description["numTest"]) == (3, 2)


def test_images_are_4d_with_channels_last_on_the_grid_of_their_labels(dataset: Path) -> None:
    for subset in ("Tr", "Ts"):
        for file in sorted((dataset / f"images{subset}").iterdir()):
            image, labels = sitk.ReadImage(file), sitk.ReadImage(dataset / f"labels{subset}" / file.name)
            assert image.GetSize() == (*labels.GetSize(), 2)
            assert image.GetSpacing()[:3] == labels.GetSpacing() == (1, 1, 1)
            assert set(np.unique(sitk.GetArrayFromImage(labels))) == {0, *STRUCTURES.values()}


@pytest.mark.parametrize("seed", range(8))
def test_no_channel_tells_the_structures_apart(seed: int) -> None:
    case = generate_phantom(np.random.default_rng(seed))
    first, second = case.image.astype(float)
    medians = {
        name: (np.median(first[case.labels == value]), np.median(second[case.labels == value]))
        for name, value in STRUCTURES.items()
    }
    # Channel 0 shows nucleus and shell alike and the vessel dark; channel 1 shows nucleus and vessel alike.
    assert medians["shell"][0] > 1.4 * medians["vessel"][0]
    assert medians["nucleus"][0] == pytest.approx(medians["shell"][0], rel=0.35)
    assert medians["vessel"][1] > 1.4 * medians["shell"][1]
    assert medians["nucleus"][1] == pytest.approx(medians["vessel"][1], rel=0.35)


@pytest.mark.parametrize("seed", range(8))
def test_background_holds_a_mimic_of_the_nucleus(seed: int) -> None:
    case = generate_phantom(np.random.default_rng(seed))
    nucleus = case.image[:, case.labels == LABELS["nucleus"]]
    low, high = np.percentile(nucleus, (10, 99), axis=1)
    bounds = (slice(None), None, None, None)
    alike = ((case.image > low[bounds]) & (case.image < high[bounds])).all(axis=0)
    assert (alike & (case.labels == LABELS["background"])).sum() > 20


def test_shell_separates_nucleus_from_background() -> None:
    for seed in range(8):
        labels = generate_phantom(np.random.default_rng(seed)).labels
        inner, outer = labels[:, :-1], labels[:, 1:]
        touches = ((inner == LABELS["nucleus"]) & (outer == LABELS["background"])).sum()
        assert touches == 0
