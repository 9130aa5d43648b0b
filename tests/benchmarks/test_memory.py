import sys

import pytest
from memory import peak_bytes

GRANDCHILD = "import time; held = bytearray(200 << 20); time.sleep(1)"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {GRANDCHILD!r}], check=True)"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_counts_what_child_processes_hold() -> None:
    assert 200 << 20 < peak_bytes([sys.executable, "-c", PARENT]) < 300 << 20


def test_a_command_that_fails_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="ended with 3"):
        peak_bytes([sys.executable, "-c", "raise SystemExit(3)"])
