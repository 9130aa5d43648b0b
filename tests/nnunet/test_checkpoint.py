import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from full_disk import largest_file
from hostile import with_attribute

from missu_nnunet.errors import InputError
from missu_nnunet.nnunet.checkpoint import read_checkpoint, write_checkpoint


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
def test_code_is_refused_and_named_and_does_not_run(
    as_zip: bool, place: str, missu_checkpoint: Path, tmp_path: Path
) -> None:
    checkpoint = torch.load(missu_checkpoint, weights_only=False)
    checkpoint.setdefault(place, {})["more"] = Runs(tmp_path / "ran")
    file = tmp_path / "stranger.pth"
    torch.save(checkpoint, file, _use_new_zipfile_serialization=as_zip)
    said = (
        f"would run {os.system.__module__}.system" if as_zip else "cannot be read as a checkpoint"
    )  # before torch 1.6
    assert said in refusal(file)
    assert not (tmp_path / "ran").exists()
    torch.load(file, weights_only=False)  # what nnU-Net does: the test's malice is real
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("function", [eval, print, getattr, torch.load, torch.hub.load, torch.nn.Linear, Path])
def test_any_global_is_refused_and_named(function: Any, tmp_path: Path) -> None:
    file = tmp_path / "stranger.pth"
    torch.save({"network_weights": {}, "run": function}, file)
    assert f"{function.__name__}, which no checkpoint" in refusal(file)


def test_a_type_that_no_checkpoint_holds_is_refused_and_named(missu_checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "stranger.pth"
    torch.save(torch.load(missu_checkpoint, weights_only=False) | {"file": Path("x")}, file)
    assert "PosixPath" in refusal(file)


ODD_TENSORS: dict[str, Callable[[], torch.Tensor]] = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "sparse rows": lambda: torch.eye(3).to_sparse_csr(),
    "without memory": lambda: torch.zeros(3, device="meta"),
    "quantized": lambda: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.quint8),
    "nested": lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
    "complex": lambda: torch.zeros(3, dtype=torch.complex64),
    "8 bits": lambda: torch.zeros(3, dtype=torch.float8_e4m3fn),
    "attribute": lambda: with_attribute(torch.zeros(3), "numel"),
    "expanded": lambda: torch.zeros(1).expand(10**15),
}


@pytest.mark.filterwarnings("ignore")  # torch's about their future
@pytest.mark.parametrize("kind", ODD_TENSORS)
def test_a_tensor_that_no_checkpoint_holds_is_refused(kind: str, missu_checkpoint: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(missu_checkpoint, weights_only=False)
    checkpoint["network_weights"]["more"] = ODD_TENSORS[kind]()
    file = tmp_path / "stranger.pth"
    torch.save(checkpoint, file)
    assert re.search(r"would run torch|a tensor of shape", refusal(file))


def test_what_comes_back_has_its_own_methods(missu_checkpoint: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(missu_checkpoint, weights_only=False)
    for name in ("get", "keys", "values"):
        checkpoint = with_attribute(checkpoint, name)
        checkpoint["network_weights"] = with_attribute(checkpoint["network_weights"], name)
    file = tmp_path / "stranger.pth"
    torch.save(checkpoint, file)
    read = read_checkpoint(file, "it")
    assert (type(read), type(read["network_weights"])) == (dict, dict)
    assert dict.keys(read) == dict.keys(checkpoint)


def test_numbers_of_numpy_come_back_as_they_were(missu_checkpoint: Path, tmp_path: Path) -> None:
    numbers = [np.dtype(code).type(1) for code in "?bhilqBHILQefd"] + [np.float64(0.1), np.array(0.1, ">f8")[()]]
    file = tmp_path / "numbers.pth"
    torch.save(torch.load(missu_checkpoint, weights_only=False) | {"logging": {"numbers": numbers}}, file)
    old = tmp_path / "as_numpy_1_wrote.pth"
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(old, "w") as changed:
        for name in archive.namelist():
            changed.writestr(name, archive.read(name).replace(b"cnumpy._core.multiarray", b"cnumpy.core.multiarray"))
    for written in (file, old):
        read = read_checkpoint(written, "it")["logging"]["numbers"]
        assert [(number.dtype.newbyteorder("="), number) for number in read] == [
            (n.dtype.newbyteorder("="), n) for n in numbers
        ]


@pytest.mark.parametrize("kind", ["O", "V8", "M8[s]", "U3", "S3", "c8"])
def test_imitations_of_numpys_numbers_are_refused(kind: str, missu_checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "stranger.pth"
    torch.save(
        torch.load(missu_checkpoint, weights_only=False) | {"logging": [np.zeros(1, kind)[0], np.dtype(kind)]}, file
    )
    assert re.search("a number of type|would run ", refusal(file))


def test_broken_files_are_refused(missu_checkpoint: Path, tmp_path: Path) -> None:
    content = missu_checkpoint.read_bytes()
    for cut in (0, 1, 100, len(content) // 2, len(content) - 10):
        file = tmp_path / f"{cut}.pth"
        file.write_bytes(content[:cut])
        assert "cannot be read as a checkpoint" in refusal(file)
    (tmp_path / "text.pth").write_text("weights")
    assert "cannot be read as a checkpoint" in refusal(tmp_path / "text.pth")
    assert "no such file" in refusal(tmp_path / "nowhere.pth")
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as model:
        model.write(missu_checkpoint, "Dataset/fold_0/checkpoint_final.pth")
    assert "unpack it first, and give its fold_0/checkpoint_final.pth" in refusal(tmp_path / "model.zip")


def test_something_else_is_refused(missu_checkpoint: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(missu_checkpoint, weights_only=False)
    for number, other in enumerate(
        ([1], {"state_dict": {}}, checkpoint | {"network_weights": {"a": 1}}, checkpoint | {"init_args": {}})
    ):
        file = tmp_path / f"{number}.pth"
        torch.save(other, file)
        assert "expected nnU-Net's checkpoint" in refusal(file)


@pytest.mark.parametrize("part", ["network_class_name", "conv_op"])
def test_a_plan_that_names_anything_but_a_network_is_refused(part: str, missu_checkpoint: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(missu_checkpoint, weights_only=False)
    architecture = checkpoint["init_args"]["plans"]["configurations"]["3d_fullres"]["architecture"]
    (architecture["arch_kwargs"] if part == "conv_op" else architecture)[part] = "os.system"
    file = tmp_path / "stranger.pth"
    torch.save(checkpoint, file)
    assert "would run os.system" in refusal(file)


def test_a_full_disk_is_named_as_the_reason(tmp_path: Path) -> None:
    with largest_file(10_000), pytest.raises(InputError, match=r"out\.pth: cannot be written \(File too large\)"):
        write_checkpoint({"weights": torch.zeros(10_000)}, tmp_path / "out.pth")
    assert list(tmp_path.iterdir()) == []
