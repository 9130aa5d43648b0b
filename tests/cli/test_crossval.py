"""``missu crossval`` without trainings, which ``tests/integration`` has."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import SCRIPTS, Missu

from missu_nnunet.experiments.experiment import Arm, Experiment
from missu_nnunet.nnunet import command
from missu_nnunet.nnunet.command import locked_log

PLANS = "nnUNetMISSUPlansCPU"
TRAINER = "MISSUTrainer_2epochs_7iters"


def crossval(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, SCRIPTS / "missu", "crossval", *arguments]
    return subprocess.run(line, env=os.environ | variables, capture_output=True, text=True)


def test_dry_run_estimates_and_names_the_commands_and_leaves_nothing_but_a_log(planned: str) -> None:
    splits = Path(os.environ["nnUNet_preprocessed"]) / planned / "splits_final.json"
    splits.unlink(missing_ok=True)
    results = Path(os.environ["nnUNet_results"]) / planned
    shutil.rmtree(results / "crossval", ignore_errors=True)  # of other tests
    before = {*results.rglob("*")}
    arguments = ("903", "3d_fullres", "--trainers", TRAINER, "--plans", PLANS, "--folds", "3,4", "--gpus-per-job", "0")
    tracking = {"MISSU_MLFLOW": "1", "MLFLOW_TRACKING_URI": f"sqlite:///{results}/mlflow.db"}
    result = crossval(*arguments, "--dry-run", **tracking)
    assert result.returncode == 0, result.stderr
    assert "2 epochs of 7" in result.stdout
    assert "2 trainings left, about" in result.stdout
    assert "are free" in result.stdout
    for fold in (3, 4):
        line = shlex.join(["nnUNetv2_train", planned, "3d_fullres", str(fold), "-tr", TRAINER, "-p", PLANS])
        assert f"{TRAINER} {PLANS} fold {fold}: {line} -device cpu\n" in result.stdout
    assert not splits.exists()
    assert [file.name for file in {*results.rglob("*")} - before if file.is_file()] == ["timing.log"]


def test_a_dry_run_without_estimate_writes_nothing(missu: Missu, planned: str) -> None:
    splits = Path(os.environ["nnUNet_preprocessed"]) / planned / "splits_final.json"
    splits.unlink(missing_ok=True)
    results = Path(os.environ["nnUNet_results"]) / planned
    shutil.rmtree(results / "crossval", ignore_errors=True)  # of other tests
    before = {*results.rglob("*")}
    arguments = ("903", "3d_fullres", "--trainers", TRAINER, "--plans", PLANS, "--gpus-per-job", "0", "--dry-run")
    result = missu("crossval", *arguments, "--no-estimate")
    assert result.returncode == 0, result.stderr
    assert f"{TRAINER} {PLANS} fold 4: nnUNetv2_train" in result.stdout
    assert not splits.exists()
    assert {*results.rglob("*")} == before


def test_a_second_estimate_at_the_same_time_is_one_line(
    missu: Missu, planned: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_PATIENCE", 0.1)
    arguments = ("903", "3d_fullres", "--trainers", TRAINER, "--plans", PLANS, "--gpus-per-job", "0", "--dry-run")
    folder = Path(os.environ["nnUNet_results"]) / planned / "crossval"
    with locked_log(folder / "3d_fullres" / "timing.log"):
        result = missu("crossval", *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("missu: ")
    assert result.stderr.count("\n") == 1
    assert "timing.log: another process is writing there; wait until it has ended" in result.stderr
    shutil.rmtree(folder)


def test_help_of_both_commands_loads_no_heavy_library() -> None:
    code = """
