"""A program on the leash does not outlive its holder."""

import signal
import subprocess
import sys

import pytest
from processes import wait_until_gone

LEASH = [sys.executable, "-m", "missu_nnunet.nnunet.leash"]
# A program with a child of its own; both write their process IDs.
PARENT_AND_CHILD = "sleep 60 & echo $! $$; wait"


def test_exit_code_and_output_are_the_programs() -> None:
    process = subprocess.Popen(
        [*LEASH, "sh", "-c", "echo hello; exit 3"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.wait(20) == 3
    assert process.stdout.read() == b"hello\nexit code 3\n"


def test_a_killed_program_is_reported_as_by_a_shell_and_its_children_end() -> None:
    process = subprocess.Popen(
        [*LEASH, "sh", "-c", "sleep 60 & echo $!; kill -9 $$"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.wait(20) == 128 + signal.SIGKILL
    wait_until_gone([int(process.stdout.readline())])


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_program_and_its_children_die_with_the_holder(death: signal.Signals) -> None:
    code = (
        "import signal, subprocess\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored where the tests run in the background
        f"subprocess.Popen({[*LEASH, 'sh', '-c', PARENT_AND_CHILD]}, stdin=subprocess.PIPE).wait()"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    processes = list(map(int, holder.stdout.readline().split()))
    assert len(processes) == 2
    holder.send_signal(death)
    holder.wait(20)
    wait_until_gone(processes)
