"""Gathers the scores of several arms of an experiment from the folders that nnU-Net writes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from filecmp import cmp
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from missu_nnunet.datasets.images import FILE_ENDINGS
from missu_nnunet.errors import InputError
from missu_nnunet.evaluation.comparison import OVERALL, Comparisons, FloatArray
from missu_nnunet.evaluation.folders import Scores, evaluate_folders, segmentations, statistics, stem
from missu_nnunet.evaluation.protocols import Protocol
from missu_nnunet.nnunet.dataset import DATASET_FILE, RawDataset, read_dataset
from missu_nnunet.nnunet.folders import Model, model_folder, seed_of
from missu_nnunet.nnunet.model import find_description, folds_of
from missu_nnunet.nnunet.summary import references_of
from missu_nnunet.text import some

CaseScores = dict[str, Scores]
"""case → its scores"""


@dataclass(frozen=True)
class Run:
    """One training of an arm, or the predictions of one.

    Attributes:
        seed: seed of the training, by the folder that ``missu crossval --seeds`` put it in; None for any other.
        folder: the folder given for it.
        cases: its cases' scores.
        files: case → its segmentation and the reference.
    """

    seed: int | None
    folder: Path
    cases: CaseScores
    files: dict[str, tuple[Path, Path]]


@dataclass(frozen=True)
class Results:
    """The scores of several arms on the same cases.

    Attributes:
        protocol: protocol whose conventions were followed.
        metrics: names of the metrics.
        tolerance: tolerance of the metric "nsd" in mm.
        arms: arm → its runs, one for each seed; the cases are the same in all of them.
        labels: labels of each class or region that was scored.
        ignore: the ignore label, if there is one.
    """

    protocol: Protocol
    metrics: tuple[str, ...]
    tolerance: float
    arms: dict[str, tuple[Run, ...]]
    labels: dict[str, tuple[int, ...]]
    ignore: int | None

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes or regions."""
        return tuple(self.labels)

    @property
    def runs(self) -> list[Run]:
        """The runs of all arms."""
        return [run for runs in self.arms.values() for run in runs]

    @property
    def first_runs(self) -> dict[str, Run]:
        """arm → its first run, for what can be shown of one run only."""
        return {arm: runs[0] for arm, runs in self.arms.items()}

    @property
    def cases(self) -> list[str]:
        """The names of the cases."""
        return list(self.runs[0].cases)

    @cached_property
    def mean_scores(self) -> dict[str, dict[str, FloatArray]]:
        """metric → arm → ``(cases, classes)``, the mean over the arm's seeds; NaN where one of them has no value."""
        return {
            metric: {arm: scores.mean(axis=0) for arm, scores in arms.items()} for metric, arms in self.scores.items()
        }

    def mean_cases(self, arm: str) -> CaseScores:
        """An arm's ``mean_scores`` by case, class and metric; of one run its own scores."""
        runs = self.arms[arm]
        if len(runs) == 1:
            return runs[0].cases
        return {
            case: {
                class_: {metric: float(arms[arm][row, column]) for metric, arms in self.mean_scores.items()}
                for column, class_ in enumerate(self.classes)
            }
            for row, case in enumerate(self.cases)
        }

    @cached_property
    def scores(self) -> dict[str, dict[str, FloatArray]]:
        """metric → arm → ``(seeds, cases, classes)``, as ``comparison.compare_arms`` takes them."""

        def value(scores: Scores, class_: str, metric: str) -> float:
            # Without a dataset.json, a fold knows the classes of its own references only.
            return scores[class_][metric] if class_ in scores else math.nan

        return {
            metric: {
                name: np.array(
                    [
                        [[value(scores, class_, metric) for class_ in self.classes] for scores in run.cases.values()]
                        for run in runs
                    ]
                )
                for name, runs in self.arms.items()
            }
            for metric in self.metrics
        }

    def summary(self) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
        """Summarise the cases: metric → arm → class (and the mean of several classes) → its statistics.

        Of several seeds they are those of each case's mean over the seeds. "seeds" is their number and "seed_std" the
        standard deviation of the mean between them, NaN for one.
        """

        def described(scores: FloatArray) -> dict[str, float]:
            means = [statistics(of_seed)["mean"] for of_seed in scores]
            seed_std = float(np.std(means, ddof=1)) if len(means) > 1 else math.nan
            return statistics(scores.mean(axis=0)) | {"seeds": len(scores), "seed_std": seed_std}

        return {
            metric: {
                arm: {name: described(scores[..., column]) for column, name in enumerate(self.classes)}
                | ({OVERALL: described(case_means(scores))} if len(self.classes) > 1 else {})
                for arm, scores in arms.items()
            }
            for metric, arms in self.scores.items()
        }


