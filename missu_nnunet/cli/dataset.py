"""``missu dataset …``: from an organiser's download to nnU-Net's raw dataset, and from predictions to a submission."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from missu_nnunet.cli.examples import examples
from missu_nnunet.cli.options import AsJson, Workers
from missu_nnunet.errors import InputError
from missu_nnunet.extras import require_extra
from missu_nnunet.terminal import print_json, say, show, table
from missu_nnunet.text import counted, some

if TYPE_CHECKING:
    from missu_nnunet.datasets.conversion import PlannedFolder
    from missu_nnunet.datasets.verify import Finding
    from missu_nnunet.nnunet.dataset import RawDataset

_PLAN_AGAIN = "nnU-Net learns of it when you plan and preprocess the dataset again"

app = typer.Typer(
    help="Convert datasets to nnU-Net's format, check them, and prepare submissions.", no_args_is_help=True
)

Id = Annotated[
    int | None,
    typer.Option("--id", min=1, max=999, help="The dataset's ID in nnU-Net. Otherwise the one that --dry-run shows."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List what would be written, and write nothing.")]
Symlink = Annotated[bool, typer.Option("--symlink/--copy", help="Link or copy the images that need no conversion.")]
Dataset = Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's folder, name or ID in nnUNet_raw.")]
Source = Annotated[Path, typer.Argument(metavar="SRC", help="The folder that the download was unpacked to.")]
Predictions = Annotated[Path, typer.Argument(metavar="PRED", help="Folder of nnU-Net's predictions.")]
Output = Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make.")]


@app.command(
    epilog=examples(
        "missu dataset brats2019 MICCAI_BraTS_2019_Data_Training --validation MICCAI_BraTS_2019_Data_Validation"
    )
)
def brats2019(
    source: Source,
    dataset_id: Id = None,
    validation: Annotated[
        Path | None, typer.Option(metavar="SRC2", help="The validation set's folder; becomes imagesTs.")
    ] = None,
    symlink: Symlink = False,
    dry_run: DryRun = False,
    *,
    workers: Workers,
) -> None:
    """BraTS 2019: from HGG and LGG to one dataset with regions WT, TC, ET and splits stratified by grade."""
    from missu_nnunet.datasets.brats2019 import DATASET_ID, plan_brats2019

    _write_dataset(plan_brats2019(source, dataset_id or DATASET_ID, validation, symlink), dry_run, workers)


@app.command(epilog=examples("missu dataset brats2019-submit predictions submission"))
def brats2019_submit(predictions: Predictions, out: Output, dry_run: DryRun = False, *, workers: Workers) -> None:
    """BraTS 2019: predictions with the organisers' labels 1, 2 and 4."""
    from missu_nnunet.datasets.brats2019 import plan_submission

    _write(plan_submission(predictions, out.name), out.parent, dry_run, workers)


@app.command(
    epilog=examples("missu dataset chaos CHAOS --task 5 --dry-run", "missu dataset chaos CHAOS --modality t1dual")
)
def chaos(
    source: Source,
    task: Annotated[
        int | None,
        typer.Option(min=1, max=5, help="1 liver CT+MR, 2 liver CT, 3 liver MR, 4 organs CT+MR, 5 organs MR."),
    ] = None,
    modality: Annotated[str | None, typer.Option(help="One modality by itself: ct, t1dual or t2spir.")] = None,
    dataset_id: Id = None,
    dry_run: DryRun = False,
    *,
    workers: Workers,
) -> None:
    """CHAOS: from DICOM slices and PNG masks to a dataset per task or modality; the test sets become imagesTs."""
    with require_extra("datasets"):
        from missu_nnunet.datasets.chaos import MODALITIES, TASKS, plan_chaos

    if (task is None) == (modality is None):
        raise InputError("chaos: expected either --task 1 to 5 or --modality ct, t1dual or t2spir")
    if task is not None:
        variant = TASKS[task]
    elif modality in MODALITIES:
        variant = MODALITIES[modality]
    else:
        raise InputError(f"--modality {modality}: unknown, expected one of {', '.join(MODALITIES)}")
    _write_dataset(plan_chaos(source, variant, dataset_id or variant.dataset_id), dry_run, workers)


