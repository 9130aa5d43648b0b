"""BraTS 2019 from trees in the organisers' layout, back to their labels."""

import csv
import gzip
import json
import shutil

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from missu_nnunet.datasets.brats2019 import plan_brats2019, plan_submission
from missu_nnunet.datasets.conversion import execute
from missu_nnunet.errors import InputError

SHAPE = (6, 7, 8)
ORIGIN = (0.0, -239.0, 0.0)  # as in genuine files


def write_case(folder, ending, labels=None, rng=None):
    """One case; returns its label array."""
    rng = rng or np.random.default_rng(0)
    folder.mkdir(parents=True)
    labels = rng.choice([0, 1, 2, 4], SHAPE) if labels is None else labels
    for modality in ("flair", "t1", "t1ce", "t2", "seg"):
        array = labels.astype(np.int16) if modality == "seg" else rng.integers(0, 3000, SHAPE).astype(np.int16)
        image = sitk.GetImageFromArray(array)
        image.SetOrigin(ORIGIN)
        sitk.WriteImage(image, str(folder / f"{folder.name}_{modality}{ending}"))
    return labels


@pytest.fixture
def download(tmp_path):
    """Six HGG and four LGG, half of them uncompressed, and two validation cases."""
    rng = np.random.default_rng(1)
    training = tmp_path / "src" / "MICCAI_BraTS_2019_Data_Training"
    truth = {}
    for number in range(10):
        case = f"BraTS19_CBICA_A{number:02d}_1"
        folder = training / ("HGG" if number < 6 else "LGG") / case
        truth[case] = write_case(folder, ".nii" if number % 2 else ".nii.gz", rng=rng)
    (training / "survival_data.csv").write_text(
        "BraTS19ID,Age,Survival,ResectionStatus\nBraTS19_CBICA_A00_1,61.5,289,GTR\n"
    )
    (training / "name_mapping.csv").write_text(
        "Grade,BraTS_2017_subject_ID,BraTS_2018_subject_ID,TCGA_TCIA_subject_ID,BraTS_2019_subject_ID\n"
        "HGG,Brats17_X_1,Brats18_X_1,NA,BraTS19_CBICA_A00_1\n"
    )
    (training / "notes.csv").write_bytes("Schädel,x\n1\n".encode("latin-1"))
    (training / "HGG" / "._BraTS19_CBICA_A00_1").write_bytes(b"\0")
    validation = tmp_path / "src" / "MICCAI_BraTS_2019_Data_Validation"
    for number in range(2):
        case = f"BraTS19_TCIA_V{number:02d}_1"
        write_case(validation / case, ".nii.gz", rng=rng)
        (validation / case / f"{case}_seg.nii.gz").unlink()
    return tmp_path / "src", truth


def array_of(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def test_the_dataset_holds_what_the_organisers_wrote(download, tmp_path):
    source, truth = download
    folder = execute(plan_brats2019(source, 43, source), tmp_path / "raw", workers=2)
    assert folder.name == "Dataset043_BraTS2019"
    for case, labels in truth.items():
        image = sitk.ReadImage(str(folder / "labelsTr" / f"{case}.nii.gz"))
        expected = np.select([labels == 2, labels == 1, labels == 4], [1, 2, 3], 0)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), expected)
        assert image.GetOrigin() == ORIGIN
        original = next(source.rglob(f"{case}_t1ce.nii*"))
        np.testing.assert_array_equal(array_of(folder / "imagesTr" / f"{case}_0001.nii.gz"), array_of(original))
    assert len(list((folder / "imagesTs").iterdir())) == 8
    # nnU-Net itself accepts it.
    verify_dataset_integrity(str(folder), num_processes=1)

    description = json.loads((folder / "dataset.json").read_text())
    assert description["labels"] == {"background": 0, "WT": [1, 2, 3], "TC": [2, 3], "ET": 3}
    assert description["regions_class_order"] == [1, 2, 3]

    rows = {row["case"]: row for row in csv.DictReader((folder / "cases.csv").open())}
    assert len(rows) == 12
    assert rows["BraTS19_CBICA_A00_1"]["Survival"] == "289"
    assert rows["BraTS19_CBICA_A00_1"]["BraTS_2018_subject_ID"] == "Brats18_X_1"
    assert rows["BraTS19_CBICA_A09_1"]["grade"] == "LGG"
    assert rows["BraTS19_TCIA_V00_1"]["set"] == "validation"


def test_compressing_keeps_the_bytes(download, tmp_path):
    source, _ = download
    folder = execute(plan_brats2019(source, 43), tmp_path / "raw", workers=1)
    plain = next(source.rglob("BraTS19_CBICA_A01_1_flair.nii"))
    assert gzip.decompress((folder / "imagesTr" / "BraTS19_CBICA_A01_1_0003.nii.gz").read_bytes()) == plain.read_bytes()


