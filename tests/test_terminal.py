"""The printer, into a pipe and onto a terminal (a pseudo-terminal, of which a process sees no difference)."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

HOSTILE = "[/b][red]x[link=http://a.b]:smile:\x1b[2J\u202e\r[/link]"
SHOWN = "[/b][red]x[link=http://a.b]:smile:\\x1b[2J\\u202e\\r[/link]"

PRINT_ALL = f"""
from rich.progress import BarColumn
from missu_nnunet.terminal import Words, literal, print_json, progress_bar, say, show, table, waiting
hostile = {HOSTILE!a}
say(literal("ok ", "green"), hostile)
found = table((hostile, "place"), ("voxels",))
found.add_row(hostile, "/a/long/path" * 9, "1,007,415")
show(found, hostile)
with progress_bar(Words("{{task.description}}"), BarColumn()) as progress:
    progress.update(progress.add_task(hostile, total=1), completed=1)
with waiting(hostile) as status:
    status.update(literal(hostile))
print_json({{hostile: float("nan")}})
"""


def on_terminal(code: str, columns: int) -> str:
    """The output for a terminal of that width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment | {"TERM": "xterm"}) as process:
        os.close(theirs)
        sent = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # as Linux says that the other end is closed
                break
            if not part:
                break
            sent += part
    os.close(ours)
    assert process.returncode == 0, sent.decode()
    return sent.decode()


def test_in_a_pipe_all_is_literal_and_nothing_folded() -> None:
    result = subprocess.run(
        [sys.executable, "-c", PRINT_ALL],
        env=os.environ | {"COLUMNS": "40"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = result.stdout.splitlines()
    assert lines[0] == f"ok {SHOWN}"
    assert lines[1] == SHOWN
    assert any(SHOWN in line and "/a/long/path" * 9 in line and "1,007,415" in line for line in lines)
    assert "\x1b" not in result.stdout
    assert lines[-3:] == ["{", '  "[/b][red]x[link=http://a.b]:smile:\\u001b[2J\\u202e\\r[/link]": null', "}"]
    assert result.stderr == ""


@pytest.mark.parametrize("columns", [20, 80])
def test_a_terminal_gets_no_control_characters_and_whole_numbers(columns: int) -> None:
    sent = on_terminal(PRINT_ALL, columns)
    assert "\x1b[2J" not in sent
    assert "\u202e" not in sent
    assert "\x1b]8" not in sent  # a link
    assert "1,007,415" in sent
    assert "…" not in sent.partition("?25l")[0]  # where the bar begins, which may cut
    assert "\x1b[" in sent  # colours, and the moving bar
