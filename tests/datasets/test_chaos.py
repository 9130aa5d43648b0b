"""CHAOS from trees in the organisers' layout to NIfTI, voxel by voxel and mm by mm, and back to PNG."""

import csv
import json
import shutil

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from chaos_tree import GREY, make_truth, write_download, write_slice, write_t1dual
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from PIL import Image
from pydicom.uid import generate_uid

from missu_nnunet.datasets.chaos import MODALITIES, TASKS, plan_chaos, plan_submission
from missu_nnunet.datasets.conversion import execute
from missu_nnunet.errors import InputError


@pytest.fixture
def download(tmp_path):
    return tmp_path / "src", write_download(tmp_path / "src", np.random.default_rng(0))


def convert(source, variant, tmp_path, workers=1):
    return execute(plan_chaos(source, variant, 51), tmp_path / "raw", workers)


def assert_at_their_place(path, truth, values, tolerance_mm=0.002):
    """Every pixel of every slice lies in the file where the DICOM header says that it is.

    Read with nibabel, whose world is RAS: an account of orientation independent of the writer's.
    """
    image = nibabel.load(path)
    world = truth.positions() * [-1, -1, 1]
    index = (world.reshape(-1, 3) - image.affine[:3, 3]) @ np.linalg.inv(image.affine[:3, :3]).T
    nearest = np.rint(index).astype(int)
    offset = np.abs((index - nearest) @ image.affine[:3, :3].T)
    assert offset.max() < tolerance_mm
    assert image.shape == values.shape[::-1]
    np.testing.assert_array_equal(np.asarray(image.dataobj)[tuple(nearest.T)], values.ravel())


def test_ct_is_where_its_headers_say(download, tmp_path):
    source, truth = download
    folder = convert(source, MODALITIES["ct"], tmp_path, workers=2)
    for case in ("CT_01", "CT_14"):
        assert_at_their_place(folder / "imagesTr" / f"{case}_0000.nii.gz", truth[case], truth[case].volume)
        assert_at_their_place(folder / "labelsTr" / f"{case}.nii.gz", truth[case], truth[case].labels)
    assert_at_their_place(folder / "imagesTs" / "CT_03_0000.nii.gz", truth["CT_03"], truth["CT_03"].volume)
    # The step is that of the positions, though every header says SliceThickness 3.2.
    assert sitk.ReadImage(str(folder / "labelsTr" / "CT_14.nii.gz")).GetSpacing() == pytest.approx((0.7, 0.75, 1.25))
    content = json.loads((folder / "dataset.json").read_text())
    assert content["channel_names"] == {"0": "CT"}
    assert content["labels"] == {"background": 0, "liver": 1}


def test_both_phases_are_channels_of_one_case(download, tmp_path):
    source, truth = download
    folder = convert(source, MODALITIES["t1dual"], tmp_path)
    for case in ("MR_01_T1DUAL", "MR_39_T1DUAL"):
        assert_at_their_place(folder / "imagesTr" / f"{case}_0000.nii.gz", truth[case], truth[case].volume)
        assert_at_their_place(folder / "imagesTr" / f"{case}_0001.nii.gz", truth[case], truth[case].extra["OutPhase"])
        assert_at_their_place(folder / "labelsTr" / f"{case}.nii.gz", truth[case], truth[case].labels)
    assert (folder / "imagesTs" / "MR_04_T1DUAL_0001.nii.gz").is_file()


def test_mixed_tasks_have_a_case_per_image(download, tmp_path):
    source, truth = download
    folder = convert(source, TASKS[4], tmp_path)
    one = truth["MR_01_T1DUAL"]
    for phase, values in (("InPhase", one.volume), ("OutPhase", one.extra["OutPhase"])):
        assert_at_their_place(folder / "imagesTr" / f"MR_01_T1DUAL_{phase}_0000.nii.gz", one, values)
        assert_at_their_place(folder / "labelsTr" / f"MR_01_T1DUAL_{phase}.nii.gz", one, one.labels)
    assert_at_their_place(
        folder / "labelsTr" / "MR_39_T2SPIR.nii.gz", truth["MR_39_T2SPIR"], truth["MR_39_T2SPIR"].labels
    )
    content = json.loads((folder / "dataset.json").read_text())
    assert content["numTraining"] == 8
    assert list(content["labels"]) == ["background", "liver", "right kidney", "left kidney", "spleen"]
    rows = {row["case"]: row for row in csv.DictReader((folder / "cases.csv").open())}
    assert rows["MR_01_T1DUAL_OutPhase"] == {
        "case": "MR_01_T1DUAL_OutPhase", "patient": "MR_01", "set": "training", "modality": "T1DUAL_OutPhase"
    }  # fmt: skip
    assert rows["CT_03"]["set"] == "test"
    verify_dataset_integrity(str(folder), num_processes=1)