@app.command(epilog=examples("missu dataset chaos-submit predictions submission/Task5 --dicom CHAOS"))
def chaos_submit(
    predictions: Predictions,
    out: Output,
    dicom: Annotated[Path, typer.Option(help="The folder with Test_Sets, whose slices give the order and the names.")],
    dry_run: DryRun = False,
    *,
    workers: Workers,
) -> None:
    """CHAOS: predictions as PNG stacks in the organisers' order, values and folders."""
    with require_extra("datasets"):
        from missu_nnunet.datasets.chaos import plan_submission

    _write(plan_submission(predictions, dicom, out.name), out.parent, dry_run, workers)


@app.command(epilog=examples("missu dataset msd Task04_Hippocampus", "missu dataset msd Task04 --download"))
def msd(
    source: Annotated[
        str, typer.Argument(metavar="SRC|TaskNN", help="A task's folder or tar archive, or Task01 to Task10.")
    ],
    dataset_id: Id = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch the task first.")] = False,
    mirror: Annotated[
        str | None, typer.Option(envvar="MISSU_MSD_MIRROR", help="The address that holds TaskNN_Name.tar.")
    ] = None,
    archives: Annotated[Path, typer.Option(envvar="MISSU_ARCHIVES", help="Where fetched archives are kept.")] = Path(),
    symlink: Symlink = False,
    dry_run: DryRun = False,
    *,
    workers: Workers,
) -> None:
    """Medical Segmentation Decathlon: a task's folder or archive, downloaded on request and checked by nnU-Net."""
    from tempfile import TemporaryDirectory

    from missu_nnunet.datasets.msd import MD5, MIRROR, check_integrity, find_task, plan_msd, task_number, unpack
    from missu_nnunet.files import PARTIAL, make_folder
    from missu_nnunet.nnunet.folders import nnunet_folder

    path = Path(source)
    if not path.exists():
        task = find_task(source)
        mirror = mirror or MIRROR
        if not download:
            raise InputError(f"{source}: no such folder or archive; add --download to fetch {task} from {mirror}")
        if dry_run:
            say(f"fetch {mirror}/{task}.tar to {archives / f'{task}.tar'}; what it holds is known then")
            return
        with require_extra("datasets"):
            from missu_nnunet.datasets.msd import download as fetch

            say(f"fetching {mirror}/{task}.tar to {archives}")
            path = fetch(task, MD5[task], archives, mirror)
    if path.is_file() and symlink:
        raise InputError(f"{path}: an archive cannot be linked to; unpack it, or leave out --symlink")

    def convert(folder: Path, archive: Path | None = None) -> None:
        plan = plan_msd(folder, dataset_id or task_number(folder), symlink, archive)
        _write_dataset(plan, dry_run, workers, lambda finished: check_integrity(finished, workers))

    if path.is_dir():
        convert(path)
        return
    raw = nnunet_folder("nnUNet_raw")
    if not dry_run:
        make_folder(raw)
    with TemporaryDirectory(prefix=PARTIAL, dir=raw if raw.is_dir() else None) as scratch:
        convert(unpack(path, Path(scratch)), path)


