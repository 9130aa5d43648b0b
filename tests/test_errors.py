"""How an error ends a process that is not ours."""

import subprocess
import sys

import pytest

_SET_UP = """
import sys
from missu_nnunet.errors import InputError, end_on_input_error
end_on_input_error()
end_on_input_error()
"""


def python(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *options, "-c", _SET_UP + code], capture_output=True, text=True)


def test_an_input_error_is_one_line_and_exit_code_2() -> None:
    result = python("raise InputError('seed: found x, expected y')")
    assert (result.returncode, result.stderr) == (2, "missu: seed: found x, expected y\n")


def test_what_was_printed_before_and_registered_for_the_end_still_comes() -> None:
    result = python("import atexit; atexit.register(print, 'end'); print('begin'); raise InputError('x')")
    assert result.stdout == "begin\nend\n"


@pytest.mark.parametrize("code", ["raise ValueError('x')", "sys.ps1 = '>>> '; raise InputError('x')"])
def test_other_errors_and_interactive_sessions_are_as_before(code: str) -> None:
    result = python(code)
    assert result.returncode == 1
    assert result.stderr.startswith("Traceback (most recent call last)")


def test_a_caller_can_still_catch_it() -> None:
    result = python("try:\n    raise InputError('x')\nexcept ValueError as error:\n    print('caught', error)")
    assert (result.returncode, result.stdout) == (0, "caught x\n")
