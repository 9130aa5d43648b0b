"""Sparse copies: what is kept of dense label maps, and that nothing else changes."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from tiny_dataset import REGIONS, write_raw_dataset

from missu_nnunet.datasets.conversion import execute
from missu_nnunet.datasets.sparse import Sparsity, keep_scribbles, keep_slices, plan_sparse
from missu_nnunet.errors import InputError
from missu_nnunet.nnunet.dataset import read_dataset

IGNORE = 3
NAME = "Dataset008_Sparse"


def read(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def sparse_copy(raw: Path, source: str, sparsity: Sparsity, link: bool = False) -> Path:
    return execute(plan_sparse(read_dataset(raw / source), raw, NAME, sparsity, link, workers=1), raw, workers=1)


@given(arrays(np.int16, (3, 9, 11), elements=st.integers(0, IGNORE)), st.integers(0, 5))
def test_scribbles_are_thin_lines_of_every_class_of_every_slice(dense: np.ndarray, seed: int) -> None:
    sparse = keep_scribbles(dense, IGNORE, np.random.default_rng(seed))
    drawn = sparse != IGNORE
    assert np.array_equal(sparse[drawn], dense[drawn])
    for before, after in zip(dense, sparse, strict=True):
        assert set(np.unique(before)) - {IGNORE} == set(np.unique(after)) - {IGNORE}
        for label in set(np.unique(after)) - {IGNORE}:
            stroke = after == label
            # A line: no voxel has more than two neighbours along the way, so there are no filled squares in it.
            assert not (stroke[1:, 1:] & stroke[:-1, 1:] & stroke[1:, :-1] & stroke[:-1, :-1]).any()


@given(st.integers(2, 20), st.integers(2, 9), st.integers(0, 5))
def test_every_nth_slice_is_whole_and_the_rest_ignored(number: int, every: int, seed: int) -> None:
    dense = np.arange(number * 6, dtype=np.int16).reshape(number, 2, 3)
    sparse = keep_slices(dense, -9, every, np.random.default_rng(seed))
    whole = np.flatnonzero((sparse == dense).all(axis=(1, 2)))
    assert (np.delete(sparse, whole, axis=0) == -9).all()
    assert len(whole) >= 1
    assert (np.diff(whole) == every).all()
    assert whole[0] < every
    assert whole[-1] + every >= number


@pytest.mark.parametrize("labels", [None, REGIONS])
def test_a_copy_is_a_dataset_of_nnunets(tmp_path: Path, labels: dict | None) -> None:
    source = write_raw_dataset(tmp_path, 7, labels)
    folder = sparse_copy(tmp_path, source, Sparsity(scribbles=True, seed=1))
    content = json.loads((folder / "dataset.json").read_text())
    manager = LabelManager(content["labels"], content.get("regions_class_order"))
    assert manager.ignore_label == IGNORE
    assert content["numTraining"] == 6
    for file in (tmp_path / source).glob("images*/*"):
        assert (folder / file.relative_to(tmp_path / source)).read_bytes() == file.read_bytes()
    for file in (tmp_path / source / "labelsTr").iterdir():
        sparse, dense = sitk.ReadImage(str(folder / "labelsTr" / file.name)), sitk.ReadImage(str(file))
        assert sparse.GetSpacing() == dense.GetSpacing()
        kept = sitk.GetArrayFromImage(sparse) != IGNORE
        assert 0.005 < kept.mean() < 0.1
        assert np.array_equal(sitk.GetArrayFromImage(sparse)[kept], sitk.GetArrayFromImage(dense)[kept])


def test_the_seed_and_the_name_decide_what_is_kept(tmp_path: Path) -> None:
    source = write_raw_dataset(tmp_path, 7)
    maps = []
    for number, seed in enumerate((0, 0, 1)):
        sparsity = Sparsity(every=5, seed=seed)
        plan = plan_sparse(read_dataset(tmp_path / source), tmp_path, NAME, sparsity, link=True, workers=1)
        folder = execute(plan, tmp_path / str(number), workers=1)
        maps.append(np.stack([read(file) for file in sorted((folder / "labelsTr").iterdir())]))
    assert np.array_equal(maps[0], maps[1])
    assert not np.array_equal(maps[0], maps[2])
    assert len({tuple(np.flatnonzero(one.min(axis=(1, 2)) < IGNORE)) for one in maps[0]}) > 1  # cases differ


def test_few_labelled_cases_are_all_that_is_validated_on(tmp_path: Path) -> None:
    source = write_raw_dataset(tmp_path, 7)
    patients = {0: "a", 1: "a", 2: "b", 3: "c", 4: "c", 5: "d"}
    table = "case,patient\n" + "".join(f"case_{case:03d},{name}\n" for case, name in patients.items())
    (tmp_path / source / "cases.csv").write_text(table)
    folder = sparse_copy(tmp_path, source, Sparsity(labelled=4))
    for case in range(6):
        sparse = read(folder / "labelsTr" / f"case_{case:03d}.nii.gz")
        dense = read(tmp_path / source / "labelsTr" / f"case_{case:03d}.nii.gz")
        assert np.array_equal(sparse, dense if case < 4 else np.full_like(dense, IGNORE))
    folds = json.loads((folder / "splits_final.json").read_text())
    assert sorted(case for fold in folds for case in fold["val"]) == [f"case_{case:03d}" for case in range(4)]
    for fold in folds:
        owners = [{patients[int(case[-1])] for case in fold[side]} for side in ("train", "val")]
        assert not owners[0] & owners[1]
        assert "case_005" in fold["train"]
    assert (folder / "cases.csv").read_text().splitlines() == table.splitlines()


def test_slices_lie_across_the_widest_step(tmp_path: Path) -> None:
    source = write_raw_dataset(tmp_path, 7)
    for file in (tmp_path / source).glob("*Tr/*"):
        image = sitk.ReadImage(str(file))
        image.SetSpacing((5, 1, 1))  # x, y, z
        sitk.WriteImage(image, str(file))
    folder = sparse_copy(tmp_path, source, Sparsity(every=5))
    kept = read(folder / "labelsTr" / "case_000.nii.gz") != IGNORE
    assert kept.all(axis=(0, 1)).sum() == 4
    assert kept.mean() == pytest.approx(0.2)


def test_the_only_slice_is_one_whatever_its_thickness(tmp_path: Path) -> None:
    source = write_raw_dataset(tmp_path, 7)
    for file in (tmp_path / source).glob("*Tr/*"):
        image = sitk.ReadImage(str(file))[:, :, 8:9]
        image.SetSpacing((2, 2, 1))
        sitk.WriteImage(image, str(file))
    folder = sparse_copy(tmp_path, source, Sparsity(scribbles=True))
    assert all((read(file) != IGNORE).mean() < 0.2 for file in (folder / "labelsTr").iterdir())


def unlabel(folder: Path, cases: range) -> None:
    """Make label maps of the ignore label alone."""
    content = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(content | {"labels": content["labels"] | {"ignore": IGNORE}}))
    for case in cases:
        file = folder / "labelsTr" / f"case_{case:03d}.nii.gz"
        sitk.WriteImage(sitk.ReadImage(str(file)) * 0 + IGNORE, str(file))


def test_cases_without_labels_are_not_counted(tmp_path: Path) -> None:
    source = write_raw_dataset(tmp_path, 7)
    unlabel(tmp_path / source, range(2))
    folder = sparse_copy(tmp_path, source, Sparsity(labelled=3))
    labelled = [case for case in range(6) if (read(folder / "labelsTr" / f"case_{case:03d}.nii.gz") != IGNORE).any()]
    assert labelled == [2, 3, 4]
    folds = json.loads((folder / "splits_final.json").read_text())
    assert sorted(case for fold in folds for case in fold["val"]) == ["case_002", "case_003", "case_004"]
    with pytest.raises(InputError, match="--cases 5: Dataset007_Tiny has 4 cases with labels; give fewer"):
        plan_sparse(read_dataset(tmp_path / source), tmp_path, "Dataset009_More", Sparsity(labelled=5), False, 1)


def test_a_sparse_copy_of_a_sparse_copy_has_labels_in_every_case(tmp_path: Path) -> None:
    source = write_raw_dataset(tmp_path, 7)
    folder = sparse_copy(tmp_path, source, Sparsity(every=8))
    again = plan_sparse(read_dataset(folder), tmp_path, "Dataset009_Again", Sparsity(every=8, seed=1), False, 1)
    for file in (execute(again, tmp_path, workers=1) / "labelsTr").iterdir():
        slices = (read(file) != IGNORE).all(axis=(1, 2))
        assert slices.sum() == 1
        assert (read(folder / "labelsTr" / file.name)[slices] == read(file)[slices]).all()


def test_slices_of_slices_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    source = write_raw_dataset(tmp_path, 7, file_ending=".png")
    with pytest.raises(InputError, match=r"labelsTr/case_000\.png: a single slice, expected a volume"):
        plan_sparse(read_dataset(tmp_path / source), tmp_path, NAME, Sparsity(every=2), link=False, workers=1)


@pytest.mark.parametrize("missing", ["imagesTr/case_001_0000.nii.gz", "labelsTr/case_001.nii.gz"])
def test_a_case_that_lacks_a_file(missing: str, tmp_path: Path) -> None:
    source = write_raw_dataset(tmp_path, 7)
    (tmp_path / source / missing).unlink()
    with pytest.raises(InputError, match=rf"{missing}: no such file, expected images and a label map of every case"):
        sparse_copy(tmp_path, source, Sparsity(labelled=3))
    assert [path.name for path in tmp_path.iterdir()] == [source]


def test_what_cannot_be_made_is_reported(tmp_path: Path) -> None:
    source = write_raw_dataset(tmp_path, 7)
    with pytest.raises(InputError, match="--cases 7: Dataset007_Tiny has 6 cases"):
        sparse_copy(tmp_path, source, Sparsity(labelled=7))
    sparse_copy(tmp_path, source, Sparsity(labelled=3))
    with pytest.raises(InputError, match=r"found a dataset made with .*'labelled': 3.*choose another name"):
        sparse_copy(tmp_path, source, Sparsity(labelled=4))
    label = tmp_path / source / "labelsTr" / "case_001.nii.gz"
    image = sitk.ReadImage(str(label)) * 2
    sitk.WriteImage(image, str(label))
    with pytest.raises(InputError, match=r"case_001.nii.gz: found label 4, expected 0, 1, 2; correct"):
        sparse_copy(tmp_path, source, Sparsity(labelled=3))
    holed = sitk.Cast(image, sitk.sitkFloat32)
    holed[1, 1, 1] = float("nan")
    sitk.WriteImage(holed, str(label))
    with pytest.raises(InputError, match=r"case_001.nii.gz: NaN or infinite voxels, expected a label"):
        sparse_copy(tmp_path, source, Sparsity(labelled=3))
    description = json.loads((tmp_path / source / "dataset.json").read_text())
    description["labels"] |= {"ignore": 1}
    (tmp_path / source / "dataset.json").write_text(json.dumps(description))
    sitk.WriteImage(image / 4, str(label))
    with pytest.raises(InputError, match=r"dataset\.json: found the ignore label 1 beside 2, expected it to be the"):
        sparse_copy(tmp_path, source, Sparsity(labelled=3))
    del description["labels"]["ignore"]
    description["labels"]["organ"] = 2**15 - 1
    (tmp_path / source / "dataset.json").write_text(json.dumps(description))
    with pytest.raises(InputError, match="found label 32767, expected labels below 32767"):
        sparse_copy(tmp_path, source, Sparsity(labelled=3))
