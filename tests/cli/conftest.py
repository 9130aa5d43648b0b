"""The ``missu`` command in this process, which has its libraries loaded already."""

import sys
from subprocess import CompletedProcess

import pytest
from commands import Missu

from missu_nnunet.cli.main import main


@pytest.fixture
def missu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Missu:
    """Run the command; its exit code, output and errors."""

    def run(*arguments: object) -> CompletedProcess[str]:
        monkeypatch.setenv("COLUMNS", "160")
        monkeypatch.setattr(sys, "argv", ["missu", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exited:
            main()
        return CompletedProcess(sys.argv, exited.value.code or 0, *capsys.readouterr())

    return run
