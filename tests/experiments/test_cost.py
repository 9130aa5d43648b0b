"""The estimate from timed iterations; ``tests/cli/test_crossval.py`` tests the timing itself."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from missu_nnunet.errors import InputError
from missu_nnunet.experiments.cost import arm_cost, check_disk, check_memory, total
from missu_nnunet.experiments.experiment import Arm, Experiment
from missu_nnunet.experiments.timing import Timing
from missu_nnunet.machine import total_memory

TIMING = Timing(
    start_seconds=5,
    step_seconds=0.5,
    batch_seconds=0.1,
    workers=2,
    validation_seconds=0.25,
    case_seconds=3,
    iterations=10,
    validation_iterations=2,
    epochs=100,
    checkpoint_bytes=10**6,
    memory_bytes=3 * 10**9,
)
SPLITS = [{"train": [], "val": ["a"] * 4}, {"train": [], "val": ["a"] * 6}]
SECONDS = st.floats(1e-3, 100)


@given(step=SECONDS, batch=SECONDS)
def test_loaders_work_beside_the_step_or_in_between(step: float, batch: float) -> None:
    beside = replace(TIMING, step_seconds=step, batch_seconds=batch)
    assert beside.iteration_seconds == max(step, batch)
    assert (beside.waiting > 0) == (batch > step)
    between = replace(beside, workers=0)
    assert between.iteration_seconds == pytest.approx(step + batch)
    assert between.waiting == pytest.approx(batch / (step + batch))


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """Two folds, 4 and 6 cases, of which the first one is at its 25th epoch."""
    for name in ("nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path / name))
    experiment = Experiment("Dataset999_None", "3d_fullres", (Arm("MISSUTrainer", "nnUNetPlans"),), (0, 1), gpus=0)
    preprocessed = tmp_path / "nnUNet_preprocessed" / "Dataset999_None"
    (preprocessed / "gt_segmentations").mkdir(parents=True)
    for case in range(10):
        (preprocessed / "gt_segmentations" / f"{case}.nii.gz").write_bytes(bytes(1000))
    fold = experiment.trainings()[0].folder
    fold.mkdir(parents=True)
    (fold / "training_log_2026_1_1_00_00_00.txt").write_text("x: Epoch 24\nx: Epoch time: 5.0 s\n")
    torch.save({}, fold / "checkpoint_latest.pth")
    return experiment


def test_cost_of_what_is_left(experiment: Experiment) -> None:
    cost = arm_cost(experiment, experiment.arms[0], TIMING, SPLITS)
    epoch = 10 * 0.5 + 2 * 0.25
    assert cost.left_seconds == (10 + 75 * epoch + 4 * 3, 10 + 100 * epoch + 6 * 3)
    assert cost.fold_seconds == 10 + 100 * epoch + 5 * 3
    # Two checkpoints for each fold, each segmentation in the fold and among the accumulated
    assert cost.disk_bytes == 2 * 2 * 10**6 + 10 * 2 * 1000
    assert total(experiment, [cost], 2).startswith("2 trainings left, about 10 min with 2 at once; ")
    assert total(experiment, [cost], 1).startswith("2 trainings left, about 17 min with 1 at once; ")


@pytest.mark.parametrize("anew", ["--no-resume", "no checkpoint"])
def test_a_training_that_begins_anew_costs_all_its_epochs(anew: str, experiment: Experiment) -> None:
    if anew == "no checkpoint":
        (experiment.trainings()[0].folder / "checkpoint_latest.pth").unlink()
    cost = arm_cost(experiment, experiment.arms[0], TIMING, SPLITS, resume=anew != "--no-resume")
    assert cost.left_seconds[0] == 10 + 100 * (10 * 0.5 + 2 * 0.25) + 4 * 3


def test_finished_folds_cost_nothing(experiment: Experiment) -> None:
    for training in experiment.trainings():
        (training.folder / "validation").mkdir(parents=True)
        torch.save({}, training.folder / "checkpoint_final.pth")
        (training.folder / "validation" / "summary.json").write_text('{"foreground_mean": {"Dice": 1}}')
    cost = arm_cost(experiment, experiment.arms[0], TIMING, SPLITS)
    assert cost.left_seconds == ()
    assert total(experiment, [cost], 1) == "nothing left to train"


def test_what_does_not_fit_on_the_disk_is_refused(experiment: Experiment) -> None:
    check_disk(experiment, [arm_cost(experiment, experiment.arms[0], TIMING, SPLITS)])
    huge = arm_cost(experiment, experiment.arms[0], replace(TIMING, checkpoint_bytes=10**18), SPLITS)
    with pytest.raises(InputError, match=r"are free, the results need 4000000000\.0 GB more; make room there"):
        check_disk(experiment, [huge])


def test_what_does_not_fit_into_memory_together_is_refused(experiment: Experiment) -> None:
    costs = [arm_cost(experiment, experiment.arms[0], TIMING, SPLITS)]
    assert costs[0].lines()[0].endswith(" per fold, 3.0 GB of memory")
    huge = [arm_cost(experiment, experiment.arms[0], replace(TIMING, memory_bytes=int(0.7 * total_memory())), SPLITS)]
    check_memory(huge, parallel=1)
    with pytest.raises(InputError, match=r"2 trainings at once need .* GB of memory, this machine has .*--no-estimate"):
        check_memory(huge, parallel=8)


def test_waiting_for_data_is_reported(experiment: Experiment) -> None:
    fast = arm_cost(experiment, experiment.arms[0], TIMING, SPLITS)
    assert len(fast.lines()) == 1
    slow = arm_cost(experiment, experiment.arms[0], replace(TIMING, batch_seconds=1.0), SPLITS)
    assert "data-loader-bound, waits 50% of its time" in slow.lines()[1]
    assert "from 2 loader processes" in slow.lines()[1]
