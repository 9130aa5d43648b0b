"""An experiment: arms, each a trainer with its plans, folds and seeds, on one configuration of one dataset."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from missu_nnunet.errors import InputError
from missu_nnunet.experiments.fold_training import FoldTraining
from missu_nnunet.files import read_json, write_json
from missu_nnunet.nnunet.folders import (
    VARIABLES,
    Model,
    dataset_folders,
    nnunet_folder,
    results_folder,
    seeds_there,
)
from missu_nnunet.nnunet.model import folds_of
from missu_nnunet.nnunet.splits import SPLITS_FILE, Splits, check_preprocessed, ensure_splits, find_splits
from missu_nnunet.structures import Name, read_structure

MAX_NUMBER = 999
"""The highest number that a fold or a seed may have."""

_REMEDY = "it is not the record of an experiment: delete it and start again"

Number = Annotated[int, Field(strict=True, ge=0, le=MAX_NUMBER)]


@dataclass(frozen=True)
class Arm:
    """A trainer with its plans."""

    trainer: Name
    plans: Name


@dataclass(frozen=True)
class Experiment:
    """Every fold of every arm, once or with several seeds.

    Attributes:
        dataset: its full name, ``Dataset004_Hippocampus``.
        configuration: configuration of the plans, such as ``3d_fullres``.
        arms: the arms that are compared.
        folds: numbers of the folds.
        gpus: GPUs of each training; 0 trains on the CPU.
        seeds: what the trainings start from; without any, each fold of each arm is trained once and as it comes.
    """

    dataset: Name
    configuration: Name
    arms: Annotated[tuple[Arm, ...], Field(min_length=1)]
    folds: Annotated[tuple[Number, ...], Field(min_length=1)]
    gpus: Annotated[int, Field(strict=True, ge=0, le=1024)]
    seeds: tuple[Number, ...] = ()

    def trainings(self) -> list[FoldTraining]:
        """All trainings, seed after seed and fold after fold, so that the arms can be compared early."""
        return [
            FoldTraining(self.dataset, self.configuration, arm.trainer, arm.plans, fold, self.gpus, seed)
            for seed in self.seeds or (None,)
            for fold in self.folds
            for arm in self.arms
        ]

    def trainings_of(self, arm: Arm) -> list[FoldTraining]:
        """The trainings of one arm."""
        return [training for training in self.trainings() if Arm(training.trainer, training.plans) == arm]

    def other_trainings(self) -> list[FoldTraining]:
        """Other trainings of the same dataset and configuration.

        They are those that earlier experiments planned, and those that stand in nnUNet_results.
        """
        planned = [training for experiment in self._earlier() for training in experiment.trainings()]
        found = [
            FoldTraining(self.dataset, self.configuration, model.trainer, model.plans, int(fold.name), self.gpus, seed)
            for seed in (None, *seeds_there())
            for folder in sorted((results_folder(seed) / self.dataset).glob("*"))
            if (model := Model.of(folder)) and model.configuration == self.configuration
            for fold in folds_of(folder)
        ]
        own = {training.folder for training in self.trainings()}
        others = {training.folder: training for training in (*planned, *found) if training.folder not in own}
        return list(others.values())

    @property
    def folder(self) -> Path:
        """Folder of the files that ``missu crossval`` itself writes, apart from the folds' logs."""
        return nnunet_folder("nnUNet_results") / self.dataset / "crossval" / self.configuration

    @property
    def file(self) -> Path:
        """The record of the experiment."""
        return self.folder / "experiment.json"

    @property
    def _earlier_file(self) -> Path:
        """What the records held that others have replaced."""
        return self.folder / "earlier.json"

    def save(self) -> None:
        """Write the record, which ``missu crossval status`` reads; the one that it replaces is kept.

        Raises:
            InputError: if a record there cannot be read.
        """
        if self.file.exists() and (replaced := _read(self.file)) != self:
            earlier = [experiment for experiment in self._earlier() if experiment not in (self, replaced)]
            write_json([asdict(experiment) for experiment in (*earlier, replaced)], self._earlier_file)
        write_json(asdict(self), self.file)

    def ensure_splits(self) -> None:
        """Write the file that says which cases each fold has, where it is missing: no training must do it.

        Raises:
            InputError: if there are too few labelled cases to make folds.
        """
        ensure_splits(*self._preprocessed())

    def splits(self) -> Splits:
        """Return the cases of each fold, as ``ensure_splits`` would write them where their file is missing.

        Raises:
            InputError: as for ``ensure_splits``.
        """
        return find_splits(*self._preprocessed())

    def _preprocessed(self) -> tuple[Path, str]:
        """The dataset's folder in nnUNet_preprocessed, and the name of the folder in it that holds the cases."""
        folder = nnunet_folder("nnUNet_preprocessed") / self.dataset
        return folder, _check_plans(folder, self.arms[0].plans, self.configuration, self.gpus)

    def _earlier(self) -> list[Experiment]:
        """The experiments whose record others have replaced, oldest first."""
        if not self._earlier_file.exists():
            return []
        found = read_structure(self._earlier_file, list[Experiment], _REMEDY)
        return [experiment for experiment in found if experiment.file == self.file]


