"""``missu crossval``, killed at any moment and run again; with real trainings, as everything in this folder."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from commands import SCRIPTS, run

from missu_nnunet.experiments.accumulation import accumulate
from missu_nnunet.experiments.experiment import Arm, Experiment
from missu_nnunet.experiments.launchers.local import run_locally
from missu_nnunet.nnunet.checkpoint import read_checkpoint

TRAINER = "MISSUTrainer_2epochs_2iters"
PLANS = "nnUNetMISSUPlansCPU"
FOLDS = (0, 1)
MARK = "MISSU_TEST_MARK"


def crossval(*arguments: str, **variables: str) -> subprocess.Popen[str]:
    """``missu crossval`` on the CPU, in a process group of its own."""
    command = [SCRIPTS / "missu", "crossval", "903", "3d_fullres", "--gpus-per-job", "0", "--plans", PLANS, *arguments]
    return subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=os.environ | variables,
    )


def processes_with(mark: str) -> list[int]:
    """All that inherited the environment variable: crossval, trainings, and what those have started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}\0".encode() in (folder / "environ").read_bytes():  # a zombie's is empty
                found.append(int(folder.name))
        except OSError:  # ended meanwhile, or another user's
            continue
    return found


def kill_crossval(process: subprocess.Popen[str], mark: str) -> None:
    process.kill()


def kill_its_process_group(process: subprocess.Popen[str], mark: str) -> None:
    os.killpg(process.pid, signal.SIGKILL)


def kill_everything(process: subprocess.Popen[str], mark: str) -> None:
    for number in processes_with(mark):
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue


@pytest.fixture(scope="module")
def model(planned: str) -> Path:
    return Path(os.environ["nnUNet_results"]) / planned / f"{TRAINER}__{PLANS}__3d_fullres"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes in /proc")
def test_a_killed_crossval_completes_without_repeating_finished_work(model: Path) -> None:
    rng = random.Random(20)
    finished: dict[Path, int] = {}
    # The first one most likely in the timed iterations, the others in the trainings
    kills = {kill_crossval: "--estimate", kill_its_process_group: "--no-estimate", kill_everything: "--no-estimate"}
    for kill, estimate in kills.items():
        mark = str(uuid.uuid4())
        process = crossval("--trainers", TRAINER, "--folds", "0,1", estimate, **{MARK: mark})
        with pytest.raises(subprocess.TimeoutExpired):
            # Anywhere between the first imports and the second fold
            process.wait(timeout=rng.uniform(5, 18))
        kill(process, mark)
        process.wait()
        deadline = time.monotonic() + 10
        while left := processes_with(mark):
            assert time.monotonic() < deadline, f"{kill.__name__}: left running: {left}"
            time.sleep(0.1)
        for file, written in finished.items():
            assert file.stat().st_mtime_ns == written, f"{file} was written again"
        summaries = model.glob("fold_*/validation/summary.json")
        finals = [file.parent.parent / "checkpoint_final.pth" for file in summaries]
        finished |= {file: file.stat().st_mtime_ns for file in finals if file.exists()}

    process = crossval("--trainers", TRAINER, "--folds", "0,1", "--no-estimate")
    output, _ = process.communicate()
    assert process.returncode == 0, output
    for fold in FOLDS:
        assert (model / f"fold_{fold}" / "checkpoint_final.pth").exists()
        assert (model / f"fold_{fold}" / "validation" / "summary.json").exists()
    for file, written in finished.items():
        assert file.stat().st_mtime_ns == written, f"{file} was written again"
    assert (model / "crossval_results_folds_0_1" / "summary.json").exists()


def test_nothing_is_done_twice(planned: str, model: Path) -> None:
    """Runs after the test above."""
    experiment = Experiment(planned, "3d_fullres", (Arm(TRAINER, PLANS),), FOLDS, gpus=0)
    events = [*run_locally(experiment.trainings(), [()]), *accumulate(experiment)]
    assert [(event.kind, event.text.split(",")[0]) for event in events] == [
        ("skipped", "finished earlier"),
        ("skipped", "finished earlier"),
        ("skipped", "accumulated earlier"),
    ]


def test_seeds_are_trained_apart_and_compared(planned: str, tmp_path: Path) -> None:
    results = Path(os.environ["nnUNet_results"])
    arguments = ("--trainers", TRAINER, "--folds", "0", "--seeds", "0,5", "--no-estimate")
    process = crossval(*arguments)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    models = [results / f"seed_{seed}" / planned / f"{TRAINER}__{PLANS}__3d_fullres" for seed in (0, 5)]
    checkpoints = [read_checkpoint(model / "fold_0" / "checkpoint_final.pth", str(model)) for model in models]
    losses = [checkpoint["logging"]["train_losses"] for checkpoint in checkpoints]
    assert losses[0] != losses[1]
    assert all((model / "crossval_results_folds_0" / "summary.json").exists() for model in models)
    assert f"nnUNet_results={results}/seed_5 MISSU_SEED=5 nnUNetv2_train {planned}" in output

    process = crossval(*arguments)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert output.count("finished earlier") == output.count("accumulated earlier") == 2
    status = json.loads(run("missu", "crossval", "status", "--json"))
    assert [(found["seed"], found["state"]) for found in status[:2]] == [(0, "finished"), (5, "finished")]

    other = shutil.copytree(models[0], tmp_path / "Other__Plans__3d_fullres")
    comparison = json.loads(run("missu", "compare", *models, other, "--json"))
    for line in comparison["comparisons"]:
        assert (line["first"], line["seeds_first"], line["seeds_second"]) == (TRAINER, 2, 1)
    assert list(comparison["seeds"][TRAINER]) == ["0", "5"]


def test_a_failing_training_does_not_stop_the_others(model: Path, tmp_path: Path) -> None:
    """Runs after the tests above, and has a validation to repeat."""
    (tmp_path / "failing.py").write_text(
        "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n"
        "class FailingTrainer(nnUNetTrainer):\n"
        "    def on_train_start(self):\n"
        "        raise RuntimeError('as the test wants')\n"
    )
    (model / "fold_1" / "validation" / "summary.json").unlink()
    checkpoint = (model / "fold_1" / "checkpoint_final.pth").stat().st_mtime_ns
    trainers = ("--trainers", f"FailingTrainer,{TRAINER}", "--folds", "1", "--no-estimate")
    process = crossval(*trainers, nnUNet_extTrainer=str(tmp_path))
    output, _ = process.communicate()
    assert process.returncode == 1, output
    failed = model.with_name(f"FailingTrainer__{PLANS}__3d_fullres") / "fold_1"
    assert f"see {failed / 'crossval.log'}" in output
    assert "RuntimeError: as the test wants" in (failed / "crossval.log").read_text()
    assert f"FailingTrainer {PLANS}: no cross-validation yet, unfinished folds: 1" in output
    assert f"-tr {TRAINER} -p {PLANS} -device cpu --val" in output
    assert (model / "fold_1" / "checkpoint_final.pth").stat().st_mtime_ns == checkpoint
    assert (model / "crossval_results_folds_1" / "summary.json").exists()
    status = subprocess.run([SCRIPTS / "missu", "crossval", "status"], capture_output=True, text=True, check=True)
    assert "failed" in status.stdout
    assert "finished" in status.stdout
