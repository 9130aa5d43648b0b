"""The ``missu`` command, run as a process."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Missu
from typer.main import get_command

from missu_nnunet import __version__
from missu_nnunet.cli.main import app

_RUN = "import sys; from missu_nnunet.cli.main import main; "


def _missu(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", _RUN + code], capture_output=True, text=True, timeout=60)


def test_help_names_the_commands() -> None:
    result = _missu("sys.argv[1:] = ['--help']; main()")
    assert result.returncode == 0
    assert "demo" in result.stdout
    assert "doctor" in result.stdout


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version(option: str) -> None:
    result = _missu(f"sys.argv[1:] = ['{option}']; main()")
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


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["no-such-command"], "missu: No such command 'no-such-command'. See 'missu --help'."),
        (["predic"], "missu: No such command 'predic'. Did you mean 'predict'? See 'missu --help'."),
        (["crossval", "statu"], "missu: No such command 'statu'. Did you mean 'status'? See 'missu crossval --help'."),
        (
            ["doctor", "[red]\x1b[2J"],
            "missu: Got unexpected extra argument(s) ([red]\\x1b[2J) See 'missu doctor --help'.",
        ),
    ],
)
def test_what_is_not_understood_is_one_line(arguments: list[str], line: str) -> None:
    result = _missu(f"sys.argv[1:] = {arguments!r}; main()")
    assert (result.returncode, result.stderr) == (2, f"{line}\n")


@pytest.mark.parametrize(
    ("variable", "value"),
    [("nnUNet_def_n_proc", ""), ("nnUNet_def_n_proc", "1.5"), ("nnUNet_n_proc_DA", "x"), ("OMP_NUM_THREADS", "4,2")],
)
def test_a_variable_that_libraries_trip_over_is_named(
    missu: Missu, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    done = missu("info", "plans.json")
    assert done.returncode == 2
    assert done.stderr.startswith(f"missu: {variable} is '{value}', expected a ")


def test_a_link_to_itself_is_named(missu: Missu, tmp_path: Path) -> None:
    (loop := tmp_path / "loop").symlink_to("loop")
    done = missu("model-card", loop, "-o", tmp_path / "README.md")
    assert done.returncode == 2
    assert done.stderr.startswith("missu: ")
    assert str(loop) in done.stderr
    assert done.stderr.count("\n") == 1


def _commands(group: Any, path: tuple[str, ...] = ("missu",)) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(_commands(get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_examples_that_its_command_understands(name: str) -> None:
    shown = COMMANDS[name].epilog or ""
    examples = re.findall("^  (missu .*)$", shown, re.MULTILINE)
    assert examples, f"{name} --help shows no example"
    for example in examples:
        arguments = shlex.split(example)[1:]
        context = get_command(app).make_context("missu", arguments)
        while hasattr(context.command, "commands"):
            _, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
            context = command.make_context(command.name, rest, parent=context)
        assert context.parent.command_path == name.rpartition(" ")[0]