def test_liver_tasks_leave_out_the_other_organs(download, tmp_path):
    source, truth = download
    folder = convert(source, TASKS[3], tmp_path)
    one = truth["MR_39_T2SPIR"]
    assert_at_their_place(folder / "labelsTr" / "MR_39_T2SPIR.nii.gz", one, one.labels == 1)
    assert not list(folder.rglob("CT_*"))


def test_patients_stay_in_one_fold(tmp_path):
    rng = np.random.default_rng(1)
    for patient in range(1, 6):
        write_t1dual(tmp_path / "Train_Sets" / "MR" / str(patient) / "T1DUAL", rng, shape=(2, 3, 3))
    with pytest.raises(InputError, match=r"T2SPIR: no DICOM slices .*\(5 such errors"):
        convert(tmp_path, TASKS[5], tmp_path)
    shutil.copytree(tmp_path / "Train_Sets" / "MR" / "1", tmp_path / "Train_Sets" / "CT" / "1")
    splits = plan_chaos(tmp_path, TASKS[3], 53).documents["splits_final.json"]
    for fold in splits:
        assert not {case[:5] for case in fold["train"]} & {case[:5] for case in fold["val"]}


@pytest.mark.parametrize("task", [4, 5])
def test_round_trip_to_the_organisers_stacks(download, tmp_path, task):
    source, truth = download
    folder = convert(source, TASKS[task], tmp_path)
    out = execute(plan_submission(folder / "labelsTr", source, "submission"), tmp_path, workers=1)
    for scan, where in (("MR_01_T1DUAL", "MR/1/T1DUAL"), ("MR_39_T2SPIR", "MR/39/T2SPIR")):
        ground = sorted((source / "Train_Sets" / where / "Ground").iterdir())
        for index, (written, original) in enumerate(
            zip(sorted((out / where / "Results").iterdir()), ground, strict=True)
        ):
            assert written.name == f"img{index:03d}.png"
            np.testing.assert_array_equal(np.asarray(Image.open(written)), np.asarray(Image.open(original)))
            np.testing.assert_array_equal(np.asarray(Image.open(written)), GREY[truth[scan].labels[index]])
    if task == 4:
        written = sorted((out / "CT" / "1" / "Results").iterdir())
        for place, path in enumerate(reversed(written)):  # CT files go down
            image = Image.open(path)
            assert image.mode == "L"
            np.testing.assert_array_equal(np.asarray(image), truth["CT_01"].labels[place] * 255)
    assert {path.name for path in out.iterdir()} <= {"CT", "MR"}
    skipped = [
        row for row in csv.DictReader((tmp_path / "submission.conversion.csv").open()) if row["status"] == "skipped"
    ]
    assert {row["detail"] for row in skipped} == {"the in-phase prediction is submitted"}


def test_every_source_file_is_accounted_for(download, tmp_path):
    source, _ = download
    (source / "Train_Sets" / "CT" / "1" / "Ground" / "._liver_GT_000.png").write_bytes(b"\0")
    (source / "Train_Sets" / "readme.txt").write_text("x")
    (source / "Train_Sets" / "CT" / "²").mkdir()  # a digit, and no patient's number
    folder = convert(source, TASKS[2], tmp_path)
    rows = list(csv.DictReader((folder / "conversion.csv").open()))
    assert [row["source"] for row in rows] == sorted(str(path) for path in source.rglob("*") if path.is_file())
    reasons = {row["detail"] for row in rows if row["status"] == "skipped"}
    assert reasons == {
        "macOS metadata, no data",
        "not a slice or a mask",
        "T1DUAL is not part of this dataset",
        "T2SPIR is not part of this dataset",
    }


