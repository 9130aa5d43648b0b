"""An experiment's trainings as a job array of SLURM, through submitit."""

from __future__ import annotations

import logging
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping
from typing import TypeVar

import submitit
from submitit.core.utils import FailedJobError
from submitit.helpers import DelayedSubmission

from missu_nnunet.errors import InputError
from missu_nnunet.experiments.accumulation import Accumulation, accumulate
from missu_nnunet.experiments.events import Event
from missu_nnunet.experiments.experiment import Experiment
from missu_nnunet.experiments.fold_training import FoldTraining, outcome
from missu_nnunet.experiments.slurm_queue import active_jobs, read_jobs, write_jobs

Result = TypeVar("Result")

_MAX_TIME_LIMITS = 100
"""A job that reaches its time limit so often makes no progress between its checkpoints."""

_ACCUMULATION = "accumulation"


class TrainingJob:
    """What a job does. At its time limit or when it is preempted, submitit requeues it, and it continues."""

    def __init__(self, training: FoldTraining) -> None:
        self.training = training

    def __call__(self) -> str:
        """Do what is left of the training; what became of it.

        Raises:
            RuntimeError: it failed, or another process trains the fold.
        """
        command = self.training.start()
        if command is None:
            return "finished earlier"
        print(command.line, flush=True)
        event = outcome(self.training, command.wait(), command.seconds)
        if event.kind == "failed":
            raise RuntimeError(event.text)
        print(event.text, flush=True)
        return event.text

    def checkpoint(self) -> DelayedSubmission:
        """What submitit requeues."""
        return DelayedSubmission(self)


def accumulation_job(experiment: Experiment) -> None:
    """Accumulate the arms that are finished.

    Raises:
        RuntimeError: not all arms are.
    """
    failed = []
    for event in accumulate(experiment):
        print(f"{event.name}: {event.text}", flush=True)
        if event.kind == "failed":
            failed.append(event.name)
    if failed:
        raise RuntimeError(f"not accumulated: {', '.join(failed)}")


def require_slurm() -> None:
    """Make sure that jobs can be submitted.

    Raises:
        InputError: there is no SLURM here.
    """
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise InputError(
            "--launcher slurm: there is no SLURM here (sbatch and srun are not on the PATH); run it on the cluster's "
            "login node, or with --launcher local"
        )


def slurm_executor(experiment: Experiment, hours: float, sbatch: Mapping[str, str]) -> submitit.AutoExecutor:
    """What submits to SLURM.

    Args:
        experiment: whose jobs; they use its number of GPUs.
        hours: time limit of a job.
        sbatch: further options of ``sbatch`` by their long names, such as ``{"partition": "gpu"}``.
    """
    logging.getLogger("submitit").setLevel(logging.ERROR)  # of clusters without accounting it warns all the time
    executor = submitit.AutoExecutor(
        experiment.folder / "jobs", cluster="slurm", slurm_max_num_timeout=_MAX_TIME_LIMITS
    )
    executor.update_parameters(
        name=f"missu-{experiment.dataset}",
        timeout_min=max(1, round(60 * hours)),
        gpus_per_node=experiment.gpus or None,
        stderr_to_stdout=True,
        slurm_additional_parameters={"requeue": True, **sbatch},
    )
    return executor


def wait_for(job: submitit.Job[Result]) -> Result:
    """What a job returns.

    Raises:
        InputError: it failed, or was cancelled.
    """
    while job.job_id in active_jobs():  # submitit itself would ask for accounting, which not every cluster has
        time.sleep(2)
    deadline = time.monotonic() + 30  # shared file systems take their time
    while not job.paths.result_pickle.exists() and time.monotonic() < deadline:
        time.sleep(0.5)
    if job.paths.result_pickle.exists():
        try:
            return job.result()
        except FailedJobError:
            pass
    raise InputError(f"job {job.job_id} ended without a result, see {job.paths.stdout}")


def submit(experiment: Experiment, executor: submitit.Executor, resume: bool = True) -> Iterator[Event]:
    """Submit what is left of the experiment: an array of trainings, and a job after them that accumulates.

    Args:
        experiment: its record is where the jobs' IDs are kept.
        executor: that of :func:`slurm_executor`.
        resume: whether broken trainings go on from their checkpoint.
    """
    jobs = read_jobs(experiment)
    active = active_jobs()
    trainings = []
    for training in experiment.trainings():
        if training.is_finished():
            yield Event(training.name, "skipped", "finished earlier")
        elif (job_id := jobs.get(training.name, "")) in active:
            yield Event(training.name, "skipped", f"is job {job_id}, {active[job_id].lower()}")
        elif training.is_running():
            yield Event(training.name, "skipped", f"left alone, another process is at it, see {training.log}")
        else:
            trainings.append(training)
    if trainings:
        if not resume:
            for training in trainings:
                training.results.delete_checkpoints()
        with executor.batch():
            submitted = [executor.submit(TrainingJob(training)) for training in trainings]
        for training, job in zip(trainings, submitted, strict=True):
            jobs[training.name] = job.job_id
            yield Event(training.name, "started", f"job {job.job_id}: {shlex.join(training.command())}")
        write_jobs(experiment, jobs)
    elif jobs.get(_ACCUMULATION) in active or all(
        Accumulation(experiment, arm).is_finished() for arm in experiment.arms
    ):
        return
    waited_for = {jobs[training.name] for training in experiment.trainings() if training.name in jobs}
    after = sorted(waited_for & {*active, *(jobs[training.name] for training in trainings)})
    executor.update_parameters(slurm_dependency=f"afterany:{':'.join(after)}" if after else None)
    last = executor.submit(accumulation_job, experiment)
    jobs[_ACCUMULATION] = last.job_id
    write_jobs(experiment, jobs)
    yield Event(_ACCUMULATION, "started", f"job {last.job_id}, after the trainings")