def test_every_source_file_is_accounted_for(download, tmp_path):
    source, _ = download
    folder = execute(plan_brats2019(source, 43, source), tmp_path / "raw", workers=1)
    rows = list(csv.DictReader((folder / "conversion.csv").open()))
    assert [row["source"] for row in rows] == sorted(str(path) for path in source.rglob("*") if path.is_file())
    assert {row["status"] for row in rows} == {"converted", "skipped"}
    details = {row["source"].rpartition("/")[2]: row["detail"] for row in rows}
    assert details["._BraTS19_CBICA_A00_1"] == "macOS metadata, no data"
    assert details["survival_data.csv"] == details["name_mapping.csv"] == "its rows are in cases.csv"
    assert details["notes.csv"] == "not one of <ID>_{flair,t1,t1ce,t2,seg}.nii.gz, or there twice"


def test_every_fold_has_its_share_of_each_grade(download, tmp_path):
    source, truth = download
    splits = plan_brats2019(source, 43).documents["splits_final.json"]
    assert splits == plan_brats2019(source, 43).documents["splits_final.json"]
    assert sorted(case for fold in splits for case in fold["val"]) == sorted(truth)
    for fold in splits:
        assert sorted(fold["train"] + fold["val"]) == sorted(truth)
        assert 1 <= sum(case < "BraTS19_CBICA_A06" for case in fold["val"]) <= 2


def test_round_trip_to_the_organisers_labels(download, tmp_path):
    source, truth = download
    folder = execute(plan_brats2019(source, 43), tmp_path / "raw", workers=1)
    out = execute(plan_submission(folder / "labelsTr", "submission"), tmp_path, workers=1)
    assert sorted(path.name for path in out.iterdir()) == sorted(f"{case}.nii.gz" for case in truth)
    for case, labels in truth.items():
        image = sitk.ReadImage(str(out / f"{case}.nii.gz"))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), labels)
        assert image.GetOrigin() == ORIGIN


def test_values_that_are_no_labels(download, tmp_path):
    """SimpleITK reads NaN as background."""
    source, _ = download
    bad = next(source.rglob("BraTS19_CBICA_A03_1_seg.nii"))
    image = nibabel.load(bad)
    labels = np.asarray(image.dataobj, np.float32)
    labels[0, 0, 0] = np.nan
    nibabel.save(nibabel.Nifti1Image(labels, image.affine), bad)
    with pytest.raises(InputError, match=r"A03_1_seg.nii: NaN or infinite voxels"):
        execute(plan_brats2019(source, 43), tmp_path / "raw", workers=1)
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    shutil.copy(bad, predictions / "A_1.nii")
    with pytest.raises(InputError, match=r"A_1.nii: NaN or infinite voxels"):
        execute(plan_submission(predictions, "submission"), tmp_path, workers=1)


def test_links(download, tmp_path):
    source, _ = download
    folder = execute(plan_brats2019(source, 43, link=True), tmp_path / "raw", workers=1)
    assert (folder / "imagesTr" / "BraTS19_CBICA_A00_1_0000.nii.gz").is_symlink()
    assert not (folder / "imagesTr" / "BraTS19_CBICA_A01_1_0000.nii.gz").is_symlink()  # was .nii
    assert not (folder / "labelsTr" / "BraTS19_CBICA_A00_1.nii.gz").is_symlink()


def test_an_interrupted_conversion_continues(download, tmp_path):
    source, truth = download
    bad = next(source.rglob("BraTS19_CBICA_A03_1_seg.nii"))
    good = bad.read_bytes()
    write_case(tmp_path / "other" / "BraTS19_CBICA_A03_1", ".nii", labels=np.full(SHAPE, 3))
    shutil.copy(tmp_path / "other" / "BraTS19_CBICA_A03_1" / bad.name, bad)
    with pytest.raises(InputError, match=r"1 of 10 cases not converted, first BraTS19_CBICA_A03_1: .*found label 3"):
        execute(plan_brats2019(source, 43), tmp_path / "raw", workers=1)
    unfinished = tmp_path / "raw" / ".partial-Dataset043_BraTS2019"
    assert [path.name for path in (tmp_path / "raw").iterdir()] == [unfinished.name]
    assert not list(unfinished.rglob("*A03*"))
    kept = unfinished / "labelsTr" / "BraTS19_CBICA_A00_1.nii.gz"
    written_at = kept.stat().st_mtime_ns
    bad.write_bytes(good)
    folder = execute(plan_brats2019(source, 43), tmp_path / "raw", workers=1)
    assert (folder / "labelsTr" / kept.name).stat().st_mtime_ns == written_at
    assert len(list((folder / "labelsTr").iterdir())) == len(truth)
    assert not unfinished.exists()


