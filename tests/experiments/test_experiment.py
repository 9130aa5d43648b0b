"""Which experiments can be trained, and the errors of the others."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from missu_nnunet.errors import InputError
from missu_nnunet.experiments.accumulation import accumulations
from missu_nnunet.experiments.experiment import Arm, Experiment, define_experiment, parse_numbers, read_experiments

PLANS = "nnUNetMISSUPlansCPU"
OTHER = "nnUNetOther"


@pytest.mark.parametrize(
    ("text", "numbers"), [("0-4", (0, 1, 2, 3, 4)), ("3", (3,)), ("2,0", (0, 2)), ("0-2, 1,4", (0, 1, 2, 4))]
)
def test_folds(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_numbers("folds", text) == numbers


@pytest.mark.parametrize("text", ["", "all", "4-0", "-1", "0,,1", "1000"])
@pytest.mark.parametrize("what", ["folds", "seeds"])
def test_bad_numbers_are_refused(what: Literal["folds", "seeds"], text: str) -> None:
    with pytest.raises(InputError, match=f"--{what} {text}: expected numbers and ranges of {what} up to 999"):
        parse_numbers(what, text)


@pytest.mark.parametrize(
    ("trainers", "plans", "arms"),
    [
        (["MISSUTrainer", "nnUNetTrainer"], [PLANS], [("MISSUTrainer", PLANS), ("nnUNetTrainer", PLANS)]),
        (["MISSUTrainer"], [PLANS, OTHER], [("MISSUTrainer", PLANS), ("MISSUTrainer", OTHER)]),
        (["nnUNetTrainer", "MISSUTrainer"], [OTHER, PLANS], [("nnUNetTrainer", OTHER), ("MISSUTrainer", PLANS)]),
    ],
)  # fmt: skip
def test_arms(planned: str, trainers: list[str], plans: list[str], arms: list[tuple[str, str]]) -> None:
    folder = Path(os.environ["nnUNet_preprocessed"]) / planned
    (folder / f"{OTHER}.json").write_text((folder / f"{PLANS}.json").read_text())
    experiment = define_experiment("903", "3d_fullres", trainers, plans, "0-1", gpus=0)
    assert experiment.dataset == planned
    assert experiment.arms == tuple(Arm(*arm) for arm in arms)
    order = [(training.fold, training.trainer, training.plans) for training in experiment.trainings()]
    assert order == [(fold, *arm) for fold in (0, 1) for arm in arms]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "998"}, "998: found none in .*nnUNet_preprocessed, expected one dataset"),
        ({"dataset": "Dataset998_None"}, "Dataset998_None: found none in .*run nnUNetv2_plan_and_preprocess"),
        ({"configuration": "2d"}, "2d"),
        ({"trainers": ["MISSUTrainerX"]}, "MISSUTrainerX: nnU-Net finds no such trainer"),
        ({"trainers": ["MISSUTrainer"] * 2}, "twice"),
        ({"plans": ["nnUNetPlansX"]}, rf"nnUNetPlansX.json: no such plans \(found .*{PLANS}"),
        ({"plans": [PLANS] * 3, "trainers": ["MISSUTrainer", "nnUNetTrainer"]}, "3 names for 2 trainers"),
        ({"folds": "0-5"}, r"has the folds 0-4 only"),
        ({"gpus": 3}, "the batch of nnUNetMISSUPlansCPU 3d_fullres is 2"),
    ],
)
def test_what_cannot_be_trained_is_refused(planned: str, change: dict, message: str) -> None:
    good = {"dataset": planned, "configuration": "3d_fullres", "trainers": ["MISSUTrainer"], "plans": [PLANS]}
    with pytest.raises(InputError, match=message):
        define_experiment(**(good | {"folds": "0-4", "gpus": 0} | change))


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """Two arms with two seeds, of which nothing is trained."""
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    arms = (Arm("MISSUTrainer", "nnUNetPlans"), Arm("nnUNetTrainer", "nnUNetPlans"))
    return Experiment("Dataset999_None", "3d_fullres", arms, (0, 1), gpus=0, seeds=(0, 7))


def test_seeds_are_trained_one_after_the_other_in_folders_of_their_own(experiment: Experiment, tmp_path: Path) -> None:
    trainings = experiment.trainings()
    assert [(training.seed, training.fold) for training in trainings[::2]] == [(0, 0), (0, 1), (7, 0), (7, 1)]
    model = "MISSUTrainer__nnUNetPlans__3d_fullres"
    assert trainings[4].name == "MISSUTrainer nnUNetPlans seed 7 fold 0"
    assert trainings[4].folder == tmp_path / "seed_7" / "Dataset999_None" / model / "fold_0"
    assert len({training.folder for training in trainings}) == len({training.name for training in trainings}) == 8
    names = [accumulation.name for accumulation in accumulations(experiment)]
    assert names == [f"{arm.trainer} {arm.plans} seed {seed}" for seed in (0, 7) for arm in experiment.arms]


def test_what_earlier_experiments_planned_stays_known(experiment: Experiment, tmp_path: Path) -> None:
    first = replace(experiment, arms=experiment.arms[:1], seeds=())
    second = replace(experiment, arms=experiment.arms[1:], seeds=())
    for saved in (first, second, first, second, experiment):
        saved.save()
    (tmp_path / "seed_03" / "Dataset999_None").mkdir(parents=True)  # no seed's
    strangers = experiment.trainings()[0].folder.parents[2] / "Dataset999_None" / "Other__nnUNetPlans__3d_fullres"
    (strangers / "fold_4").mkdir(parents=True)
    others = [(training.trainer, training.seed, training.fold) for training in experiment.other_trainings()]
    # The latest of the earlier ones stands last.
    assert others == [
        *(("MISSUTrainer", None, fold) for fold in (0, 1)),
        *(("nnUNetTrainer", None, fold) for fold in (0, 1)),
        ("Other", 0, 4),
    ]
    assert first.other_trainings()[:2] == second.trainings()


def test_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_results", raising=False)
    with pytest.raises(InputError, match="nnUNet_results is not set"):
        read_experiments()


def test_split_is_the_one_that_nnunet_makes(planned: str, tmp_path: Path) -> None:
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    folder = Path(os.environ["nnUNet_preprocessed"]) / planned
    splits = folder / "splits_final.json"
    splits.unlink(missing_ok=True)
    experiment = define_experiment(planned, "3d_fullres", ["nnUNetTrainer"], [PLANS], "0", gpus=0)
    assert not splits.exists()
    experiment.ensure_splits()
    ours = json.loads(splits.read_text())
    splits.unlink()
    plans = json.loads((folder / f"{PLANS}.json").read_text()) | {"continue_training": False}
    dataset = json.loads((folder / "dataset.json").read_text())
    nnUNetTrainer(plans, "3d_fullres", 0, dataset, torch.device("cpu")).do_split()
    assert json.loads(splits.read_text()) == ours


def test_cases_of_a_fold_that_are_not_preprocessed_are_named(planned: str) -> None:
    splits = Path(os.environ["nnUNet_preprocessed"]) / planned / "splits_final.json"
    folds = [{"train": ["case_000"], "val": ["case_001"]}, {"train": ["case_000", "new"], "val": ["case_001"]}]
    splits.write_text(json.dumps(folds))
    try:
        define_experiment(planned, "3d_fullres", ["nnUNetTrainer"], [PLANS], "0", gpus=0)
        with pytest.raises(InputError, match=r"splits_final.json: found new, .* preprocess the dataset again"):
            define_experiment(planned, "3d_fullres", ["nnUNetTrainer"], [PLANS], "0,1", gpus=0)
    finally:
        splits.unlink()


def test_record_is_read_back(planned: str) -> None:
    experiment = define_experiment(planned, "3d_fullres", ["nnUNetTrainer"], [PLANS], "0,3", gpus=0, seeds="1-2")
    experiment.save()
    try:
        assert read_experiments("903") == [experiment]
        experiment.file.write_text("{")
        with pytest.raises(InputError, match="is not the record of an experiment"):
            read_experiments(planned)
    finally:
        experiment.file.unlink()
    with pytest.raises(InputError, match="no experiment"):
        read_experiments(planned)
