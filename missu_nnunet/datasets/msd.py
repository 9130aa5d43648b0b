"""The Medical Segmentation Decathlon: fetches, checks and converts a task, or any dataset in its format."""

from __future__ import annotations

import os
import re
import shutil
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StrictStr, StringConstraints

from missu_nnunet.archives import unpack_tar
from missu_nnunet.datasets.conversion import Conversion, PlannedFolder, copy_nifti, files_below, leftovers
from missu_nnunet.datasets.headers import nifti_voxels
from missu_nnunet.datasets.images import read_header, refuse_non_finite_image
from missu_nnunet.errors import InputError
from missu_nnunet.files import PARTIAL, folder_name, read_finite_json
from missu_nnunet.nnunet.dataset import DATASET_FILE
from missu_nnunet.nnunet.names import check_names
from missu_nnunet.structures import FilePath, Structure, as_structure
from missu_nnunet.text import first_line

MIRROR = "https://msd-for-monai.s3-us-west-2.amazonaws.com"
"""The address that MONAI's ``DecathlonDataset`` downloads from as well; ``MD5`` are its checksums."""

PATIENCE = 60.0
"""Seconds within which at least ``LEAST_BYTES`` of a download must arrive."""

LEAST_BYTES = 2**16

MD5 = {
    "Task01_BrainTumour": "240a19d752f0d9e9101544901065d872",
    "Task02_Heart": "06ee59366e1e5124267b774dbd654057",
    "Task03_Liver": "a90ec6c4aa7f6a3d087205e23d4e6397",
    "Task04_Hippocampus": "9d24dba78a72977dbd1d2e110310f31b",
    "Task05_Prostate": "35138f08b1efaef89d7424d2bcc928db",
    "Task06_Lung": "8afd997733c7fc0432f71255ba4e52dc",
    "Task07_Pancreas": "4f7080cfca169fa8066d17ce6eb061e4",
    "Task08_HepaticVessel": "641d79e80ec66453921d997fbf12a29c",
    "Task09_Spleen": "410d4a301da4e5b2f6f86ec3ddba524e",
    "Task10_Colon": "bad7a188931dc2f6acf72b08eb6202d0",
}


def find_task(name: str) -> str:
    """Return the full name of a task, "Task04_Hippocampus", given as such or as "Task04".

    Raises:
        InputError: if the Decathlon has no such task.
    """
    found = [task for task in MD5 if name in (task, task.partition("_")[0])]
    if not found:
        raise InputError(
            f"{name}: neither a folder, nor an archive, nor one of the Decathlon's tasks, Task01 to Task10"
        )
    return found[0]


def download(task: str, md5: str, folder: Path, mirror: str = MIRROR) -> Path:
    """Fetch a task's archive, unless it is there already, and return its path.

    Args:
        task: full name of the task.
        md5: checksum that the archive must have.
        folder: folder in which archives are kept.
        mirror: address that holds the archives.

    Raises:
        InputError: if the download fails, or the file has another checksum.
    """
    import pooch
    from requests import RequestException

    url = f"{mirror.rstrip('/')}/{task}.tar"
    pooch.get_logger().setLevel("WARNING")  # errors are ours to report, in one line
    fetch = partial(_watched, pooch.HTTPDownloader(progressbar=sys.stderr.isatty()))
    try:
        return Path(pooch.retrieve(url, f"md5:{md5}", fname=f"{task}.tar", path=folder, downloader=fetch))
    except (RequestException, OSError) as error:
        raise InputError(f"{url}: download failed ({error}); try again, or name another --mirror") from error
    except ValueError as error:  # pooch's way to say that the checksum differs
        raise InputError(f"{url}: its checksum is not md5 {md5}, the Decathlon's; name another --mirror") from error


def _watched(fetch: Callable[..., object], url: str, output_file: str, *others: object) -> None:
    """Download in a thread, which is left behind when too little arrives for too long.

    A time limit of the socket would not do: it starts again with every byte.

    Raises:
        TimeoutError: if the server is too slow.
    """
    failures: list[BaseException] = []

    def download() -> None:
        try:
            fetch(url, output_file, *others)
        except BaseException as error:  # it is the caller's
            failures.append(error)

    thread = threading.Thread(target=download, daemon=True)
    thread.start()
    size = 0
    thread.join(PATIENCE)
    while thread.is_alive():
        grown = Path(output_file).stat().st_size - size
        if grown < LEAST_BYTES:
            raise TimeoutError(f"{grown} bytes in {PATIENCE:g} s")
        size += grown
        thread.join(PATIENCE)
    if failures:
        raise failures[0]


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a task's archive into a folder, and return the task's folder in it.

    Raises:
        InputError: if the archive is damaged, reaches outside the folder, or holds no task (``archives.unpack_tar``).
    """
    unpack_tar(archive, folder)
    found = sorted(path for path in folder.iterdir() if re.fullmatch(r"Task\d+_\w+", path.name) and path.is_dir())
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise InputError(f"{archive}: found {names} in it, expected one folder such as Task04_Hippocampus")
    return found[0]


_Number = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,4}$")]


class _Listed(Structure):
    """The files of a training case."""

    image: FilePath
    label: FilePath


class _Description(Structure):
    """What is used of a task's ``dataset.json``."""

    modality: Annotated[dict[_Number, StrictStr], Field(min_length=1)]
    labels: Annotated[dict[_Number, StrictStr], Field(min_length=1)]
    training: list[_Listed]
    test: list[FilePath]
    overwrite_image_reader_writer: StrictStr | None = None


