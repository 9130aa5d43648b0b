"""Run a program that must not outlive the process that started it, however that one ends.

``python -m missu_nnunet.nnunet.leash PROGRAM …`` with a pipe as standard input: when the pipe closes, which the
kernel does for a killed process too, the program and all that it started are killed. What the program leaves behind at
its own end, such as the loader processes of a training that was killed, goes as well. The exit code is the program's.
"""

import os
import signal
import subprocess
import sys
import threading


def main() -> None:
    """Run the program that the command line names."""
    os.setsid()  # a process group of its own, to kill as one
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    threading.Thread(target=_kill_when_let_go, daemon=True).start()
    code = process.wait()
    if code < 0:
        code = 128 - code  # as a shell says that a signal ended it
    print(f"exit code {code}", flush=True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    os._exit(code)


def _kill_when_let_go() -> None:
    sys.stdin.buffer.read()  # returns when nobody holds the other end
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
