"""Images without labels, added and taken out again."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from tiny_dataset import REGIONS, write_raw_dataset

from missu_nnunet.datasets.unlabelled import ACCOUNT, add, plan_removal, plan_unlabelled, rehearse, remove
from missu_nnunet.datasets.verify import verify
from missu_nnunet.errors import InputError
from missu_nnunet.files import PARTIAL
from missu_nnunet.nnunet.dataset import read_dataset

SPLITS = [{"train": ["case_000", "case_001", "case_002"], "val": ["case_003", "case_004", "case_005"]}]


def write(file: Path, seed: int = 0, shape: tuple[int, ...] = (10, 12, 14)) -> Path:
    file.parent.mkdir(exist_ok=True)
    image = sitk.GetImageFromArray(np.random.default_rng(seed).random(shape, np.float32))
    image.SetSpacing((0.5,) * len(shape))
    sitk.WriteImage(image, str(file))
    return file


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset of six labelled cases, and beside it a folder of two images."""
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    for case in "ab":
        write(tmp_path / "new" / f"{case}_0000.nii.gz", ord(case))
    folder = tmp_path / write_raw_dataset(tmp_path, 7)
    shutil.rmtree(folder / "imagesTs")
    return folder


def put_in(folder: Path, *inputs: Path, link: bool = False) -> None:
    dataset = read_dataset(folder)
    add(plan_unlabelled(dataset, inputs or [folder.parent / "new"], link, workers=1), dataset, workers=1)


def take_out(folder: Path) -> None:
    dataset = read_dataset(folder)
    remove(plan_removal(dataset, workers=1), dataset)