def remove(path):
    path.unlink()


def ct(source):
    return source / "Train_Sets" / "CT" / "1"


def t1(source):
    return source / "Train_Sets" / "MR" / "1" / "T1DUAL"


def edit(path, **tags):
    header = pydicom.dcmread(path)
    for tag, value in tags.items():
        setattr(header, tag, value)
    header.save_as(path)


BREAK = {
    "slice missing": (
        lambda source: [
            remove(ct(source) / "DICOM_anon" / "i0002,0000b.dcm"),
            remove(ct(source) / "Ground" / "liver_GT_002.png"),
        ],
        TASKS[2],
        r"i0003,0000b.dcm and i0001,0000b.dcm: 4.00 mm apart where the other slices are 2.00 mm apart",
    ),
    "mask missing": (
        lambda source: remove(ct(source) / "Ground" / "liver_GT_002.png"),
        TASKS[2],
        r"CT/1/Ground: 5 PNG masks for 6 DICOM slices",
    ),
    "out-phase missing": (
        lambda source: remove(t1(source) / "DICOM_anon" / "OutPhase" / "IMG-0004-00003.dcm"),
        TASKS[5],
        r"IMG-0004-00004.dcm: no IMG-0004-00003.dcm in OutPhase",
    ),
    "in-phase missing": (
        lambda source: [
            remove(t1(source) / "DICOM_anon" / "InPhase" / "IMG-0004-00012.dcm"),
            remove(t1(source) / "Ground" / "IMG-0004-00012.png"),
        ],
        TASKS[5],
        r"IMG-0004-00011.dcm: no slice of the next number in InPhase",
    ),
    "mask of another slice": (
        lambda source: (t1(source) / "Ground" / "IMG-0004-00004.png").rename(
            t1(source) / "Ground" / "IMG-0004-00005.png"
        ),
        TASKS[5],
        r"IMG-0004-00005.png: no slice IMG-0004-00005.dcm",
    ),
    "no dicom": (
        lambda source: shutil.rmtree(ct(source) / "DICOM_anon"),
        TASKS[2],
        r"CT/1: no DICOM slices in DICOM_anon",
    ),
    "not dicom": (
        lambda source: (ct(source) / "DICOM_anon" / "i0002,0000b.dcm").write_bytes(b"x" * 500),
        TASKS[2],
        r"i0002,0000b.dcm: not a readable DICOM file",
    ),
    "mixed sizes": (
        lambda source: write_slice(
            ct(source) / "DICOM_anon" / "i0002,0000b.dcm",
            make_truth(np.random.default_rng(0)),
            np.zeros((3, 3), int),
            3,
            "CT",
            generate_uid(),
        ),
        TASKS[2],
        r"i0002,0000b.dcm: size \(3, 3\), expected \(10, 12\) as in i0000,0000b.dcm",
    ),
    "mixed series": (
        lambda source: edit(ct(source) / "DICOM_anon" / "i0002,0000b.dcm", SeriesInstanceUID=generate_uid()),
        TASKS[2],
        r"slices of 2 series \(by their UID\), expected one",
    ),
    "one position twice": (
        lambda source: edit(
            ct(source) / "DICOM_anon" / "i0002,0000b.dcm",
            ImagePositionPatient=pydicom.dcmread(ct(source) / "DICOM_anon" / "i0003,0000b.dcm").ImagePositionPatient,
        ),
        TASKS[2],
        "two slices at one position",
    ),
    "phases on other grids": (
        lambda source: [
            edit(path, PixelSpacing=[2.0, 2.0]) for path in (t1(source) / "DICOM_anon" / "OutPhase").iterdir()
        ],
        TASKS[5],
        r"OutPhase: spacing .* of in-phase and out-phase differ",
    ),
    "tilted gantry": (
        lambda source: [
            edit(path, ImagePositionPatient=[0, 3.0 * index, 2.0 * index])
            for index, path in enumerate(sorted((ct(source) / "DICOM_anon").iterdir()))
        ],
        TASKS[2],
        r"DICOM_anon: the slices shift by 15.00 mm within their plane",
    ),
    "wrong grey": (
        lambda source: Image.fromarray(np.full((10, 12), 90, np.uint8)).save(
            t1(source) / "Ground" / "IMG-0004-00004.png"
        ),
        TASKS[5],
        r"IMG-0004-00004.png: grey value 90, expected 0 or one of the organs' \(liver 55–70",
    ),
    "wrong size": (
        lambda source: Image.fromarray(np.zeros((9, 12), np.uint8)).save(t1(source) / "Ground" / "IMG-0004-00004.png"),
        TASKS[5],
        r"IMG-0004-00004.png: 12×9 pixels, expected 12×10",
    ),
    "16 bits": (
        lambda source: Image.fromarray(np.full((10, 12), 315, np.uint16)).save(
            t1(source) / "Ground" / "IMG-0004-00004.png"
        ),
        TASKS[5],
        r"IMG-0004-00004.png: not a readable PNG \(mode I;16, expected 8 bits per value\)",
    ),
    "not a png": (
        lambda source: (t1(source) / "Ground" / "IMG-0004-00004.png").write_bytes(b"x"),
        TASKS[5],
        r"IMG-0004-00004.png: not a readable PNG",
    ),
    "postscript": (
        lambda source: (t1(source) / "Ground" / "IMG-0004-00004.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n"),
        TASKS[5],
        r"IMG-0004-00004.png: not a readable PNG",
    ),
    "bomb": (
        lambda source: Image.fromarray(np.zeros((20_000, 20_000), bool)).save(
            t1(source) / "Ground" / "IMG-0004-00004.png"
        ),
        TASKS[5],
        r"IMG-0004-00004.png: not a readable PNG \(Image size",
    ),
}