def case_means(scores: FloatArray) -> FloatArray:
    """Average each case over its classes with a value, which are the last axis; NaN where there is none."""
    defined = ~np.isnan(scores)
    counts = defined.sum(axis=-1)
    return np.where(counts, np.where(defined, scores, 0).sum(axis=-1) / np.maximum(counts, 1), np.nan)


def gather_results(
    folders: Sequence[Path],
    protocol: Protocol,
    *,
    references: Path | None = None,
    dataset: RawDataset | None = None,
    metrics: Sequence[str] = (),
    tolerance: float = 1.0,
    wanted: Sequence[str] = (),
    workers: int = 1,
) -> Results:
    """Score every arm's segmentations.

    Args:
        folders: the folder of each arm: a trained model's (``Trainer__Plans__configuration``), which stands for the
            validation cases of its folds 0, 1, …; a fold's; or any folder of segmentations. Folders that differ in the
            seed alone, as ``missu crossval --seeds`` places them, are one arm.
        protocol: protocol whose conventions and, without a dataset, classes are used.
        references: folder of reference segmentations; by default the one that the ``summary.json`` beside an arm's
            segmentations names.
        dataset: dataset whose classes, regions and ignore label are used; by default that of the ``dataset.json`` which
            nnU-Net puts into the folders of models and of predictions.
        metrics: names of the metrics to compute; where it is empty, those that the protocol reports.
        tolerance: tolerance of the metric "nsd" in mm.
        wanted: names of cases that must be among those of the arms.
        workers: number of processes.

    Raises:
        InputError: if a folder holds no segmentations, its references or classes are unknown, a wanted case is not
            there, or arms' cases or references differ.
    """
    by_arm = group_seeds(folders)
    dataset = dataset or common_dataset(folders)
    parts = {folder: _segmentation_folders(folder) for folder in folders}
    # Whatever may be wrong is looked for before any distance is computed, which can take hours.
    endings = (dataset.file_ending,) if dataset else FILE_ENDINGS
    _check_cases({folder: _case_files(found, endings) for folder, found in parts.items()}, wanted)
    reference_folders = {part: references or references_of(part) for found in parts.values() for part in found}
    _check_references({part: _case_files([part], endings) for part in reference_folders}, reference_folders)
    evaluations = {
        folder: [
            evaluate_folders(
                part,
                reference_folders[part],
                protocol,
                dataset=dataset,
                metrics=metrics,
                tolerance=tolerance,
                chill=True,  # a fold has some of the dataset's cases
                workers=workers,
            )
            for part in found
        ]
        for folder, found in parts.items()
    }
    every = [evaluation for found in evaluations.values() for evaluation in found]
    labels = {name: tuple(values) for evaluation in every for name, values in evaluation.classes.items()}
    if not labels:
        raise InputError(
            f"{next(iter(reference_folders.values()))}: only background in the references of all cases, expected "
            "classes; name them with --dataset"
        )
    return Results(
        protocol=protocol,
        metrics=every[0].metrics,
        tolerance=tolerance,
        arms={
            name: tuple(
                Run(
                    seed=seed,
                    folder=folder,
                    cases=dict(
                        sorted((case, scores) for part in evaluations[folder] for case, scores in part.cases.items())
                    ),
                    files={
                        stem(file): (part / file, reference_folders[part] / file)
                        for part in parts[folder]
                        for file in _case_files([part], endings)
                    },
                )
                for seed, folder in seeds.items()
            )
            for name, seeds in by_arm.items()
        },
        labels=labels,
        ignore=dataset.ignore if dataset else None,
    )


def group_seeds(folders: Sequence[Path]) -> dict[str, dict[int | None, Path]]:
    """Group folders by the name of their arm and by their seed; those that differ in the seed alone are one arm's.

    Args:
        folders: folders, as for ``gather_results``.

    Raises:
        InputError: if a folder is given twice.
    """
    resolved = [folder.resolve() for folder in folders]
    for folder in folders:
        if resolved.count(folder.resolve()) > 1:
            raise InputError(f"{folder}: given twice; an arm can be compared with other arms only")
    arms: dict[tuple[Path, Path] | Path, dict[int | None, Path]] = {}
    for folder, place in zip(folders, resolved, strict=True):
        results = model_folder(place).parent.parent
        seed = seed_of(results) if Model.of(model_folder(place)) else None
        arm = place if seed is None else (results.parent, place.relative_to(results))
        arms.setdefault(arm, {})[seed] = folder
    found = [dict(sorted(seeds.items(), key=lambda item: item[0] or 0)) for seeds in arms.values()]
    return dict(zip(arm_names([_common_path(seeds) for seeds in found]), found, strict=True))