@app.command(
    epilog=examples(
        "missu dataset sparse 4 Dataset104_Scribbles --scribbles", "missu dataset sparse 4 Dataset105_Few --cases 20"
    )
)
def sparse(
    dataset: Dataset,
    new: Annotated[str, typer.Argument(metavar="NEW", help="Name of the copy, DatasetXXX_Name.")],
    scribbles: Annotated[
        bool, typer.Option("--scribbles", help="Keep one thin stroke per class and slice, the background's included.")
    ] = False,
    slices: Annotated[int | None, typer.Option(min=2, metavar="N", help="Keep every Nth slice.")] = None,
    cases: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Keep the labels of the first N cases only.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random choices.")] = 0,
    symlink: Symlink = False,
    dry_run: DryRun = False,
    *,
    workers: Workers,
) -> None:
    """Copy a dataset with fewer labels and the ignore label elsewhere, to see what sparse labels would cost."""
    from missu_nnunet.datasets.sparse import Sparsity, plan_sparse
    from missu_nnunet.nnunet.dataset import find_dataset, read_dataset
    from missu_nnunet.nnunet.folders import nnunet_folder

    if not re.fullmatch(r"Dataset\d{3}_\w+", new):
        raise InputError(f"{new}: expected the name of a dataset to make, such as Dataset123_Scribbles")
    if scribbles and slices:
        raise InputError("--scribbles and --slices: expected one of them")
    if not (scribbles or slices or cases):
        raise InputError("sparse: expected --scribbles, --slices N or --cases N")
    sparsity = Sparsity(scribbles, slices, cases, seed)
    raw = read_dataset(find_dataset(dataset))
    plan = plan_sparse(raw, nnunet_folder("nnUNet_raw"), new, sparsity, symlink, workers)
    _write_dataset(plan, dry_run, workers)
    _say_of_ct(raw, new, f"before you plan, copy it from {raw.name}'s folder in nnUNet_preprocessed to {new}'s")


@app.command(epilog=examples("missu dataset unlabelled 4 more-images", "missu dataset unlabelled 4 --remove"))
def unlabelled(
    dataset: Dataset,
    images: Annotated[
        list[Path] | None,
        typer.Argument(metavar="IMAGES…", help="A folder of images as nnU-Net takes it, or single files."),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take out the images that were added.")] = False,
    symlink: Symlink = False,
    dry_run: DryRun = False,
    *,
    workers: Workers,
) -> None:
    """Add images without labels to a dataset, under nnU-Net's ignore label, which every trainer understands."""
    from missu_nnunet.datasets.unlabelled import add, plan_unlabelled, rehearse
    from missu_nnunet.nnunet.dataset import find_dataset, read_dataset

    if bool(images) == remove:
        raise InputError("unlabelled: expected images to add, or --remove")
    raw = read_dataset(find_dataset(dataset))
    if not images:
        _remove_unlabelled(raw, dry_run, workers)
        return
    plan = plan_unlabelled(raw, images, symlink or dry_run, workers)  # a rehearsal need not copy images
    if dry_run:
        for file in rehearse(plan, raw, workers):
            say(f"change {file}")
        _print_plan(plan, raw.folder.parent)
    else:
        add(plan, raw, workers)
        say(f"{raw.folder}: {counted(len(plan.conversions), 'case')} added without labels")
        _say_skipped(plan)
        say(_PLAN_AGAIN)
    _say_of_ct(raw, raw.name, "run nnUNetv2_extract_fingerprint before you add images, or after --remove")


def _say_of_ct(raw: RawDataset, name: str, remedy: str) -> None:
    """Say what is to be done before a dataset of CT with ignored voxels is planned; nnU-Net keeps what is there."""
    from missu_nnunet.nnunet.folders import folder_if_set

    file = (folder_if_set("nnUNet_preprocessed") or Path()) / name / "dataset_fingerprint.json"
    if "ct" in map(str.casefold, raw.channels) and not file.is_file():
        say(f"CT: nnU-Net counts ignored voxels in {file.name} as foreground: {remedy}")


def _remove_unlabelled(raw: RawDataset, dry_run: bool, workers: int) -> None:
    from missu_nnunet.datasets.unlabelled import plan_removal, remove

    removal = plan_removal(raw, workers)
    for case in removal.labelled:
        say(f"keep {case}: it has labels by now")
    if dry_run:
        for file in removal.files:
            say(f"delete {file}")
        for file in (raw.file, *removal.splits):
            say(f"change {file}")
        return
    remove(removal, raw)
    say(f"{raw.folder}: {counted(len(removal.cases), 'case')} taken out")
    say(_PLAN_AGAIN)


@app.command(epilog=examples("missu dataset verify 4", "missu dataset verify Dataset004_Hippocampus --json"))
def verify(
    dataset: Dataset,
    patient: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX", help="Its first group finds the patient in a case's name. Otherwise cases.csv names it."
        ),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(
            help="Folder for pictures of suspicious cases, which replace earlier ones. Otherwise ./verify_DATASET."
        ),
    ] = None,
    as_json: AsJson = False,
    *,
    workers: Workers,
) -> None:
    """Find faults that nnU-Net's own check does not see; the exit code is 1 if something is certainly wrong."""
    from dataclasses import asdict

    from missu_nnunet.datasets import verify as checks
    from missu_nnunet.nnunet.dataset import find_dataset, read_dataset

    raw = read_dataset(find_dataset(dataset))
    if pictures and pictures.resolve().is_relative_to(raw.folder.resolve()):
        raise InputError(f"--pictures {pictures}: in the dataset, whose files they could replace; choose another place")
    findings = checks.verify(raw, patient, workers)
    if findings and not as_json:
        _show_findings(raw.name, findings)
    elif not as_json:
        say(f"{raw.name}: nothing found")
    saved: list[Path] = []
    try:
        if findings:
            saved = checks.save_pictures(raw, findings, pictures or Path(f"verify_{raw.name}"))
    finally:  # the findings are worth more than their pictures
        if as_json:
            print_json({"dataset": raw.name, "findings": list(map(asdict, findings)), "pictures": saved})
    if saved and not as_json:
        say(f"{counted(len(saved), 'picture')} in {saved[0].parent}")
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)


