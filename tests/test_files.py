import math
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from full_disk import largest_file

from missu_nnunet.errors import InputError
from missu_nnunet.files import (
    PARTIAL,
    check_is_new,
    read_finite_json,
    read_json,
    whole_file,
    write_bytes,
    write_csv,
    write_json,
    write_text,
)


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "there"
    file.write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        check_is_new(file)
    check_is_new(tmp_path / "new")


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    def fail_while_writing() -> None:
        with whole_file(tmp_path / "out") as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_while_writing()
    assert list(tmp_path.iterdir()) == []


WRITE = """
import os, sys
from pathlib import Path
from missu_nnunet.files import whole_file
with whole_file(Path(sys.argv[1])) as partial:
    partial.write_text("theirs")
    {}
"""


def test_two_processes_that_write_the_same_file_do_not_meet(tmp_path: Path) -> None:
    with whole_file(tmp_path / "out") as partial:
        partial.write_text("mine")
        subprocess.run([sys.executable, "-c", WRITE.format(""), tmp_path / "out"], check=True)
        assert (tmp_path / "out").read_text() == "theirs"
    assert (tmp_path / "out").read_text() == "mine"
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    killed = WRITE.format("os.kill(os.getpid(), 9)")
    assert subprocess.run([sys.executable, "-c", killed, tmp_path / "out"], check=False).returncode == -9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(PARTIAL)
    write_json(1, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_what_another_machine_is_writing_is_removed_once_it_must_have_been_left(tmp_path: Path) -> None:
    theirs = tmp_path / f"{PARTIAL}00000000-1-out"
    theirs.touch()
    write_json(1, tmp_path / "out")
    assert theirs.exists()
    os.utime(theirs, (0, 0))
    write_json(1, tmp_path / "out")
    assert not theirs.exists()


WRITERS = [lambda path: write_bytes(b"x" * 5000, path), lambda path: write_json(["x"] * 1000, path)]


@pytest.mark.parametrize("write", WRITERS)
def test_a_full_disk_keeps_the_file_before(write: Callable[[Path], None], tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_text("before")
    with largest_file(1000), pytest.raises(InputError, match=r"out: cannot be written \(File too large\)"):
        write(file)
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("write", WRITERS)
def test_a_place_that_cannot_be_written_is_named(write: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file: no such folder, and it cannot be made \(a file is in its place\)"):
        write(tmp_path / "file" / "out")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"folder: cannot be written \(Is a directory\)"):
        write(tmp_path / "folder")
    for path in (Path("."), Path("/")):
        with pytest.raises(InputError, match=r": cannot be written \(Is a directory\)"):
            write(path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_the_umask_decides_who_may_read_whatever_the_writer_thinks(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    with whole_file(tmp_path / "out") as partial:
        partial.touch(0o600)
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "usual").stat().st_mode
    (tmp_path / "source").touch(0o600)
    with whole_file(tmp_path / "link") as partial:
        partial.symlink_to(tmp_path / "source")
    assert stat.S_IMODE((tmp_path / "source").stat().st_mode) == 0o600


def test_names_that_are_not_utf_8_can_be_written(tmp_path: Path) -> None:
    name = os.fsdecode(b"case\xff")
    write_json({name: 1}, tmp_path / "out.json")
    assert read_json(tmp_path / "out.json", "") == {name: 1}
    write_csv([{"case": name, "dice": math.nan, "ml": None}], tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().splitlines() == ["case,dice,ml", "case\\udcff,,"]
    write_text(name, tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_text() == "case\\udcff"


def test_an_error_about_another_file_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "out"):
        (tmp_path / "source").read_text()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no such file; do that"),
        (b"{", r"cannot be read as JSON \(.*\); do that"),
        (b"\xff\xfe", r"byte 0 is not UTF-8 text; do that"),
        (b"[1]", "holds a JSON list, expected an object; do that"),
    ],
)
def test_json_that_cannot_be_used(content: bytes | None, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "in.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=rf"in\.json: {reason}"):
        read_json(file, "do that")


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_numbers_that_could_not_be_written_again(number: str, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text(f'{{"a": [{number}]}}')
    with pytest.raises(InputError, match=r"in\.json: holds NaN or an infinite number"):
        read_finite_json(tmp_path / "in.json", "do that")