def read_experiments(dataset: str | None = None) -> list[Experiment]:
    """The latest experiment of each configuration of the dataset (a name or an ID), or of all datasets.

    Raises:
        InputError: if there is none, or a record cannot be read.
    """
    results = nnunet_folder("nnUNet_results")
    folders = sorted(results.glob("Dataset*")) if dataset is None else dataset_folders(results, dataset)
    files = sorted(file for folder in folders for file in folder.glob("crossval/*/experiment.json"))
    if not files:
        wanted = "any dataset" if dataset is None else dataset or "''"
        raise InputError(f"{results}: no experiment of {wanted} there; missu crossval starts one")
    return [_read(file) for file in files]


def _read(file: Path) -> Experiment:
    experiment = read_structure(file, Experiment, _REMEDY)
    if experiment.file != file:
        raise InputError(
            f"{file}: is not the record of an experiment of this folder, but of {experiment.dataset} "
            f"{experiment.configuration}; delete it and start again"
        )
    return experiment


def define_experiment(
    dataset: str,
    configuration: str,
    trainers: Sequence[str],
    plans: Sequence[str],
    folds: str,
    gpus: int,
    seeds: str | None = None,
) -> Experiment:
    """An experiment that nnU-Net can train.

    Args:
        dataset: name or ID.
        configuration: configuration of the plans.
        trainers: names for ``-tr``.
        plans: names for ``-p``; one for all trainers, or one for each. One trainer takes several plans, too.
        folds: ``0-4``, ``0,2``.
        gpus: GPUs of each training; 0 trains on the CPU.
        seeds: ``0-2``; None trains once, as it comes.

    Raises:
        InputError: if something is missing, or unknown to nnU-Net.
    """
    numbers = parse_numbers("folds", folds)
    seed_numbers = () if seeds is None else parse_numbers("seeds", seeds)
    for variable in VARIABLES:
        nnunet_folder(variable)
    name = _dataset_name(dataset)
    arms = _arms(trainers, plans)
    preprocessed = nnunet_folder("nnUNet_preprocessed") / name
    folders = [preprocessed / _check_plans(preprocessed, arm.plans, configuration, gpus) for arm in arms]
    for arm in arms:
        _check_trainer(arm.trainer)
    splits = find_splits(preprocessed, folders[0].name)
    count = len(splits)
    if max(numbers) >= count:
        there = f"has the folds 0-{count - 1} only" if count else "has no folds; delete it, and it is made anew"
        raise InputError(f"--folds {folds}: {preprocessed / SPLITS_FILE} {there}")
    for folder in dict.fromkeys(folders):
        check_preprocessed([splits[number] for number in numbers], folder)
    return Experiment(name, configuration, arms, numbers, gpus, seed_numbers)


