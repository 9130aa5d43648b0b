"""How an error ends a process of nnU-Net."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from missu_nnunet.errors import InputError, end_with, is_about_a_path, is_out_of_memory

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


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("[red]x[/b]: found\n y", "[red]x[/b]: found  y"),
        ("\x1b[2J\u202edoc\r: no", "\\x1b[2J\\u202edoc\\r: no"),
        (f"{'x' * 5000}: too long", f"{'x' * 100}… (5001 characters) too long"),
    ],
)
def test_untrusted_text_is_shown_without_control_characters(
    message: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        end_with(InputError(message))
    assert capsys.readouterr().err == f"missu: {shown}\n"


def test_errors_of_the_system_are_lines_with_a_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path, line in (
        (tmp_path / ("x" * 300), "file name too long; give a shorter name"),
        (tmp_path, "is a directory; give another file or folder"),
        (tmp_path / "no", "no such file or directory; look for a typing error"),
    ):
        with pytest.raises(OSError, match="Errno") as refused:
            path.read_text()
        assert is_about_a_path(refused.value)
        with pytest.raises(SystemExit):
            end_with(refused.value)
        assert capsys.readouterr().err == f"missu: {path}: {line}\n"
    assert not is_about_a_path(OSError("a library's"))


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


def test_memory_that_is_refused_is_recognised() -> None:
    for refused in (partial(torch.empty, 2**55, device="cpu"), partial(np.empty, 2**55)):
        with pytest.raises((MemoryError, RuntimeError)) as raised:
            refused()
        assert is_out_of_memory(raised.value)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