def task_number(source: Path) -> int:
    """Return the number in the name of a task's folder.

    Raises:
        InputError: if the name is not one that nnU-Net's converter takes.
    """
    match = re.fullmatch(r"Task(\d+)_[^_]+", folder_name(source))
    if not match:
        raise InputError(f"{source}: found no task number in the name, expected TaskNN_Name such as Task04_Hippocampus")
    return int(match[1])


def plan_msd(source: Path, dataset_id: int, link: bool = False, archive: Path | None = None) -> PlannedFolder:
    """Plan what ``nnUNetv2_convert_MSD_dataset`` writes: 4D images are split into channels, all else is copied.

    Args:
        source: the task's folder, ``TaskNN_Name``.
        dataset_id: the dataset's ID in nnU-Net, 1 to 999.
        link: whether 3D images and labels are linked instead of copied.
        archive: the archive that was unpacked to the folder that holds ``source``, if there is one.

    Raises:
        InputError: if the folder is not a task, or nnU-Net takes no such ID.
    """
    task_number(source)
    if not 1 <= dataset_id <= 999:
        raise InputError(f"{source}: ID {dataset_id}, expected 1 to 999, as nnU-Net reads three digits; choose an --id")
    description = _read_description(source / "dataset.json")
    files = files_below(source)
    channels = len(description["modality"])
    conversions, errors = [], {}
    images = {where: _cases(source / f"images{where}") for where in ("Tr", "Ts")}
    labels = _cases(source / "labelsTr")
    for where, cases in images.items():
        for case, image in cases.items():
            sources: tuple[Path, ...] = (image,)
            targets = [f"images{where}/{case}_{channel:04d}.nii.gz" for channel in range(channels)]
            if where == "Tr":
                if case not in labels:
                    errors[image] = (
                        f"{image}: no labelsTr/{image.name}, expected its segmentation: unpack the task again"
                    )
                    continue
                sources = (image, labels[case])
                targets.append(f"labelsTr/{case}.nii.gz")
            conversions.append(Conversion(case, sources, tuple(targets), partial(_convert, sources, link), link))
    listed = [path for entry in description["training"] for path in (entry["image"], entry["label"])] + list(
        description["test"]
    )
    for path in listed:
        if not (source / path).is_file():
            errors[source / path] = f"{source / path}: listed in dataset.json but not there: unpack the task again"
    if not images["Tr"]:
        errors[source / "imagesTr"] = f"{source / 'imagesTr'}: no .nii.gz image, expected the training images"
    skipped = leftovers(files, conversions, lambda _: "not an image or segmentation of the task", errors)
    skipped[source / "dataset.json"] = "rewritten for nnU-Net"
    return PlannedFolder(
        name=f"Dataset{dataset_id:03d}_{folder_name(source).partition('_')[2]}",
        conversions=tuple(conversions),
        skipped=skipped,
        errors=errors,
        documents={DATASET_FILE: _for_nnunet(description, len(images["Tr"]))},
        origin=(archive, source.parent) if archive else None,
    )


def check_integrity(folder: Path, workers: int) -> None:
    """Run nnU-Net's own check of a raw dataset.

    Raises:
        InputError: if it finds a fault; the details are on standard output.
    """
    from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

    try:
        verify_dataset_integrity(str(folder), num_processes=workers)
    except (AssertionError, RuntimeError, FileNotFoundError) as error:
        raise InputError(
            f"{folder}: refused by nnU-Net's integrity check: {first_line(error)} Correct the source and run again"
        ) from error


def _read_description(path: Path) -> dict[str, Any]:
    remedy = "it is not the dataset.json of a Decathlon task: unpack the task again"
    description = read_finite_json(path, remedy)
    as_structure(description, _Description, str(path), remedy)
    check_names(description, str(path))  # nnU-Net reads the keys that are kept
    return description


def _for_nnunet(description: dict[str, Any], num_training: int) -> dict[str, Any]:
    """The description as nnU-Net's converter writes it, without "dataset", which would list files elsewhere."""
    gone = ("modality", "training", "test", "dataset")
    kept = {key: value for key, value in description.items() if key not in gone}
    return kept | {
        "labels": {name: int(label) for label, name in description["labels"].items()},
        "numTraining": num_training,
        "file_ending": ".nii.gz",
        "channel_names": description["modality"],
    }


def _cases(folder: Path) -> dict[str, Path]:
    """The folder's images by case, without files that start with a dot or an underscore, as in nnU-Net's converter."""
    if not folder.is_dir():
        return {}
    files = sorted(path for path in folder.iterdir() if path.name.endswith(".nii.gz") and path.name[0] not in "._")
    return {path.name.removesuffix(".nii.gz"): path for path in files}


def _convert(sources: tuple[Path, ...], link: bool, targets: Sequence[Path]) -> None:
    image, *label = sources
    _split(image, targets[: len(targets) - len(label)], link)
    if label:
        copy_nifti(label[0], targets[-1], link)


def _split(image: Path, targets: Sequence[Path], link: bool) -> None:
    """One file per channel."""
    from nnunetv2.dataset_conversion.convert_MSD_dataset import split_4d_nifti

    header = read_header(image)
    found = 1 if header.GetDimension() == 3 else header.GetSize()[-1]
    if found != len(targets):
        raise InputError(f"{image}: {found} channels, expected {len(targets)} as dataset.json says under modality")
    if header.GetDimension() == 3:
        copy_nifti(image, targets[0], link)
        return
    # SimpleITK, which splits it, writes 0 for NaN and for what a file cut short lacks.
    refuse_non_finite_image(image, nifti_voxels(image))
    scratch = targets[0].with_name(f"{PARTIAL}{image.name}-channels")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        split_4d_nifti(str(image), str(scratch))
        for channel, target in zip(sorted(scratch.iterdir()), targets, strict=True):
            os.replace(channel, target)
    finally:
        shutil.rmtree(scratch)
