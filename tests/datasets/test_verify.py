"""A sound dataset, and the findings when a single thing is wrong with it."""

import gzip
import json
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

from missu_nnunet.datasets.verify import Finding, _Job, _read_case, save_pictures, verify
from missu_nnunet.errors import InputError
from missu_nnunet.nnunet.dataset import read_dataset

SHAPE = (6, 8, 20)


def write(path: Path, array, spacing=(1.0, 1.0, 2.0), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1)):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetDirection(direction)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def read(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def describe(folder, **changes):
    content = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "right": 1, "left": 2},
        "numTraining": 10,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(content | changes))


@pytest.fixture
def folder(tmp_path):
    """Ten patients with an organ on each side, and a test image."""
    folder = tmp_path / "Dataset007_Sound"
    rng = np.random.default_rng(0)
    for number in range(10):
        label = np.zeros(SHAPE, np.uint8)
        shift = number % 3
        label[2:4, 3:6, 1 + shift : 5 + shift] = 1
        label[2:4, 3:6, 13 + shift : 16 + shift] = 2
        image = (rng.normal(0, 20, SHAPE) + 100 * label).astype(np.float32)
        write(folder / "imagesTr" / f"p{number}_0000.nii.gz", image)
        write(folder / "labelsTr" / f"p{number}.nii.gz", label)
    write(folder / "imagesTs" / "t0_0000.nii.gz", rng.normal(0, 20, SHAPE).astype(np.float32))
    describe(folder)
    return folder


def findings(folder, **options):
    return verify(read_dataset(folder), **options)


def only(found, level, check, cases):
    """The message of the one finding that is expected."""
    assert [(one.level, one.check, one.cases) for one in found] == [(level, check, cases)]
    return found[0].message


def test_a_sound_dataset_has_no_finding(folder):
    assert findings(folder) == findings(folder, workers=2) == []


def test_labels_that_are_not_consecutive(folder):
    describe(folder, labels={"background": 0, "right": 1, "left": 2, "tumour": 4})
    found = findings(folder)
    assert [one.message for one in found] == [
        "dataset.json has labels 0, 1, 2, 4: not consecutive, which nnU-Net needs; renumber them from 0",
        "tumour (label 4) is in no case at all",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"background": 0, "right": 1, "left": 2, "again": 2}}, "again, left are the same label 2: give"),
        ({"labels": {"background": 0, "right": 1, "left": 2, "no": 0}}, "background, no are the same label 0: give"),
        ({"labels": {"background": 0, "right": 1, "ignore": 2, "left": 3}}, "must have the highest label value"),
        ({"labels": {"background": 0, "both": [1, 2], "left": 2}}, "you need to define regions_class_order!): correct"),
        ({"numTraining": 3}, "dataset.json has numTraining 3, but 10 training cases are there"),
    ],
)
def test_descriptions_that_nnunet_refuses_or_takes_otherwise(folder, changes, message):
    describe(folder, **changes)
    errors = [one.message for one in findings(folder) if one.level == "error"]
    assert len(errors) == 1
    assert message in errors[0]


@pytest.mark.parametrize(("value", "named"), [(4, "4"), (0.99999994, "0.99999994")])
def test_labels_that_are_not_declared(folder, value, named):
    path = folder / "labelsTr" / "p3.nii.gz"
    label = read(path).astype(np.float32)
    label[2, 3, 13] = value
    write(path, label)
    message = only(findings(folder), "error", "labels", ("p3",))
    assert message == f"label {named}, but dataset.json has 0, 1, 2"


@pytest.mark.parametrize(
    ("change", "message"),
    [({"spacing": (1, 1, 3)}, "spacing"), ({"direction": (-1, 0, 0, 0, 1, 0, 0, 0, 1)}, "direction")],
)
def test_labels_on_another_grid(folder, change, message):
    path = folder / "labelsTr" / "p3.nii.gz"
    write(path, read(path), **change)
    found = [one for one in findings(folder) if one.check == "grid"]
    assert f"image and label differ in {message}" in only(found, "error", "grid", ("p3",))


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "NaN or infinite"), (np.inf, "NaN or infinite"), (7, "constant")]
)
def test_images_without_content(folder, value, message):
    image = np.full(SHAPE, value, np.float32)
    if not np.isfinite(value):
        image[1:] = 0
    write(folder / "imagesTr" / "p3_0000.nii.gz", image)
    assert message in only(findings(folder), "error", "values", ("p3",))