def parse_numbers(what: Literal["folds", "seeds"], text: str) -> tuple[int, ...]:
    """The numbers of ``0-4``, ``0,2`` or ``0-2,4``, each once, in order.

    Args:
        what: what is numbered, as the option is called.
        text: its value.

    Raises:
        InputError: if the text is something else.
    """
    numbers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,3})(?:-([0-9]{1,3}))?\s*", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise InputError(
                f"--{what} {text}: expected numbers and ranges of {what} up to {MAX_NUMBER}, such as 0-4 or 0,2"
            )
        numbers.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(sorted(numbers))


def _dataset_name(dataset: str) -> str:
    preprocessed = nnunet_folder("nnUNet_preprocessed")
    found = [folder.name for folder in dataset_folders(preprocessed, dataset)]
    if len(found) != 1:
        raise InputError(
            f"{dataset}: found {', '.join(found) or 'none'} in {preprocessed}, expected one dataset; give its name, or "
            "run nnUNetv2_plan_and_preprocess first"
        )
    return found[0]


def _arms(trainers: Sequence[str], plans: Sequence[str]) -> tuple[Arm, ...]:
    count = max(len(trainers), len(plans))
    if {len(trainers), len(plans)} - {1, count}:
        raise InputError(
            f"--plans: {len(plans)} names for {len(trainers)} trainers; give one for all of them, or one for each"
        )
    pairs = zip(
        trainers if len(trainers) == count else [*trainers] * count,
        plans if len(plans) == count else [*plans] * count,
        strict=True,
    )
    arms = tuple(Arm(trainer, name) for trainer, name in pairs)
    if len(set(arms)) < len(arms):
        raise InputError(f"--trainers {','.join(trainers)}: the same trainer with the same plans twice; give it once")
    return arms


def _check_plans(preprocessed: Path, plans: str, configuration: str, gpus: int) -> str:
    """Make sure that plans can be trained; the name of the folder that holds their preprocessed cases."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from missu_nnunet.nnunet.names import check_names
    from missu_nnunet.nnunet.plans import find_configuration, malformed_plan_named

    file = preprocessed / f"{plans}.json"
    if "/" in plans or not file.exists():
        found = ", ".join(sorted(path.stem for path in preprocessed.glob("*Plans*.json"))) or "none"
        raise InputError(f"{file}: no such plans (found {found}); run nnUNetv2_plan_and_preprocess with their planner")
    content = read_json(file, "plan the dataset again")
    check_names(content, str(file))
    found_configuration = find_configuration(PlansManager(content), configuration, file)
    with malformed_plan_named(file):
        batch_size, data = found_configuration.batch_size, preprocessed / found_configuration.data_identifier
    if not data.is_dir():
        raise InputError(
            f"{data}: no such folder; run nnUNetv2_preprocess -plans_name {plans} -c {configuration} first"
        )
    if batch_size < gpus:
        raise InputError(
            f"--gpus-per-job {gpus}: the batch of {plans} {configuration} is {batch_size},"
            " and each GPU needs a sample; give fewer"
        )
    return data.name


def _check_trainer(trainer: str) -> None:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    try:
        # nnU-Net tells where it searches, and imports all that it finds on its way.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = recursive_find_trainer_class_by_name(trainer)
    except (RuntimeError, AssertionError, TypeError):
        # A TypeError is nnU-Net's where the name, such as "os", is that of something that a module has imported.
        found = None
    if not (isinstance(found, type) and issubclass(found, nnUNetTrainer)):
        raise InputError(
            f"--trainers {trainer}: nnU-Net finds no such trainer; look for a typing error, run 'missu doctor' if it "
            "is one of MISSU's, or set nnUNet_extTrainer to the folder that holds it"
        )