def _common_path(seeds: dict[int | None, Path]) -> Path:
    """The path of an arm's folders, in a shell's words of several seeds: ``seed_{0,1}/Dataset004_X/…``."""
    first = next(iter(seeds.values()))
    if len(seeds) == 1:
        return first
    results = model_folder(first.resolve()).parent.parent
    return results.with_name(f"seed_{{{','.join(map(str, seeds))}}}") / first.resolve().relative_to(results)


def arm_names(folders: Sequence[Path]) -> list[str]:
    """Short names that tell the folders apart: trainers, models (``Trainer__Plans__configuration``), last parts, paths.

    Args:
        folders: different ones.
    """
    resolved = [folder.resolve() for folder in folders]
    models = [model_folder(folder) for folder in resolved]
    candidates = (
        [model.trainer if (model := Model.of(folder)) else folder.name for folder in models],
        [folder.name for folder in models],
        [folder.name for folder in resolved],
    )
    return next((names for names in candidates if len(set(names)) == len(names)), [str(folder) for folder in resolved])


def comparison_content(results: Results, comparisons: Comparisons) -> dict[str, Any]:
    """Return everything: settings, comparisons with sentences, rankings, and each case's scores; undefined is NaN.

    An arm's "cases" are the means over its seeds; what each seed scored is in "seeds".
    """
    return {
        "protocol": results.protocol.name,
        "nsd_tolerance_mm": results.tolerance,
        "level": comparisons.level,
        "arms": {
            name: str(_common_path({run.seed: run.folder for run in runs})) for name, runs in results.arms.items()
        },
        "classes": list(results.classes),
        "warning": comparisons.warning(),
        "comparisons": [line.as_dict() | {"sentence": line.sentence()} for line in comparisons.lines],
        "rankings": [vars(ranking) for ranking in comparisons.rankings],
        "cases": {arm: results.mean_cases(arm) for arm in results.arms},
        "seeds": {
            arm: {str(run.seed): {"folder": str(run.folder), "cases": run.cases} for run in runs}
            for arm, runs in results.arms.items()
            if runs[0].seed is not None
        },
    }


def _segmentation_folders(folder: Path) -> list[Path]:
    """The folders of an arm's segmentations: the validations of a model's folds, or what the arm's folder holds."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a trained model's, a fold's or one of segmentations")
    if validations := [fold.validation for fold in folds_of(folder) if fold.validation.is_dir()]:
        return validations
    validation = folder / "validation"
    return [validation] if validation.is_dir() else [folder]


def _case_files(parts: list[Path], endings: tuple[str, ...]) -> set[str]:
    """The names of an arm's segmentations."""
    names: set[str] = set()
    for part in parts:
        found = segmentations(part, endings)
        if twice := sorted(names & found):
            raise InputError(f"{part}: {some(twice)} is in another fold too; give the folds' folders one by one")
        names |= found
    return names


def _check_cases(names_of: dict[Path, set[str]], wanted: Sequence[str]) -> None:
    every = set().union(*names_of.values())
    for folder, names in names_of.items():
        if missing := sorted(every - names):
            raise InputError(
                f"{folder}: no segmentation of {some(missing)}, which another arm has; give the same folds or test "
                "cases of every arm"
            )
    cases = sorted(map(stem, every))
    if unknown := [name for name in wanted if name not in cases]:
        raise InputError(
            f"--case {unknown[0]}: not among the {len(cases)} cases to score; give one such as {some(cases)}"
        )


def _check_references(names_of: dict[Path, set[str]], reference_folders: dict[Path, Path]) -> None:
    """Refuse cases whose references differ between arms, as those of a dataset and of its copy with fewer labels do."""
    first: dict[str, Path] = {}
    for part, names in names_of.items():
        for reference in filter(Path.is_file, (reference_folders[part] / name for name in sorted(names))):
            known = first.setdefault(reference.name, reference)
            if reference != known and not cmp(reference, known, shallow=False):
                raise InputError(
                    f"{reference}: differs from {known}, another arm's reference of the case; give --reference FOLDER"
                )


def common_dataset(folders: Sequence[Path]) -> RawDataset | None:
    """Read the dataset that the ``dataset.json`` of models and predictions describes, if there is one.

    Args:
        folders: the models' and predictions' folders.

    Raises:
        InputError: if a ``dataset.json`` cannot be used, or has other labels than another one.
    """
    files = {folder: file for folder in folders if (file := find_description(DATASET_FILE, folder))}
    if not files:
        return None
    try:
        found = {folder: read_dataset(file.parent) for folder, file in files.items()}
    except InputError as error:  # a file that nobody has named, such as that of a Decathlon task
        raise InputError(f"{error}; or say whose classes to score with --dataset") from None
    first, *others = found
    for other in others:
        if (found[first].regions, found[first].ignore) != (found[other].regions, found[other].ignore):
            raise InputError(
                f"{other}: its dataset.json has other labels than that of {first}; say whose to score with --dataset"
            )
    return found[first]