def test_a_slice_among_volumes(folder):
    for part in ("imagesTr/p3_0000", "labelsTr/p3"):
        array = read(folder / f"{part}.nii.gz")[2]
        sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / f"{part}.nii.gz"))
    message = only(findings(folder), "error", "dimensions", ("p3",))
    assert message.startswith("a file in 2D, in 10 other cases in 3D")


def test_orientation_in_the_header(folder):
    for part, name in (("imagesTr", "p3_0000.nii.gz"), ("labelsTr", "p3.nii.gz")):
        path = folder / part / name
        write(path, read(path)[:, :, ::-1], direction=(-1, 0, 0, 0, 1, 0, 0, 0, 1))
    message = only(findings(folder), "warning", "orientation", ("p3",))
    assert "axes point to RPS, in 10 other cases to LPS" in message


@pytest.mark.parametrize("reader", ["SimpleITKIOWithReorient", "NibabelIOWithReorient"])
def test_readers_that_turn_images(folder, tmp_path, reader):
    """Nothing is to be said of what nnU-Net turns by itself, and a picture shows it turned."""
    describe(folder, overwrite_image_reader_writer=reader)
    path = folder / "imagesTr" / "p3_0000.nii.gz"
    sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(path)), "SAR"), str(path))
    assert findings(folder) == []
    pictures = []
    for code in ("SAR", "LPS"):
        sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(path)), code), str(path))
        found = [Finding("error", "any", ("p3",), "a finding that can be seen", visible=True)]
        (picture,) = save_pictures(read_dataset(folder), found, tmp_path / "pictures")
        pictures.append(picture.read_bytes())
    assert pictures[0] == pictures[1]


def test_flipped_voxels_under_an_unchanged_header(folder):
    for part, name in (("imagesTr", "p3_0000.nii.gz"), ("labelsTr", "p3.nii.gz")):
        path = folder / part / name
        write(path, read(path)[:, :, ::-1])
    assert "flipped voxels?" in only(findings(folder), "warning", "left–right", ("p3",))


def test_the_same_image_in_two_cases(folder):
    write(folder / "imagesTr" / "p3_0000.nii.gz", read(folder / "imagesTr" / "p5_0000.nii.gz"), spacing=(2, 2, 2))
    write(folder / "labelsTr" / "p3.nii.gz", read(folder / "labelsTr" / "p3.nii.gz"), spacing=(2, 2, 2))
    message = only(findings(folder), "error", "duplicates", ("p3", "p5"))
    assert message.startswith("the same image in several cases, trained on and validated on in fold")


def test_a_training_image_in_the_test_set(folder):
    write(folder / "imagesTs" / "t0_0000.nii.gz", read(folder / "imagesTr" / "p5_0000.nii.gz"))
    assert "imagesTr and imagesTs" in only(findings(folder), "error", "duplicates", ("p5", "t0"))


def test_a_name_in_both_sets(folder):
    """What is in the test set is not taken for what is trained on."""
    write(folder / "imagesTs" / "p5_0000.nii.gz", read(folder / "imagesTr" / "p5_0000.nii.gz"))
    assert "imagesTr and imagesTs" in only(findings(folder), "error", "duplicates", ("p5", "imagesTs/p5"))


def write_splits(folder, validation):
    cases = [f"p{number}" for number in range(10)]
    splits = [{"train": [case for case in cases if case not in val], "val": list(val)} for val in validation]
    (folder / "splits_final.json").write_text(json.dumps(splits))


PAIRS = [[f"p{number}", f"p{number + 1}"] for number in range(0, 10, 2)]