def contents(folder: Path) -> dict[str, object]:
    return {
        str(file.relative_to(folder)): json.loads(file.read_text()) if file.suffix == ".json" else file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.mark.parametrize("link", [False, True])
def test_images_come_in_and_go_out_again(folder: Path, link: bool) -> None:
    before = contents(folder)
    put_in(folder, link=link)
    description = json.loads((folder / "dataset.json").read_text())
    assert (description["labels"]["ignore"], description["numTraining"]) == (3, 8)
    for case in "ab":
        image = folder / "imagesTr" / f"{case}_0000.nii.gz"
        assert image.is_symlink() == link
        assert image.read_bytes() == (folder.parent / "new" / image.name).read_bytes()
        label = sitk.ReadImage(str(folder / "labelsTr" / f"{case}.nii.gz"))
        assert label.GetSpacing() == (0.5, 0.5, 0.5)
        assert (sitk.GetArrayFromImage(label) == 3).all()
    assert [(one.level, one.cases) for one in verify(read_dataset(folder))] == [("note", ("a", "b"))]
    staging = folder / f"{PARTIAL}unlabelled"  # as an addition leaves it that was killed
    staging.mkdir()
    (staging / "a.nii.gz").touch()
    take_out(folder)
    assert contents(folder) == before


@pytest.mark.parametrize("link", [False, True])
def test_images_on_another_disk(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: bool) -> None:
    """A disk that holds imagesTr, which is a link to it: nothing can be renamed from elsewhere to there."""
    (folder / "imagesTr").rename(tmp_path / "disk")
    (folder / "imagesTr").symlink_to(tmp_path / "disk")
    replace = os.replace

    def within_a_disk(source: Path, target: Path) -> None:
        if target.parent.resolve() == tmp_path / "disk" != source.parent.resolve():
            raise OSError(errno.EXDEV, "Invalid cross-device link", source, None, target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", within_a_disk)
    before = contents(folder)
    put_in(folder, link=link)
    for name in ("a_0000.nii.gz", "b_0000.nii.gz"):
        assert (tmp_path / "disk" / name).is_symlink() == link
        assert (tmp_path / "disk" / name).read_bytes() == (tmp_path / "new" / name).read_bytes()
    take_out(folder)
    assert contents(folder) == before


def test_every_fold_trains_on_them_and_none_validates(folder: Path) -> None:
    """Folds of the labelled cases are those that nnU-Net makes itself."""
    put_in(folder)
    folds = json.loads((folder / "splits_final.json").read_text())
    assert len(folds) == 5
    for fold in folds:
        assert {"a", "b"} <= set(fold["train"])
    assert sorted(case for fold in folds for case in fold["val"]) == [f"case_{number:03d}" for number in range(6)]


def test_no_fold_trains_on_patients_that_it_validates_on(folder: Path) -> None:
    """Whether their images are known before or after they come in."""
    table = "case,patient\ncase_000,P\n{}\n"
    (folder / "cases.csv").write_text(table.format("a,P"))
    put_in(folder)
    assert [one for one in verify(read_dataset(folder)) if one.level == "error"] == []
    (folder / "cases.csv").write_text(table.format("a,P\nb,P"))
    assert {one.check for one in verify(read_dataset(folder)) if one.level == "error"} == {"patients"}
    put_in(folder)
    assert [one for one in verify(read_dataset(folder)) if one.level == "error"] == []


def test_splits_that_are_there_are_changed_and_changed_back(folder: Path, tmp_path: Path) -> None:
    preprocessed = tmp_path / "preprocessed" / folder.name
    preprocessed.mkdir(parents=True)
    files = [place / "splits_final.json" for place in (folder, preprocessed)]
    for file in files:
        file.write_text(json.dumps(SPLITS))
    put_in(folder)
    for file in files:
        (fold,) = json.loads(file.read_text())
        assert fold == {"train": ["a", "b", *SPLITS[0]["train"]], "val": SPLITS[0]["val"]}
    take_out(folder)
    assert [json.loads(file.read_text()) for file in files] == [SPLITS, SPLITS]


def test_regions_and_an_ignore_label_that_was_there(folder: Path) -> None:
    description = json.loads((folder / "dataset.json").read_text())
    description |= {"labels": REGIONS | {"ignore": 3}, "regions_class_order": [1, 2]}
    (folder / "dataset.json").write_text(json.dumps(description))
    put_in(folder)
    changed = json.loads((folder / "dataset.json").read_text())
    assert LabelManager(changed["labels"], changed["regions_class_order"]).ignore_label == 3
    take_out(folder)
    assert json.loads((folder / "dataset.json").read_text()) == description


def test_a_dataset_that_lists_its_files(folder: Path) -> None:
    description = json.loads((folder / "dataset.json").read_text())
    description["dataset"] = {
        f"case_{n:03d}": {"images": [f"imagesTr/case_{n:03d}_0000.nii.gz"], "label": f"masks/case_{n:03d}.nii.gz"}
        for n in range(6)
    }
    (folder / "labelsTr").rename(folder / "masks")
    (folder / "dataset.json").write_text(json.dumps(description))
    put_in(folder)
    listed = json.loads((folder / "dataset.json").read_text())["dataset"]
    assert listed["a"] == {"images": ["imagesTr/a_0000.nii.gz"], "label": "labelsTr_unlabelled/a.nii.gz"}
    assert not (folder / "labelsTr").exists()  # where nnU-Net would look for the references of all cases
    take_out(folder)
    assert json.loads((folder / "dataset.json").read_text()) == description


def test_a_file_of_a_case_of_another_name_is_not_replaced(folder: Path) -> None:
    description = json.loads((folder / "dataset.json").read_text())
    files = {"images": ["imagesTr/case_000_0000.nii.gz"], "label": "labelsTr/case_000.nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(description | {"dataset": {"patient": files}}))
    write(folder.parent / "new" / "case_000_0000.nii.gz")
    before = contents(folder)
    with pytest.raises(InputError, match=r"new/case_000_0000.nii.gz: would become .*, which is there already; rename"):
        put_in(folder)
    assert contents(folder) == before


def test_a_rehearsal_writes_nothing_and_finds_what_would_be_refused(folder: Path) -> None:
    (folder / "splits_final.json").write_text(json.dumps(SPLITS))
    before, dataset = contents(folder), read_dataset(folder)
    plan = plan_unlabelled(dataset, [folder.parent / "new"], link=True, workers=1)
    assert rehearse(plan, dataset, workers=1) == [folder / "splits_final.json"]
    image = sitk.GetImageFromArray(np.ones((10, 12, 14), np.float32))
    sitk.WriteImage(image, str(folder.parent / "new" / "a_0000.nii.gz"))
    with pytest.raises(InputError, match=r"new/a_0000.nii.gz: is constant"):
        rehearse(plan, dataset, workers=1)
    (folder / "splits_final.json").write_text("[1]")
    with pytest.raises(InputError, match=r"splits_final\.json"):
        rehearse(plan, dataset, workers=1)
    (folder / "splits_final.json").write_text(json.dumps(SPLITS))
    assert contents(folder) == before


def test_what_somebody_has_labelled_since_still_validates(folder: Path, tmp_path: Path) -> None:
    put_in(folder)
    label(folder / "labelsTr" / "a.nii.gz")
    file = folder / "splits_final.json"
    file.write_text(json.dumps([{"train": [*SPLITS[0]["train"], "b"], "val": [*SPLITS[0]["val"], "a"]}]))
    put_in(folder, write(tmp_path / "c.nii.gz", 7))
    (fold,) = json.loads(file.read_text())
    assert fold == {"train": ["b", "c", *SPLITS[0]["train"]], "val": [*SPLITS[0]["val"], "a"]}
    file.unlink()
    put_in(folder, write(tmp_path / "d.nii.gz", 8))
    validated = {case for fold in json.loads(file.read_text()) for case in fold["val"]}
    assert validated == {"a", *(f"case_{number:03d}" for number in range(6))}


def label(file: Path) -> None:
    """Label a voxel, as somebody would."""
    image = sitk.ReadImage(str(file))
    image[3, 3, 3] = 1
    sitk.WriteImage(image, str(file))


@pytest.mark.parametrize("kept", ["before", "between"])
def test_an_interrupted_addition_continues(folder: Path, kept: str) -> None:
    """Killed while images are copied, or while they are moved in."""
    before = contents(folder)
    put_in(folder)
    after = contents(folder)
    staged = folder / f"{PARTIAL}unlabelled" / folder.name
    staged.mkdir(parents=True)
    (staged / "labelsTr").mkdir()
    (folder / "labelsTr" / "b.nii.gz").rename(staged / "labelsTr" / "b.nii.gz")
    if kept == "before":
        for name in after.keys() - before.keys() - {"labelsTr/b.nii.gz"}:
            (folder / name).unlink()
        (folder / "dataset.json").write_text(json.dumps(before["dataset.json"]))
    else:
        (folder / "splits_final.json").rename(staged / "splits_final.json")  # it would be moved last
    put_in(folder)
    assert contents(folder) == after
    put_in(folder)  # nothing is left to do
    assert contents(folder) == after


def test_what_is_left_out_is_listed(folder: Path) -> None:
    new = folder.parent / "new"
    write(new / "scan.nii.gz")
    (new / "c_0000.nii.gz").symlink_to("nowhere")
    (new / "more").mkdir()
    plan = plan_unlabelled(read_dataset(folder), [new], link=False, workers=1)
    assert plan.skipped == {
        new / "c_0000.nii.gz": "a link to a file that is not there",
        new / "scan.nii.gz": "not named CASE_0000.nii.gz",
    }


def test_more_images_later(folder: Path, tmp_path: Path) -> None:
    before = contents(folder)
    put_in(folder)
    put_in(folder, write(tmp_path / "c.nii.gz", 7))
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 9
    assert all({"a", "b", "c"} <= set(fold["train"]) for fold in json.loads((folder / "splits_final.json").read_text()))
    take_out(folder)
    assert contents(folder) == before


def test_another_image_of_the_same_name_is_refused(folder: Path, tmp_path: Path) -> None:
    """The account would name it as the original of an image that is another's copy, which --remove deletes."""
    put_in(folder)
    before = contents(folder)
    with pytest.raises(InputError, match=r"more/a_0000\.nii\.gz: a was added from .*new/a_0000\.nii\.gz, expected"):
        put_in(folder, write(tmp_path / "more" / "a_0000.nii.gz", 7))
    assert contents(folder) == before


def test_what_somebody_has_labelled_since_stays(folder: Path) -> None:
    put_in(folder)
    label(folder / "labelsTr" / "a.nii.gz")
    take_out(folder)
    description = json.loads((folder / "dataset.json").read_text())
    assert (description["labels"]["ignore"], description["numTraining"]) == (3, 7)
    assert (folder / "labelsTr" / "a.nii.gz").is_file()
    assert not (folder / "labelsTr" / "b.nii.gz").exists()
    assert list(json.loads((folder / ACCOUNT).read_text())["cases"]) == ["a"]


def test_a_label_without_an_image_is_no_case(folder: Path) -> None:
    stray = folder / "labelsTr" / "extra.nii.gz"
    shutil.copy(folder / "labelsTr" / "case_001.nii.gz", stray)
    with pytest.raises(InputError, match=r"imagesTr/extra_0000.nii.gz: no such file, expected images and a label map"):
        put_in(folder)
    stray.rename(folder / "extra.nii.gz")
    put_in(folder)
    (folder / "extra.nii.gz").rename(stray)
    take_out(folder)
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 6


def test_an_image_without_a_label_map_is_no_training_case(folder: Path, tmp_path: Path) -> None:
    (folder / "labelsTr" / "case_001.nii.gz").unlink()
    with pytest.raises(InputError, match=r"labelsTr/case_001.nii.gz: no such file.*; missu dataset unlabelled"):
        put_in(folder)
    (folder / "imagesTr" / "case_001_0000.nii.gz").rename(tmp_path / "new" / "case_001_0000.nii.gz")
    put_in(folder)
    assert {finding.check for finding in verify(read_dataset(folder)) if finding.level == "error"} == set()


@pytest.mark.parametrize("left", [("a_0000",), ("a_0000", "a")])
@pytest.mark.parametrize("remedy", [put_in, take_out])
def test_other_images_after_an_interruption(
    folder: Path, tmp_path: Path, left: tuple[str, ...], remedy: Callable[[Path], None]
) -> None:
    """The splits must not name a case that never came in whole."""
    put_in(folder)
    for file in [*folder.glob("*/a*.nii.gz"), *folder.glob("*/b*.nii.gz")]:
        if file.name.removesuffix(".nii.gz") not in left:
            file.unlink()
    before = contents(folder)
    other = write(tmp_path / "c_0000.nii.gz", 3)
    with pytest.raises(InputError, match=r"new/[ab]_0000.nii.gz: added as [ab], whose files .* add it once more"):
        put_in(folder, other)
    assert contents(folder) == before
    remedy(folder)
    put_in(folder, other)
    assert [one for one in verify(read_dataset(folder)) if one.level != "note"] == []


def test_volumes_that_simpleitk_does_not_read(tmp_path: Path) -> None:
    folder = tmp_path / write_raw_dataset(tmp_path, 7, file_ending=".tif")
    image = tmp_path / "a_0000.tif"
    tifffile.imwrite(image, np.random.default_rng(0).random((20, 24, 20)))
    put_in(folder, image)
    assert tifffile.imread(folder / "labelsTr" / "a.tif").shape == (20, 24, 20)


def test_the_only_copy_of_an_image_is_not_deleted(folder: Path, tmp_path: Path) -> None:
    put_in(folder)
    shutil.rmtree(tmp_path / "new")
    with pytest.raises(InputError, match=r"imagesTr/a_0000.nii.gz: its original, .*new/a_0000.nii.gz, is gone"):
        take_out(folder)
    (tmp_path / "new").mkdir()
    for case in "ab":
        (tmp_path / "new" / f"{case}_0000.nii.gz").symlink_to(folder / "imagesTr" / f"{case}_0000.nii.gz")
    with pytest.raises(InputError, match=r"imagesTr/a_0000.nii.gz: its original, .* is gone .* this the only copy"):
        take_out(folder)


def test_another_image_in_the_place_of_the_original(folder: Path, tmp_path: Path) -> None:
    """As in a folder of what comes in, where names begin anew: neither image may be lost."""
    put_in(folder)
    before = contents(folder)
    write(tmp_path / "new" / "b_0000.nii.gz", 7)
    with pytest.raises(InputError, match=r"new/b_0000.nii.gz: differs from .*imagesTr/b_0000.nii.gz, .* rename"):
        put_in(folder)
    with pytest.raises(InputError, match=r"imagesTr/b_0000.nii.gz: its original, .* or another image by now"):
        take_out(folder)
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("arrange", "message"),
    [
        (lambda new: write(new / "case_003_0000.nii.gz"), "case_003_0000.nii.gz: Dataset007_Tiny has a training case"),
        (lambda new: write(new / "c.nii.gz_0000.nii.gz"), "c.nii.gz_0000.nii.gz: no name of a case"),
        (lambda new: write(new / "c_seg_0000.nii.gz"), "c_seg_0000.nii.gz: c_seg ends in _seg, .* rename the file"),
        (lambda new: write(new / "c_0001.nii.gz"), "found c_0001.nii.gz of c, .*expected 1 .MRI., named as c_0000"),
        (lambda new: (new / "c_0000.nii.gz").write_bytes(b"text"), "c_0000.nii.gz: not a readable image"),
        (lambda new: cut(write(new / "c_0000.nii.gz")), "1 of 3 cases not converted, first c: .*cut short"),
        (
            lambda new: sitk.WriteImage(sitk.Image(4, 4, 4, sitk.sitkUInt8), str(new / "c_0000.nii.gz")),
            "first c: .*c_0000.nii.gz: is constant",
        ),
        (
            lambda new: write(new / "c_0000.nii.gz", shape=(12, 14)),
            "c_0000.nii.gz: found 2D, expected 3D like",
        ),
        (shutil.rmtree, "new: no such file or folder"),
    ],
)
def test_images_that_do_not_fit_change_nothing(folder: Path, arrange, message: str) -> None:
    arrange(folder.parent / "new")
    before = contents(folder)
    with pytest.raises(InputError, match=message) as error:
        put_in(folder)
    assert "\n" not in str(error.value)
    assert contents(folder) == before


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("step", range(7))
def test_an_interrupted_removal_continues(folder: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Killed before one of the files is deleted or written."""
    before = contents(folder)
    put_in(folder)
    steps = iter(range(7))
    unlink, replace = Path.unlink, os.replace

    def killed(action):
        def act(*arguments, **options):
            if PARTIAL not in Path(arguments[-1]).name and next(steps, None) == step:
                raise KeyboardInterrupt
            return action(*arguments, **options)

        return act

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed(unlink))
        patch.setattr(os, "replace", killed(replace))
        with pytest.raises(KeyboardInterrupt):
            take_out(folder)
        take_out(folder)
    assert contents(folder) == before


@pytest.mark.parametrize("place", ["raw", "preprocessed"])
def test_damaged_splits_change_nothing(folder: Path, tmp_path: Path, place: str) -> None:
    put_in(folder)
    file = (folder if place == "raw" else tmp_path / "preprocessed" / folder.name) / "splits_final.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("[1]")
    before = contents(folder)
    with pytest.raises(InputError, match=r"splits_final\.json: .*not nnU-Net's splits"):
        take_out(folder)
    with pytest.raises(InputError, match=r"splits_final\.json: .*not nnU-Net's splits"):
        put_in(folder, write(tmp_path / "c_0000.nii.gz", 7))
    assert contents(folder) == before


@pytest.mark.parametrize("place", ["{outside}", "imagesTr/../../victim.nii.gz", "imagesTr/case_000_0000.nii.gz"])
def test_only_what_was_added_is_deleted(folder: Path, tmp_path: Path, place: str) -> None:
    """Whatever dataset.json lists for a case that the account names."""
    put_in(folder)
    outside = write(tmp_path / "victim.nii.gz")
    description = json.loads((folder / "dataset.json").read_text())
    listed = {"images": [place.format(outside=outside)], "label": "labelsTr/none.nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(description | {"dataset": {"a": listed}}))
    before = contents(folder)
    with pytest.raises(InputError, match=r"\.nii\.gz: belongs to the case a, expected only .*imagesTr/a_0000\.nii\.gz"):
        take_out(folder)
    assert contents(folder) == before
    assert outside.is_file()


@pytest.mark.parametrize(
    "change",
    [
        *({"cases": cases} for cases in (5, {"x": 5}, {"x": []}, {"x": [5]}, {"../x": ["x"]}, {"": ["x"]})),
        {"declared_ignore": None},
        {"made_splits": 3},
    ],
)
def test_an_account_that_cannot_be_used(folder: Path, change: dict) -> None:
    account = {"cases": {"x": ["x"]}, "declared_ignore": False, "made_splits": False}
    (folder / ACCOUNT).write_text(json.dumps(account | change))
    with pytest.raises(InputError, match=rf"{ACCOUNT}: {next(iter(change))}.*found .*; missu dataset unlabelled"):
        take_out(folder)


def test_nothing_to_take_out(folder: Path) -> None:
    with pytest.raises(InputError, match="missu has added no unlabelled cases"):
        take_out(folder)
