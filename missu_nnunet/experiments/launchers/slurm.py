"""An experiment's trainings as a job array of SLURM, through submitit."""

from __future__ import annotations

import logging
import shutil
import subprocess
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

from pydantic import StrictStr

from missu_nnunet.errors import InputError
from missu_nnunet.experiments.accumulation import Accumulation, accumulate, accumulations
from missu_nnunet.experiments.cost import measure_arms
from missu_nnunet.experiments.events import Event
from missu_nnunet.experiments.experiment import Experiment
from missu_nnunet.experiments.fold_training import FoldTraining, outcome
from missu_nnunet.experiments.launcher import Estimate, Launcher, Options
from missu_nnunet.extras import require_extra
from missu_nnunet.files import write_json
from missu_nnunet.structures import read_structure

if TYPE_CHECKING:
    import submitit
    from submitit.helpers import DelayedSubmission

Result = TypeVar("Result")

_MAX_TIME_LIMITS = 100
"""A job that reaches its time limit so often makes no progress between its checkpoints."""

_ACCUMULATION = "accumulation"


class SlurmLauncher(Launcher):
    """Hands the trainings over to SLURM, as an array of jobs, and a job after them that accumulates."""

    def __init__(self, options: Options) -> None:
        with require_extra("cluster"):
            import submitit  # noqa: F401
        require_slurm()
        self.gpus = 1 if options.gpus is None else options.gpus
        self._options = options

    def estimate(self, experiment: Experiment, resume: bool, tell: Callable[[str], None]) -> Estimate:
        """Time the arms in a job, and wait for it."""
        job = self._executor(experiment).submit(measure_arms, experiment, (), resume)
        tell(f"timing a few iterations in job {job.job_id}; --no-estimate does not wait for it")
        costs = wait_for(job)
        return Estimate(costs, sum(len(cost.left_seconds) for cost in costs if cost))

    def run(self, experiment: Experiment, resume: bool) -> Generator[Event | None, None, None]:
        """Submit what is left, and say where to look; nothing is waited for."""
        executor = self._executor(experiment)
        yield from submit(experiment, executor, resume)
        text = f"'missu crossval status' shows how far they are; their logs are in {executor.folder}"
        yield Event("jobs", "started", text)

    @classmethod
    def states(cls, experiment: Experiment) -> dict[str, str]:
        """The states of the trainings' jobs that are in SLURM's queue."""
        jobs = read_jobs(experiment)
        active = active_jobs() if jobs else {}  # SLURM may be here and not in use
        return {name: active[job] for name, job in jobs.items() if job in active}

    def _executor(self, experiment: Experiment) -> submitit.AutoExecutor:
        return slurm_executor(experiment, self._options.hours, self._options.sbatch)


LAUNCHER = SlurmLauncher


class TrainingJob:
    """The work of a job. At its time limit or when it is preempted, submitit requeues it, and it continues."""

    def __init__(self, training: FoldTraining) -> None:
        self.training = training

    def __call__(self) -> str:
        """Do what is left of the training; what became of it.

        Raises:
            RuntimeError: if the training failed, or another process trains the fold.
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
        """The job that submitit requeues."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def accumulation_job(experiment: Experiment) -> None:
    """Accumulate the arms that are finished.

    Raises:
        RuntimeError: if not all arms could be accumulated.
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
        InputError: if there is no SLURM here.
    """
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise InputError(
            "--launcher slurm: there is no SLURM here (sbatch and srun are not on the PATH); run it on the cluster's "
            "login node, or with --launcher local"
        )


def slurm_executor(experiment: Experiment, hours: float, sbatch: Mapping[str, str]) -> submitit.AutoExecutor:
    """The executor that submits jobs to SLURM.

    Args:
        experiment: the experiment whose jobs are submitted; they use its number of GPUs.
        hours: time limit of a job.
        sbatch: further options of ``sbatch`` by their long names, such as ``{"partition": "gpu"}``.
    """
    import submitit

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
    """Wait for a job and return its result.

    Raises:
        InputError: if the job failed or was cancelled.
    """
    from submitit.core.utils import FailedJobError

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
        executor: executor made by ``slurm_executor``.
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
            yield Event(training.name, "started", f"job {job.job_id}: {training.line(resume)}")
        write_jobs(experiment, jobs)
    elif jobs.get(_ACCUMULATION) in active or all(map(Accumulation.is_finished, accumulations(experiment))):
        return
    waited_for = {jobs[training.name] for training in experiment.trainings() if training.name in jobs}
    after = sorted(waited_for & {*active, *(jobs[training.name] for training in trainings)})
    executor.update_parameters(slurm_dependency=f"afterany:{':'.join(after)}" if after else None)
    last = executor.submit(accumulation_job, experiment)
    jobs[_ACCUMULATION] = last.job_id
    write_jobs(experiment, jobs)
    yield Event(_ACCUMULATION, "started", f"job {last.job_id}, after the trainings")


def active_jobs() -> dict[str, str]:
    """ID → state of one's own jobs that wait or run; none where there is no SLURM.

    Raises:
        InputError: if SLURM does not answer: jobs that wait would be taken for ended ones, and submitted again.
    """
    if shutil.which("squeue") is None:
        return {}
    queue = subprocess.run(["squeue", "--me", "-h", "-r", "-o", "%i %T"], capture_output=True, text=True)
    if queue.returncode:
        reason = queue.stderr.strip().rpartition("\n")[2]
        raise InputError(f"squeue: SLURM does not answer ({reason}); try again when it does")
    return dict(line.split(maxsplit=1) for line in queue.stdout.splitlines())


def read_jobs(experiment: Experiment) -> dict[str, str]:
    """Name of a training → its latest job."""
    file = experiment.folder / "jobs.json"
    if not file.exists():
        return {}
    return read_structure(file, dict[str, StrictStr], "it does not hold jobs of trainings: delete it")


def write_jobs(experiment: Experiment, jobs: dict[str, str]) -> None:
    """Keep what ``read_jobs`` reads."""
    write_json(jobs, experiment.folder / "jobs.json")