def test_patients_on_both_sides_of_a_fold(folder):
    write_splits(folder, PAIRS)
    assert findings(folder) == []
    (folder / "cases.csv").write_text(
        "case,patient\n" + "".join(f"p{n},{'x' if n in (1, 2) else n}\n" for n in range(10))
    )
    found = findings(folder)
    assert [one.check for one in found] == ["patients"] * 2
    assert found[0].cases == ("p1", "p2")
    assert "fold 0 trains and validates on scans of the same patient (x)" in found[0].message
    # A pattern says otherwise.
    assert findings(folder, patient_pattern=r"p(\d)") == []
    with pytest.raises(InputError, match=r"--patient q\(\.\): does not match case p0"):
        findings(folder, patient_pattern="q(.)")
    with pytest.raises(InputError, match=r"--patient \(: .*expected a regular expression"):
        findings(folder, patient_pattern="(")


def test_splits_that_do_not_fit(folder):
    write_splits(folder, [["p0", "p1", "p77"], *PAIRS[1:4]])
    splits = json.loads((folder / "splits_final.json").read_text())
    splits[1]["train"].append("p2")
    (folder / "splits_final.json").write_text(json.dumps(splits))
    assert [(one.level, one.cases, one.message) for one in findings(folder)] == [
        ("error", ("p77",), "fold 0 names cases that are not there"),
        ("error", ("p2",), "fold 1 trains and validates on the same case"),
        ("warning", ("p8", "p9"), "validated in no fold"),
    ]
    (folder / "splits_final.json").write_text('{"train": []}')
    with pytest.raises(InputError, match=r"splits_final.json: .*not nnU-Net's splits"):
        findings(folder)


def test_classes_absent_in_whole_folds(folder):
    write_splits(folder, PAIRS)
    for number in range(2, 10):
        path = folder / "labelsTr" / f"p{number}.nii.gz"
        label = read(path)
        label[label == 2] = 0
        write(path, label)
    assert [(one.level, one.message) for one in findings(folder)] == [
        ("error", "left is in no train case of fold 0: it cannot be learnt; stratify the splits"),
        ("warning", "left is in no val case of fold 1, 2, 3, 4: its score will be undefined; stratify the splits"),
    ]


def test_cases_without_labels_are_counted_and_no_fault(folder):
    describe(folder, labels={"background": 0, "right": 1, "left": 2, "ignore": 3})
    write_splits(folder, [*PAIRS[:3], ["p6"], ["p8"]])
    for number in (7, 9):
        write(folder / "labelsTr" / f"p{number}.nii.gz", np.full(SHAPE, 3, np.uint8))
    message = only(findings(folder), "note", "labels", ("p7", "p9"))
    assert message == "2 of 10 cases have no label: all of their voxels are to be ignored"
    write_splits(folder, PAIRS)
    found = findings(folder)[1:]
    assert "fold 3, 4 validates on cases without a label" in only(found, "warning", "splits", ("p7", "p9"))


def test_scribbles_are_labels(folder):
    describe(folder, labels={"background": 0, "right": 1, "left": 2, "ignore": 3})
    for path in (folder / "labelsTr").iterdir():
        label = read(path)
        label[:, ::2] = 3
        label[:, :, ::3] = 3
        write(path, label)
    assert findings(folder) == []


def move(path: Path, change):
    """Change a NIfTI file's qform alone."""
    image = nibabel.load(path)
    voxels, qform = np.asarray(image.dataobj), image.affine.copy()
    change(qform)
    image = nibabel.Nifti1Image(voxels, image.affine)
    image.set_sform(image.affine, 1)
    image.set_qform(qform, 1)
    nibabel.save(image, path)


def flip(affine):
    affine[0] *= -1


def shift(affine):
    affine[2, 3] += 30


@pytest.mark.parametrize("part", ["imagesTr/p3_0000.nii.gz", "labelsTr/p3.nii.gz"])
@pytest.mark.parametrize(("change", "message"), [(flip, "by its qform .* and its sform"), (shift, "up to 30 mm")])
def test_a_header_that_gives_two_places(folder, part, change, message):
    move(folder / part, change)
    assert re.search(message, only(findings(folder), "warning", "header", ("p3",)))


