"""``missu crossval --launcher slurm`` on a real SLURM, and its jobs in submitit's local executor."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import submitit
from commands import run
from slurm import NoSlurmError, single_node_slurm

from missu_nnunet.experiments.fold_training import FoldTraining
from missu_nnunet.experiments.launchers.slurm import TrainingJob

TRAINER = "MISSUTrainer_4epochs_4iters"  # not that of the other tests: its folds must be untrained
PLANS = "nnUNetMISSUPlansCPU"


@pytest.fixture
def slurm(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    try:
        with single_node_slurm(tmp_path_factory.mktemp("slurm") / "node") as conf:
            monkeypatch.setenv("SLURM_CONF", str(conf))
            yield
    except NoSlurmError as error:
        pytest.skip(f"no SLURM: {error}")


def wait_for(condition: Callable[[], object], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


def commands_of(log: Path) -> list[str]:
    return [line.split(" $ ")[1] for line in log.read_text().splitlines() if " $ nnUNetv2" in line]


@pytest.mark.usefixtures("slurm")
def test_array_is_requeued_and_accumulated(planned: str) -> None:
    crossval = (
        *("crossval", planned, "3d_fullres", "--launcher", "slurm", "--gpus-per-job", 0, "--trainers", TRAINER),
        *("--plans", PLANS, "--folds", "0,1", "--no-estimate", "--hours", 1, "--sbatch", "cpus-per-task=1"),
    )
    model = Path(os.environ["nnUNet_results"]) / planned / f"{TRAINER}__{PLANS}__3d_fullres"
    jobs = model.parent / "crossval" / "3d_fullres" / "jobs"
    trainings = [FoldTraining(planned, "3d_fullres", TRAINER, PLANS, fold, gpus=0) for fold in (0, 1)]

    def logs() -> str:
        return "\n".join(file.read_text() for file in [*jobs.glob("*.out"), *model.glob("fold_*/crossval.log")])

    output = run("missu", *crossval)
    assert f"{trainings[0].name}: job " in output
    array = output.split(f"{trainings[0].name}: job ")[1].split("_")[0]
    assert f"job {array}_1" in output
    again = run("missu", *crossval)
    assert f"is job {array}_0" in again  # not submitted twice

    wait_for((model / "fold_0" / "checkpoint_best.pth").exists, logs)
    assert "running" in run("missu", "crossval", "status", "903")
    # What SLURM sends before a time limit, and before it takes the node away
    subprocess.run(["scancel", "--signal=USR2", f"{array}_0"], check=True)

    summary = model / "crossval_results_folds_0_1" / "summary.json"
    wait_for(summary.exists, logs)
    first, second = commands_of(trainings[0].log)
    assert not first.endswith("--c")
    assert second == f"{first} --c"
    assert len(commands_of(trainings[1].log)) == 1
    assert f"job {array}_0: {first}" in output
    assert first in (jobs / f"{array}_0_0_log.out").read_text()
    assert run("missu", *crossval).count("finished earlier") == 2


def test_job_continues_when_submitit_requeues_it(planned: str, tmp_path: Path) -> None:
    training = FoldTraining(planned, "3d_fullres", TRAINER, PLANS, 2, gpus=0)
    executor = submitit.AutoExecutor(tmp_path, cluster="local")
    executor.update_parameters(timeout_min=10)
    job = executor.submit(TrainingJob(training))
    wait_for((training.folder / "checkpoint_best.pth").exists, lambda: f"{job.stdout()}\n{job.stderr()}")
    (task,) = Path(f"/proc/{job.job_id}/task/{job.job_id}/children").read_text().split()
    os.kill(int(task), submitit.JobEnvironment._usr_sig())
    assert job.result().startswith("finished in ")
    first, second = commands_of(training.log)
    assert second == f"{first} --c"
