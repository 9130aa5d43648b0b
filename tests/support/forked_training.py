"""nnUNetv2_train in processes that start at once: forked from one that has imported everything already."""

import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

_PRELOAD = ["nnunetv2.run.run_training", "missu_nnunet.training.variants", "matplotlib.pyplot"]


def start_training(arguments: Sequence[object], log: Path) -> BaseProcess:
    """Start nnU-Net's entry point of ``nnUNetv2_train`` with its command line; what it prints goes to ``log``."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    process = context.Process(target=_train, args=([*map(str, arguments)], dict(os.environ), log))
    process.start()
    return process


def wait_for(file: Path, log: Path) -> None:
    """Return when the file is there; after two minutes show the log instead."""
    end = time.monotonic() + 120
    while not file.exists():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.01)


def _train(arguments: list[str], environment: dict[str, str], log: Path) -> None:
    os.environ.update(environment)  # the server's is that of the time when it started
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    from nnunetv2.run.run_training import run_training_entry

    sys.argv = ["nnUNetv2_train", *arguments]
    run_training_entry()