def test_a_header_of_two_spacings(folder):
    image = nibabel.load(folder / "imagesTr" / "p3_0000.nii.gz")
    voxels, affine = np.asarray(image.dataobj), image.affine
    image = nibabel.Nifti1Image(voxels, affine)
    image.set_qform(None, 0)
    image.header["pixdim"][3] = 5
    nibabel.save(image, folder / "imagesTr" / "p3_0000.nii.gz")
    found = [one for one in findings(folder) if one.check == "header"]
    assert "1×1×5 mm by its pixdim and 1×1×2 mm by its sform" in only(found, "warning", "header", ("p3",))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("imagesTr/p3_0000.nii.gz", "imagesTr/p3_0000.NII.GZ"),
        ("imagesTr/p3_0000.nii.gz", "imagesTr/p3.nii.gz"),
        ("imagesTr/p3_0000.nii.gz", "imagesTr/p3_0000.nrrd"),
        ("labelsTr/p3.nii.gz", "labelsTr/p3.Nii.gz"),
        ("imagesTs/t0_0000.nii.gz", "imagesTs/t0.nii.gz"),
    ],
)
def test_names_that_nnunet_passes_over(folder, old, new):
    (folder / old).rename(folder / new)
    name = new.rpartition("/")[2]
    found = [one for one in findings(folder) if one.cases == (name,)]
    assert f"{new} is not counted: nnU-Net wants names that end in" in only(found, "error", "files", (name,))


@pytest.mark.parametrize("part", ["imagesTr", "imagesTs"])
def test_hidden_files_that_nnunet_takes_for_cases(folder, part):
    """As macOS leaves them; in labelsTr nobody looks at them."""
    for name in (f"{part}/._p3_0000.nii.gz", f"{part}/._p4_0000.nii.gz", f"{part}/.DS_Store", "labelsTr/._p3.nii.gz"):
        (folder / name).write_bytes(b"\0\5\26\7")
    hidden = ("._p3_0000.nii.gz", "._p4_0000.nii.gz")
    message = only(findings(folder), "error", "files", hidden)
    assert message == f"a hidden file in {part}, which nnU-Net takes for a case: delete it"


def test_a_label_without_an_image(folder):
    """It is no case to nnU-Net."""
    write(folder / "labelsTr" / "extra.nii.gz", read(folder / "labelsTr" / "p3.nii.gz"))
    message = only(findings(folder), "error", "files", ("extra",))
    assert message == "a label without an image, which nnU-Net passes over: add the image, or delete the label"


def test_a_name_that_nnunet_does_not_find_again(folder, tmp_path):
    for name in ("imagesTr/p3_0000", "labelsTr/p3"):
        (folder / f"{name}.nii.gz").rename(folder / f"{name.replace('p3', 'p3_seg')}.nii.gz")
    message = only(findings(folder), "error", "files", ("p3_seg",))
    assert message.startswith("a name that ends in _seg, as nnU-Net names preprocessed segmentations")
    for file in ("p2.b2nd", "p2_seg.b2nd", "p3_seg.b2nd", "p3_seg_seg.b2nd"):  # as nnU-Net names what it preprocesses
        (tmp_path / file).touch()
    assert nnUNetDatasetBlosc2.get_identifiers(str(tmp_path)) == ["p2"]


def leading_axis(folder):
    image = nibabel.load(folder / "imagesTr" / "p3_0000.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj)[None], image.affine), image.get_filename())


def colours(name):
    def change(folder):
        voxels = np.zeros(SHAPE[::-1], [("R", "u1"), ("G", "u1"), ("B", "u1")])
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), folder / name)

    return change


@pytest.mark.parametrize(
    ("change", "check", "message"),
    [
        (leading_axis, "channels", "nnU-Net reads 6 channels, but dataset.json has 1 (CT)"),
        (colours("imagesTr/p3_0000.nii.gz"), "files", "voxels of datatype 128, expected numbers"),
        (colours("labelsTr/p3.nii.gz"), "files", "voxels of datatype 128, expected numbers"),
    ],
)
def test_what_nnunet_stops_at(folder, tmp_path, change, check, message):
    change(folder)
    found = findings(folder)
    assert message in only([one for one in found if one.check == check], "error", check, ("p3",))
    save_pictures(read_dataset(folder), found, tmp_path / "pictures")


def test_the_first_image_is_damaged(folder):
    (folder / "imagesTr" / "p0_0000.nii.gz").write_bytes(b"")
    assert "0 bytes" in only(findings(folder), "error", "files", ("p0",))