import atexit, sys
from missu_nnunet.cli.main import main
atexit.register(lambda: print('loaded', sorted({'torch', 'nnunetv2', 'numpy', 'submitit'} & set(sys.modules))))
sys.argv[1:] = ['crossval', *sys.argv[1:], '--help']
main()
"""
    for arguments, expected in ((), "--launcher"), (("4", "3d_fullres"), "--launcher"), (("status",), "DATASET"):
        line = [sys.executable, "-c", code, *arguments]
        output = subprocess.run(line, capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"}).stdout
        assert expected.lower() in output.lower()
        assert output.rstrip().endswith("loaded []")


def test_status_shows_earlier_arms_too(missu: Missu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    arms = (Arm("MISSUTrainer", "[b]Plans"),)
    Experiment("Dataset004_[red]x", "3d_fullres", arms, folds=(0, 1), gpus=0).save()
    for folder in (
        "nnUNetTrainer__nnUNetPlans__3d_fullres/fold_3",  # an earlier one's
        "nnUNetTrainer__nnUNetPlans__2d/fold_3",
        "MISSUTrainer__[b]Plans__3d_fullres/fold_1",
        "MISSUTrainer__[b]Plans__3d_fullres/fold_all",
    ):
        (tmp_path / "Dataset004_[red]x" / folder).mkdir(parents=True)
    done = missu("crossval", "status", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [(training["trainer"], training["fold"], training["state"]) for training in found] == [
        ("MISSUTrainer", 0, "not started"),
        ("MISSUTrainer", 1, "interrupted"),
        ("nnUNetTrainer", 3, "interrupted"),
    ]
    shown = missu("crossval", "status").stdout.splitlines()
    assert shown[0] == "Dataset004_[red]x 3d_fullres"
    assert shown[1].split() == ["trainer", "plans", "fold", "state"]
    assert shown[-2].split() == ["nnUNetTrainer", "nnUNetPlans", "3", "interrupted"]


def test_status_has_a_column_of_seeds_where_there_are_seeds(
    missu: Missu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    arms = (Arm("nnUNetTrainer", "nnUNetPlans"),)
    Experiment("Dataset004_x", "2d", arms, folds=(0,), gpus=0).save()
    Experiment("Dataset004_x", "2d", arms, folds=(3,), gpus=0, seeds=(0, 1)).save()
    (tmp_path / "seed_1" / "Dataset004_x" / "nnUNetTrainer__nnUNetPlans__2d" / "fold_3").mkdir(parents=True)
    found = json.loads(missu("crossval", "status", "--json").stdout)
    assert [(training["seed"], training["fold"], training["state"]) for training in found] == [
        (0, 3, "not started"),
        (1, 3, "interrupted"),
        (None, 0, "not started"),  # of the earlier experiment, which never began
    ]
    rows = [line.split() for line in missu("crossval", "status").stdout.splitlines()]
    assert rows[1] == ["trainer", "plans", "seed", "fold", "state"]
    assert rows[4] == ["nnUNetTrainer", "nnUNetPlans", "1", "3", "interrupted"]
    assert rows[5] == ["nnUNetTrainer", "nnUNetPlans", "0", "not", "started"]


def test_machine_without_slurm_says_so() -> None:
    result = crossval("903", "3d_fullres", "--launcher", "slurm", PATH=str(SCRIPTS))
    assert result.returncode == 2
    assert result.stderr.startswith("missu: --launcher slurm: there is no SLURM here")
    assert result.stderr.count("\n") == 1


def test_missing_submitit_is_named(tmp_path: Path) -> None:
    (tmp_path / "submitit.py").write_text("raise ModuleNotFoundError(name='submitit')")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    result = crossval("903", "3d_fullres", "--launcher", "slurm", PYTHONPATH=path)
    assert result.returncode == 2
    assert result.stderr == "missu: submitit is not installed: pip install 'missu-nnunet[cluster]'\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["903", "3d_fullres", "--trainers", ",", "--gpus-per-job", "0"], "expected names"),
        (["903", "3d_fullres", "--gpus-per-job", "99"], "--gpus-per-job 99: "),
        (["903", "3d_fullres", "--gpus-per-job", "0", "--seeds", "2-0"], "--seeds 2-0: expected numbers and ranges of"),
        (["903", "3d_fullres", "--gpus-per-job", "0", "--seeds", ""], "--seeds : expected numbers and ranges of seeds"),
        (["status", "Dataset998_None"], "no experiment of Dataset998_None there"),
    ],
)
def test_bad_input_is_one_line(nnunet_folders: Path, arguments: list[str], message: str) -> None:
    result = crossval(*arguments)
    assert result.returncode == 2
    assert message in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
