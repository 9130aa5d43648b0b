import os
from pathlib import Path
from typing import Any

import pytest
import torch
from full_disk import largest_file

from missu_nnunet.errors import InputError
from missu_nnunet.nnunet.checkpoint import check_is_new, check_plans, read_checkpoint, write_checkpoint


class Runs:
    """Unpickled, it would touch a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.file}",)


def refusal(file: Path) -> str:
    with pytest.raises(InputError) as raised:
        read_checkpoint(file, str(file))
    message = str(raised.value)
    assert message.startswith(f"{file}: ")
    assert "\n" not in message
    return message


def test_comes_back_as_it_was_written(missu_checkpoint: Path) -> None:
    mine = read_checkpoint(missu_checkpoint, "it")
    theirs = torch.load(missu_checkpoint, weights_only=False)
    assert mine["logging"] == theirs["logging"]
    assert mine["init_args"] == theirs["init_args"]
    assert all(torch.equal(mine["network_weights"][key], value) for key, value in theirs["network_weights"].items())


@pytest.mark.parametrize("as_zip", [True, False])
@pytest.mark.parametrize("place", ["beside", "logging", "optimizer_state"])
def test_code_is_refused_by_name_and_does_not_run(
    as_zip: bool, place: str, missu_checkpoint: Path, tmp_path: Path
) -> None:
    checkpoint = torch.load(missu_checkpoint, weights_only=False)
    checkpoint.setdefault(place, {})["more"] = Runs(tmp_path / "ran")
    file = tmp_path / "stranger.pth"
    torch.save(checkpoint, file, _use_new_zipfile_serialization=as_zip)
    assert f"would run {os.system.__module__}.system" in refusal(file)
    assert not (tmp_path / "ran").exists()
    torch.load(file, weights_only=False)  # what nnU-Net does: the test's malice is real
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("function", [eval, print, getattr, torch.load, torch.hub.load, torch.nn.Linear, Path])
def test_any_global_is_refused_by_name(function: Any, tmp_path: Path) -> None:
    file = tmp_path / "stranger.pth"
    torch.save({"network_weights": {}, "run": function}, file)
    assert f"{function.__name__}, which no checkpoint" in refusal(file)


def test_a_type_that_no_checkpoint_holds_is_refused_by_name(missu_checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "stranger.pth"
    torch.save(torch.load(missu_checkpoint, weights_only=False) | {"file": Path("x")}, file)
    assert "PosixPath" in refusal(file)


def test_broken_files_are_refused(missu_checkpoint: Path, tmp_path: Path) -> None:
    content = missu_checkpoint.read_bytes()
    for cut in (0, 1, 100, len(content) // 2, len(content) - 10):
        file = tmp_path / f"{cut}.pth"
        file.write_bytes(content[:cut])
        assert "cannot be read as a checkpoint" in refusal(file)
    (tmp_path / "text.pth").write_text("weights")
    assert "cannot be read as a checkpoint" in refusal(tmp_path / "text.pth")
    assert "no such file" in refusal(tmp_path / "nowhere.pth")


def test_something_else_is_refused(missu_checkpoint: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(missu_checkpoint, weights_only=False)
    for number, other in enumerate(
        ([1], {"state_dict": {}}, checkpoint | {"network_weights": {"a": 1}}, checkpoint | {"init_args": {}})
    ):
        file = tmp_path / f"{number}.pth"
        torch.save(other, file)
        assert "expected nnU-Net's checkpoint" in refusal(file)


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "torch.nn.parallel.distributed.os.system",
        "torch.nn.init.trunc_normal_",
        "torch.nn.Parameter",
        "torch.nn.Nothing",
        3,
    ],
)
@pytest.mark.parametrize("part", ["network", "nonlin"])
def test_a_plan_that_names_anything_but_a_network_is_refused(
    name: Any, part: str, missu_checkpoint: Path, tmp_path: Path
) -> None:
    checkpoint = torch.load(missu_checkpoint, weights_only=False)
    architecture = checkpoint["init_args"]["plans"]["configurations"]["3d_fullres"]["architecture"]
    if part == "network":
        architecture["network_class_name"] = name
    else:
        architecture["arch_kwargs"]["nonlin"] = name
    file = tmp_path / "stranger.pth"
    torch.save(checkpoint, file)
    assert f"would run {name}" in refusal(file)


def test_missus_own_plans_pass() -> None:
    check_plans({"network_class_name": "missu_nnunet.architecture.missu.MISSU"}, "it")


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "there.pth"
    file.write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        check_is_new(file)
    check_is_new(tmp_path / "new.pth")


def test_a_full_disk_is_named_as_the_reason(tmp_path: Path) -> None:
    with largest_file(10_000), pytest.raises(InputError, match=r"out\.pth: cannot be written \(File too large\)"):
        write_checkpoint({"weights": torch.zeros(10_000)}, tmp_path / "out.pth")
    assert list(tmp_path.iterdir()) == []