def test_a_dataset_of_something_else_is_left_alone(download, tmp_path):
    source, _ = download
    foreign = tmp_path / "raw" / "Dataset043_BraTS2019" / "imagesTr" / "mine_0000.nii.gz"
    foreign.parent.mkdir(parents=True)
    foreign.touch()
    with pytest.raises(InputError, match="does not write"):
        execute(plan_brats2019(source, 43), tmp_path / "raw", workers=1)
    assert [path.name for path in foreign.parent.iterdir()] == [foreign.name]


def test_a_submission_of_other_predictions_is_refused(tmp_path):
    for number, folder in enumerate(("old", "new")):
        (tmp_path / folder).mkdir()
        image = sitk.GetImageFromArray(np.full(SHAPE, number, np.uint8))
        sitk.WriteImage(image, str(tmp_path / folder / "A_1.nii.gz"))
    submission = execute(plan_submission(tmp_path / "new", "submission"), tmp_path, workers=1)
    before = (submission / "A_1.nii.gz").read_bytes()
    with pytest.raises(InputError, match=r"A_1.nii.gz: was made from other files, which .*submission.conversion.csv"):
        execute(plan_submission(tmp_path / "old", "submission"), tmp_path, workers=1)
    assert (submission / "A_1.nii.gz").read_bytes() == before
    shutil.rmtree(submission)
    execute(plan_submission(tmp_path / "old", "submission"), tmp_path, workers=1)
    assert (submission / "A_1.nii.gz").read_bytes() != before


@pytest.mark.parametrize("out", ["predictions", "predictions/.", "", "predictions/out", "link"])
def test_a_submission_is_apart_from_its_predictions(out, tmp_path):
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    (tmp_path / "link").symlink_to(predictions)
    sitk.WriteImage(sitk.GetImageFromArray(np.full(SHAPE, 3, np.uint8)), str(predictions / "A_1.nii.gz"))
    before = sorted(tmp_path.rglob("*"))
    out = tmp_path / out
    with pytest.raises(InputError, match=r"is, holds or lies in .*predictions, .*choose another place"):
        execute(plan_submission(predictions, out.name), out.parent, workers=1)
    assert sorted(tmp_path.rglob("*")) == before


def test_two_predictions_of_one_case(tmp_path):
    for ending in (".nii", ".nii.gz"):
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros(SHAPE, np.uint8)), str(tmp_path / f"A_1{ending}"))
    with pytest.raises(InputError, match=r"A_1.nii.gz: becomes A_1.nii.gz, as .*A_1.nii does"):
        plan_submission(tmp_path, "submission")


@pytest.mark.parametrize("twin", ["MICCAI_BraTS_2019_Data_Training/LGG", "MICCAI_BraTS_2019_Data_Validation"])
def test_a_case_in_two_folders(download, tmp_path, twin):
    source, _ = download
    write_case(source / twin / "BraTS19_CBICA_A00_1", ".nii.gz")
    with pytest.raises(InputError, match=rf"{twin}/BraTS19_CBICA_A00_1: a case of this name is in .*HGG/BraTS19_CBICA"):
        execute(plan_brats2019(source, 43, source), tmp_path / "raw", workers=1)
    assert not (tmp_path / "raw").exists()


def test_a_validation_folder_without_cases(download, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: found no cases, expected <ID>/"):
        plan_brats2019(download[0], 43, tmp_path / "empty")


def test_missing_modalities(download, tmp_path):
    source, _ = download
    next(source.rglob("*A02_1_t1ce.nii.gz")).unlink()
    plan = plan_brats2019(source, 43)
    with pytest.raises(InputError, match=r"A02_1: no t1ce image, expected BraTS19_CBICA_A02_1_t1ce.nii.gz"):
        execute(plan, tmp_path / "raw", workers=1)
    assert not (tmp_path / "raw").exists()


def test_damaged_downloads(download, tmp_path):
    source, _ = download
    cut = next(source.rglob("*A02_1_t2.nii.gz"))
    cut.write_bytes(cut.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"A02_1_t2.nii.gz: damaged or cut short"):
        execute(plan_brats2019(source, 43), tmp_path / "raw", workers=1)


def test_modalities_on_different_grids(download, tmp_path):
    source, _ = download
    path = next(source.rglob("*A02_1_t2.nii.gz"))
    image = sitk.ReadImage(str(path))
    image.SetSpacing((1, 1, 2))
    sitk.WriteImage(image, str(path))
    with pytest.raises(InputError, match=r"A02_1_t2.nii.gz: spacing .* differ"):
        execute(plan_brats2019(source, 43), tmp_path / "raw", workers=1)


def test_not_brats(tmp_path):
    with pytest.raises(InputError, match="found no cases in HGG or LGG"):
        plan_brats2019(tmp_path, 43)
    with pytest.raises(InputError, match="no such folder"):
        plan_brats2019(tmp_path / "nowhere", 43)