@pytest.mark.parametrize("name", ["imagesTr/p3_0000.nii.gz", "labelsTr/p3.nii.gz", "imagesTs/t0_0000.nii.gz"])
def test_flipped_bits(folder, name):
    """SimpleITK reads them as other voxels."""
    content = bytearray(gzip.compress(gzip.decompress((folder / name).read_bytes()), compresslevel=0))
    content[-40] ^= 1
    (folder / name).write_bytes(content)
    found = only(findings(folder), "error", "files", ("t0" if "Ts" in name else "p3",))
    assert f"{name}: damaged or cut short (CRC check failed" in found


def test_one_empty_label_map(folder):
    write(folder / "labelsTr" / "p3.nii.gz", np.zeros(SHAPE, np.uint8))
    assert "nothing but background, where 9 other cases" in only(findings(folder), "warning", "labels", ("p3",))


@pytest.mark.parametrize("colours", [False, True])
def test_photographs(tmp_path, colours):
    """A photograph's colours are one file; a label map that is a photograph too is none."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "Dataset008_Photographs"
    for case in range(6):
        label = np.zeros((20, 24), np.uint8)
        label[4:9, 5:20] = 1
        images = {"imagesTr": rng.integers(0, 255, (20, 24, 3)), "labelsTr": label[..., None].repeat(3, 2)}
        for part, name in (("imagesTr", f"p{case}_0000.png"), ("labelsTr", f"p{case}.png")):
            (folder / part).mkdir(parents=True, exist_ok=True)
            vector = part == "imagesTr" or (colours and case == 3)
            array = images[part].astype(np.uint8) if vector else label
            sitk.WriteImage(sitk.GetImageFromArray(array, isVector=vector), str(folder / part / name))
    channels, labels = {"0": "R", "1": "G", "2": "B"}, {"background": 0, "x": 1}
    describe(folder, channel_names=channels, labels=labels, numTraining=6, file_ending=".png")
    found = findings(folder)
    if colours:
        assert "p3.png: 3 channels, expected a label map" in only(found, "error", "files", ("p3",))
    else:
        assert found == []


def test_volumes_of_three_slices_that_nnunet_takes_for_colours(tmp_path):
    """Its first reader of TIFF files is that of photographs."""
    folder = tmp_path / "Dataset010_Thin"
    rng = np.random.default_rng(0)
    for kind, ending, values in (("imagesTr", "_0000.tif", 99), ("labelsTr", ".tif", 2)):
        (folder / kind).mkdir(parents=True)
        for case in range(6):
            array = rng.integers(0, values, (3, 20, 24)).astype(np.uint8)
            tifffile.imwrite(folder / kind / f"p{case}{ending}", array, photometric="minisblack")
    described = {"labels": {"background": 0, "x": 1}, "numTraining": 6, "file_ending": ".tif"}
    describe(folder, **described)
    remedy = 'set "overwrite_image_reader_writer": "Tiff3DIO" in dataset.json'
    assert all(remedy in finding.message for finding in findings(folder) if finding.level == "error")
    describe(folder, **described, overwrite_image_reader_writer="Tiff3DIO")
    assert findings(folder) == []


@pytest.mark.parametrize(
    ("part", "spacing", "check", "message"),
    [
        ("labelsTr", [3, 1, 0.5], "", ""),
        ("labelsTr", [3, 1, 1], "grid", "image and label differ in spacing (3, 1, 0.5) and (3, 1, 1) mm"),
        ("labelsTr", None, "grid", "image and label differ in spacing (3, 1, 0.5) and (1, 1, 1) mm"),
        ("imagesTr", [3, 1, "x"], "files", "p3_0000.tif: a spacing of [3, 1, 'x'], expected lengths in mm: correct"),
        ("imagesTr", [3, 1, 0], "files", "p3_0000.tif: a spacing of [3, 1, 0], expected lengths in mm: correct"),
    ],
)
def test_spacing_beside_tiff_files(tmp_path, part, spacing, check, message):
    rng = np.random.default_rng(0)
    folder = tmp_path / "Dataset009_Tiff"
    for kind, ending, values in (("imagesTr", "_0000.tif", 99), ("labelsTr", ".tif", 2)):
        (folder / kind).mkdir(parents=True)
        for case in range(6):
            tifffile.imwrite(folder / kind / f"p{case}{ending}", rng.integers(0, values, SHAPE).astype(np.uint8))
            (folder / kind / f"p{case}.json").write_text(json.dumps({"spacing": [3, 1, 0.5]}))
    describe(folder, labels={"background": 0, "x": 1}, numTraining=6, file_ending=".tif")
    (folder / part / "p3.json").write_text(json.dumps({"spacing": spacing}))
    if spacing is None:
        (folder / part / "p3.json").unlink()
    found = findings(folder)
    if check:
        assert message in only(found, "error", check, ("p3",))
    else:
        assert found == []


def test_images_without_a_label_map(folder):
    (folder / "labelsTr" / "p3.nii.gz").unlink()
    (folder / "labelsTr" / "p5.nii.gz").unlink()
    message = only(findings(folder), "error", "files", ("p3", "p5"))
    assert message.startswith("an image without a label map, at which nnU-Net's preprocessing stops: add the label map")


def test_a_dataset_that_lists_its_files(folder, tmp_path, monkeypatch):
    """nnU-Net's other layout: no imagesTr, but paths in dataset.json."""
    (folder / "imagesTr").rename(tmp_path / "elsewhere")
    monkeypatch.setenv("ELSEWHERE", str(tmp_path / "elsewhere"))
    listed = {
        f"p{n}": {"images": [f"$ELSEWHERE/p{n}_0000.nii.gz"], "label": f"labelsTr/p{n}.nii.gz"} for n in range(10)
    }
    describe(folder, dataset=listed)
    assert findings(folder) == []
    (tmp_path / "elsewhere" / "p3_0000.nii.gz").unlink()
    assert "p3_0000.nii.gz: no such file" in only(findings(folder), "error", "files", ("p3",))