@pytest.mark.parametrize("how", BREAK)
def test_damage_is_named_and_leaves_no_dataset(download, tmp_path, how):
    source, _ = download
    damage, variant, message = BREAK[how]
    damage(source)
    with pytest.raises(InputError, match=message) as error:
        convert(source, variant, tmp_path)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "raw").glob("Dataset*"))


def test_one_uid_per_file_is_accepted_as_anonymisers_write_it(download, tmp_path):
    source, truth = download
    for path in (ct(source) / "DICOM_anon").iterdir():
        edit(path, SeriesInstanceUID=generate_uid())
    folder = convert(source, TASKS[2], tmp_path)
    assert_at_their_place(folder / "labelsTr" / "CT_01.nii.gz", truth["CT_01"], truth["CT_01"].labels)


def test_the_archives_own_folders_are_found(download, tmp_path):
    source, _ = download
    nested = tmp_path / "nested"
    shutil.copytree(source / "Train_Sets", nested / "CHAOS_Train_Sets" / "Train_Sets")
    here = plan_chaos(source / "Train_Sets", TASKS[2], 52)
    assert {one.case for one in plan_chaos(nested, TASKS[2], 52).conversions} == {one.case for one in here.conversions}
    with pytest.raises(InputError, match="found no Train_Sets"):
        plan_chaos(source / "Test_Sets", TASKS[2], 52)


def test_submissions_need_their_scans(download, tmp_path):
    source, _ = download
    folder = convert(source, TASKS[2], tmp_path)
    with pytest.raises(InputError, match=r"CT_01.nii.gz: found no scan of this name .*--dicom"):
        plan_submission(folder / "labelsTr", source / "Test_Sets", "out")
    label = sitk.ReadImage(str(folder / "labelsTr" / "CT_01.nii.gz"))
    sitk.WriteImage(label[:, :, ::-1], str(folder / "labelsTr" / "CT_01.nii.gz"))
    with pytest.raises(InputError, match=r"CT_01.nii.gz: .*wrong --dicom folder"):
        execute(plan_submission(folder / "labelsTr", source, "out"), tmp_path, workers=1)
    for value, message in ((-1, "label -1"), (0.5, "label 0.5"), (5, "label 5"), (np.nan, "NaN")):
        odd = sitk.Cast(label, sitk.sitkFloat32)
        odd[0, 0, 0] = value
        sitk.WriteImage(odd, str(folder / "labelsTr" / "CT_01.nii.gz"))
        with pytest.raises(InputError, match=rf"CT_01.nii.gz: .*{message}"):
            execute(plan_submission(folder / "labelsTr", source, "out"), tmp_path, workers=1)
