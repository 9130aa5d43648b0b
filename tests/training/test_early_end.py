import subprocess
import sys
from pathlib import Path

import pytest

from missu_nnunet.training.early_end import (
    STOP_FILE,
    epochs_without_improvement,
    stop_file_found,
)


@pytest.mark.parametrize(
    ("values", "epochs"), [([], 0), ([0.1], 0), ([0.1, 0.2], 0), ([0.2, 0.1, 0.15], 2), ([0.2, 0.2, 0.2], 2)]
)
def test_counts_the_epochs_since_the_first_best(values: list[float], epochs: int) -> None:
    assert epochs_without_improvement(values) == epochs


def test_a_stop_file_ends_one_training(tmp_path: Path) -> None:
    assert not stop_file_found(tmp_path)
    (tmp_path / STOP_FILE).touch()
    assert stop_file_found(tmp_path)
    assert not stop_file_found(tmp_path)


def test_sigterm_is_noted_within_the_block_alone() -> None:
    code = """
import signal
from missu_nnunet.training.early_end import termination_noted
with termination_noted() as termination:
    print(termination.requested)
    signal.raise_signal(signal.SIGTERM)
    print(termination.requested)
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
"""
    # In a process of its own: a signal that goes astray would end this one, and every test with it.
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout.split() == ["False", "True", "True"], result.stderr


def test_forked_loaders_end_by_it_when_all_is_over() -> None:
    code = """
import multiprocessing, time
from missu_nnunet.training.early_end import termination_noted
context = multiprocessing.get_context("fork")
started = context.Event()
def work():
    started.set()
    time.sleep(60)
with termination_noted() as termination:
    worker = context.Process(target=work, daemon=True)
    worker.start()
    started.wait()
    worker.terminate()
    worker.join(1)
    print(worker.exitcode, termination.requested)
worker.terminate()
worker.join(20)
print(worker.exitcode)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout.split() == ["None", "False", "-15"], result.stderr
