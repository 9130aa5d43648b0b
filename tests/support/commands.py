"""nnU-Net's commands, run as a user runs them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

SCRIPTS = Path(sys.executable).parent

TRAINER = "MISSUTrainer_4epochs_3iters"
PLANS = "nnUNetMISSUPlansCPU"

Missu = Callable[..., subprocess.CompletedProcess[str]]
"""The type of the fixture ``missu`` of ``tests/cli``."""


def start(command: str | Path, *arguments: object) -> subprocess.Popen[str]:
    """Start a command of this environment, or any by its path; its output goes to a pipe, errors included."""
    # Export workers that nnU-Net spawns import everything anew: one thread each is plenty.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [str(SCRIPTS / command), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def run(command: str | Path, *arguments: object) -> str:
    """Run a command, which must succeed, and return its output."""
    process = start(command, *arguments)
    output, _ = process.communicate()
    assert process.returncode == 0, f"{command} {' '.join(map(str, arguments))}\n{output}"
    return output
