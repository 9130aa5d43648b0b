"""The jobs of an experiment that SLURM has in its queue."""

from __future__ import annotations

import shutil
import subprocess

from pydantic import StrictStr

from missu_nnunet.experiments.experiment import Experiment
from missu_nnunet.files import write_json
from missu_nnunet.structures import read_structure


def active_jobs() -> dict[str, str]:
    """ID → state of one's own jobs that wait or run; none where there is no SLURM."""
    if shutil.which("squeue") is None:
        return {}
    queue = subprocess.run(["squeue", "--me", "-h", "-r", "-o", "%i %T"], capture_output=True, text=True)
    return dict(line.split(maxsplit=1) for line in queue.stdout.splitlines())


def job_states(experiment: Experiment) -> dict[str, str]:
    """Name of a training → the state of its job that waits or runs."""
    active = active_jobs()
    return {name: active[job] for name, job in read_jobs(experiment).items() if job in active}


def read_jobs(experiment: Experiment) -> dict[str, str]:
    """Name of a training → its latest job."""
    file = experiment.folder / "jobs.json"
    if not file.exists():
        return {}
    return read_structure(file, dict[str, StrictStr], "it does not hold jobs of trainings: delete it")


def write_jobs(experiment: Experiment, jobs: dict[str, str]) -> None:
    """Keep what :func:`read_jobs` reads."""
    write_json(jobs, experiment.folder / "jobs.json")