def test_pictures_of_what_can_be_seen(folder, tmp_path):
    for part, name in (("imagesTr", "p3_0000.nii.gz"), ("labelsTr", "p3.nii.gz")):
        path = folder / part / name
        write(path, read(path)[:, :, ::-1])
    write(folder / "imagesTr" / "p4_0000.nii.gz", np.full(SHAPE, np.nan, np.float32))
    write(folder / "labelsTr" / "p5.nii.gz", np.zeros((3, 8, 20), np.uint8))
    (folder / "labelsTr" / "p6.nii.gz").unlink()
    pictures = save_pictures(read_dataset(folder), findings(folder), tmp_path / "pictures")
    assert sorted(path.name for path in pictures) == ["p3.png", "p4.png", "p5.png"]
    for path in pictures:
        colours = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[..., :3]
        assert len(np.unique(colours.reshape(-1, 3), axis=0)) > 100


def first_slice(part, name):
    def change(folder):
        write(folder / part / name, read(folder / part / name)[2], direction=(1, 0, 0, 1), spacing=(1, 1))

    return change


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (first_slice("imagesTr", "p3_0000.nii.gz"), ["p3.png"]),
        (first_slice("labelsTr", "p3.nii.gz"), ["p3.png"]),
        (leading_axis, []),
    ],
)
def test_pictures_of_slices_among_volumes_and_of_four_dimensions(folder, tmp_path, change, names):
    change(folder)
    found = [Finding("error", "any", ("p3",), "a finding that can be seen", visible=True)]
    pictures = save_pictures(read_dataset(folder), found, tmp_path / "pictures")
    assert [path.name for path in pictures] == names


def test_an_image_in_place_of_the_label_map(folder):
    """Of thousands of values, none is looked at in pairs."""
    path = folder / "labelsTr" / "p3.nii.gz"
    write(path, np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE))
    facts = _read_case(_Job("p3", [folder / "imagesTr" / "p3_0000.nii.gz"], path, read_dataset(folder), SimpleITKIO()))
    assert facts.sides.keys() == {1, 2}


def test_no_cases(folder):
    for part in ("imagesTr", "labelsTr"):
        for path in (folder / part).iterdir():
            path.unlink()
    with pytest.raises(InputError, match="found no training case"):
        findings(folder)
