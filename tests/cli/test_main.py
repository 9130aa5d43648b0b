"""The ``missu`` command, run as a process."""

import subprocess
import sys

from missu_nnunet import __version__

_RUN = "import sys; from missu_nnunet.cli.main import main; "


def _missu(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", _RUN + code], capture_output=True, text=True, timeout=60)


def test_help_names_the_commands() -> None:
    result = _missu("sys.argv[1:] = ['--help']; main()")
    assert result.returncode == 0
    assert "demo" in result.stdout
    assert "doctor" in result.stdout


def test_version() -> None:
    result = _missu("sys.argv[1:] = ['--version']; main()")
    assert (result.returncode, result.stdout) == (0, f"missu-nnunet {__version__}\n")


def test_help_loads_no_heavy_library() -> None:
    code = """
import atexit
atexit.register(lambda: print('loaded', sorted({'torch', 'nnunetv2', 'numpy', 'matplotlib'} & set(sys.modules))))
sys.argv[1:] = ['demo', '--help']
main()
"""
    result = _missu(code)
    assert result.stdout.rstrip().endswith("loaded []")


def test_unknown_command_is_an_error() -> None:
    result = _missu("sys.argv[1:] = ['no-such-command']; main()")
    assert result.returncode == 2
    assert "no-such-command" in result.stderr
