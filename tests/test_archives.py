"""Damaged and hostile archives end in one line, and write nothing outside their folder."""

import io
import tarfile
import time
from pathlib import Path

import pytest
from full_disk import largest_file
from hostile import TARS, ZIPS, no_file, zip_of

from missu_nnunet.archives import open_zip, unpack_tar
from missu_nnunet.errors import InputError


def read_all(content: bytes) -> dict[str, bytes]:
    with open_zip(io.BytesIO(content), "it.zip") as archive:
        archive.check_size()
        return {member: archive.read(member) for member in archive.members}


@pytest.mark.parametrize("kind", ZIPS)
def test_a_damaged_or_hostile_zip_is_refused(kind: str) -> None:
    start = time.process_time()
    with pytest.raises(InputError, match=r"^it\.zip: .*(refused|cannot be read as a zip)") as raised:
        read_all(ZIPS[kind]())
    assert "\n" not in str(raised.value)
    assert time.process_time() - start < 2


def test_a_zip_is_read() -> None:
    members = {"Dataset/plans.json": b"{}", "Dataset/fold_0/é.txt": b"text" * 100}
    assert read_all(zip_of(members)) == members


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused() -> None:
    twice = zip_of({"a.json": b"1", "b.json": b"2"}).replace(b"b.json", b"a.json")
    with pytest.raises(InputError, match="several files of one name"):
        read_all(twice)


@pytest.mark.parametrize("kind", TARS)
def test_a_damaged_or_hostile_tar_is_refused(kind: str, tmp_path: Path) -> None:
    archive = tmp_path / "it.tar"
    archive.write_bytes(TARS[kind]())
    start = time.process_time()
    with pytest.raises((InputError, OSError)) as raised:
        unpack_tar(archive, tmp_path / "folder")
    if not isinstance(raised.value, InputError):  # about a name too long for the system
        assert raised.value.filename
    assert time.process_time() - start < 2
    assert {path.name for path in tmp_path.iterdir()} <= {"it.tar", "folder"}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_tar_is_unpacked(mode: str, tmp_path: Path) -> None:
    (tmp_path / "Task").mkdir()
    (tmp_path / "Task" / "file").write_text("content")
    with tarfile.open(tmp_path / "it.tar", mode) as archive:
        archive.add(tmp_path / "Task", "Task")
    unpack_tar(tmp_path / "it.tar", tmp_path / "folder")
    assert (tmp_path / "folder" / "Task" / "file").read_text() == "content"


def test_a_full_disk_is_no_damage_of_the_tar(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 5000)
    with tarfile.open(tmp_path / "it.tar", "w") as archive:
        archive.add(tmp_path / "file", "file")
    with (
        largest_file(1000),
        pytest.raises(InputError, match=r"folder: cannot be written .*; make room"),
    ):
        unpack_tar(tmp_path / "it.tar", tmp_path / "folder")


def test_a_pipe_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a pipe, device or socket, expected a file"):
        unpack_tar(no_file(tmp_path, "pipe"), tmp_path / "folder")
