"""nnU-Net's commands in processes that start at once: forked from one that has imported everything already."""

import multiprocessing
import os
import runpy
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import entry_points
from multiprocessing import forkserver, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

PRELOAD = [
    "nnunetv2.run.run_training",
    "nnunetv2.experiment_planning.plan_and_preprocess_entrypoints",
    "nnunetv2.inference.predict_from_raw_data",
    "missu_nnunet.training.variants",
    "matplotlib.pyplot",
]


def start(name: str, *arguments: object, log: Path, environment: Mapping[str, str] = os.environ) -> BaseProcess:
    """Start a command of this environment by its entry point, or a module; what it prints is added to ``log``."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=_run, args=(name, [*map(str, arguments)], log, dict(environment)))
    process.start()
    return process


def run(name: str, *arguments: object) -> str:
    """Run a command, which must succeed, and return its output."""
    with tempfile.NamedTemporaryFile("r") as log:
        process = start(name, *arguments, log=Path(log.name))
        process.join()
        output = log.read()
    assert process.exitcode == 0, f"{name} {' '.join(map(str, arguments))}\n{output}"
    return output


def wait_for(file: Path, process: BaseProcess, log: Path) -> None:
    """Return when the process has written the file; if it ends without, or after two minutes, show the log instead."""
    end = time.monotonic() + 120
    while not file.exists():
        assert process.is_alive(), log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.01)


def _run(name: str, arguments: list[str], log: Path, environment: dict[str, str]) -> None:
    os.environ.clear()  # the server's is that of the time when it started
    os.environ.update(environment)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    # The workers that nnU-Net spawns come from the same server. (Forking this process instead would hand them OpenMP
    # without its threads.) CPython means children to use their parent's server, but starts them one of their own.
    forked = multiprocessing.get_context("forkserver")
    multiprocessing.get_context = lambda method=None: forked
    forkserver._forkserver.ensure_running = resource_tracker.ensure_running
    multiprocessing.cpu_count = lambda: 1  # of a thread per core, each would wait for the others where others compute
    _draw_fewer_intensities()
    sys.argv = [name, *arguments]
    scripts = entry_points(group="console_scripts", name=name)
    if scripts:
        sys.exit(next(iter(scripts)).load()())
    runpy.run_module(name, run_name="__main__")


def _draw_fewer_intensities() -> None:
    """Draw 10e4 intensities for a fingerprint: nnU-Net draws 10e7 of any dataset, most of the time it takes."""
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor

    initialize = DatasetFingerprintExtractor.__init__

    def with_fewer(extractor: Any, *arguments: Any, **options: Any) -> None:
        initialize(extractor, *arguments, **options)
        extractor.num_foreground_voxels_for_intensitystats = 10e4

    DatasetFingerprintExtractor.__init__ = with_fewer