def _show_findings(dataset: str, findings: list[Finding]) -> None:
    found = table(("level", "check", "cases", "finding"))
    for finding in findings:
        found.add_row(finding.level, finding.check, some(finding.cases, 5), finding.message)
    show(found, dataset)


def _write_dataset(
    plan: PlannedFolder, dry_run: bool, workers: int, check: Callable[[Path], None] | None = None
) -> None:
    """Write the plan into nnUNet_raw, unless another dataset has its ID."""
    from nnunetv2.utilities.dataset_name_id_conversion import find_candidate_datasets

    from missu_nnunet.nnunet.folders import nnunet_folder

    parent = nnunet_folder("nnUNet_raw")
    dataset_id = int(plan.name[len("Dataset") :].partition("_")[0])
    if others := [name for name in find_candidate_datasets(dataset_id) if name != plan.name]:
        raise InputError(f"ID {dataset_id}: found {others[0]} in nnU-Net's folders, expected a free ID; choose another")
    _write(plan, parent, dry_run, workers, check)


def _write(
    plan: PlannedFolder, parent: Path, dry_run: bool, workers: int, check: Callable[[Path], None] | None = None
) -> None:
    """Print or execute a plan, and say what became of the source files."""
    from missu_nnunet.datasets.conversion import edited, execute

    if dry_run:
        _print_plan(plan, parent)
        return
    kept = edited(plan, parent)
    folder = execute(plan, parent, workers, check)
    say(f"{folder}: {counted(len(plan.conversions), 'case')} from {counted(_count_sources(plan), 'file')}")
    for name in kept:
        say(f"kept {name}, which was edited; remove it to have it written anew")
    _say_skipped(plan)


def _say_skipped(plan: PlannedFolder) -> None:
    for reason, count in Counter(plan.skipped.values()).most_common():
        say(f"skipped {count}: {reason}")


def _print_plan(plan: PlannedFolder, parent: Path) -> None:
    for conversion in plan.conversions:
        for target in conversion.targets:
            say(f"write {parent / plan.name / target}")
    for name in (*plan.documents, *plan.tables):
        say(f"write {parent / plan.name / name}")
    for path, reason in plan.skipped.items():
        say(f"skip {path}: {reason}")
    for error in plan.errors.values():
        say(f"error {error}")
    say(
        f"{counted(_count_sources(plan), 'source file')} to convert, {len(plan.skipped)} to skip, "
        f"{counted(len(plan.errors), 'error')}"
    )


def _count_sources(plan: PlannedFolder) -> int:
    return len({source for conversion in plan.conversions for source in conversion.sources})
