"""Whether processes still run."""

import os
import time


def wait_until_gone(processes: list[int]) -> None:
    """Return when none of the processes runs any more; fail after 20 s."""
    deadline = time.monotonic() + 20
    while alive := [process for process in processes if _is_alive(process)]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.05)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
        with open(f"/proc/{process}/stat") as file:
            return file.read().rsplit(")")[1].split()[0] != "Z"  # adopted by nobody that would bury it
    except (ProcessLookupError, FileNotFoundError):
        return False
