"""``missu doctor``, run as a process in environments that are whole and in ones that are not."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from missu_nnunet.doctor import compilation, compiled, examine, operators, worker
from missu_nnunet.extras import missing_libraries

_RUN = [sys.executable, "-c", "from missu_nnunet.cli.main import main; main()", "doctor"]
_FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
_TRAINERS = Path(__file__).parents[2] / "trainers"


def _environment(**variables: str) -> dict[str, str]:
    """This environment with nnU-Net's variables replaced by these; the trainers of this repository are found."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("nnUNet_")}
    return kept | {"nnUNet_extTrainer": str(_TRAINERS)} | variables


def _doctor_json(environment: dict[str, str]) -> tuple[int, dict[str, Any]]:
    result = subprocess.run([*_RUN, "--json"], env=environment, capture_output=True, text=True, timeout=120)
    report = json.loads(result.stdout)  # fails if anything else is printed
    return result.returncode, report | {finding["name"]: finding for finding in report["findings"]}


def test_a_whole_environment_can_train(tmp_path: Path) -> None:
    for name in _FOLDERS:
        (tmp_path / name).mkdir()
    code, report = _doctor_json(_environment(**{name: str(tmp_path / name) for name in _FOLDERS}))
    assert (code, report["can_train"]) == (0, True)
    assert "MISSUTrainer" in report["trainer"]["value"]
    assert report["worker process"]["value"] == "spawned"
    assert report["operators"]["value"].startswith("one training step of a tiny MISSU on")
    assert "datasets" in report["extras"]["value"]
    assert report["nnUNet_raw"]["value"].startswith(str(tmp_path / "nnUNet_raw"))


def test_each_fault_has_a_remedy_and_the_exit_code_is_2(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    code, report = _doctor_json(_environment(nnUNet_preprocessed=str(absent)))
    assert (code, report["can_train"]) == (2, False)
    assert report["nnUNet_raw"]["status"] == "warning"  # a training does not read it
    assert report["nnUNet_preprocessed"]["status"] == "fault"
    assert str(absent) in report["nnUNet_preprocessed"]["remedy"]
    assert report["nnUNet_results"]["value"] == "not set"
    assert all(finding["remedy"] for finding in report["findings"] if finding["status"] != "ok")


def test_text_shows_what_json_shows() -> None:
    result = subprocess.run(_RUN, env=_environment(), capture_output=True, text=True, timeout=120)
    assert result.returncode == 2
    assert "fault    nnUNet_results       not set" in result.stdout
    assert "export nnUNet_results=FOLDER" in result.stdout
    assert result.stdout.endswith("\nnot ready\n")


@pytest.mark.parametrize("kind", ["ImportError", "OSError"])
def test_a_torch_that_cannot_be_imported_is_a_fault(tmp_path: Path, kind: str) -> None:
    (tmp_path / "torch.py").write_text(f"raise {kind}('libcudart.so.12: cannot open shared object file')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    code, report = _doctor_json(_environment(PYTHONPATH=path))
    assert code == 2
    assert report["device"]["value"] == "torch cannot be imported (libcudart.so.12: cannot open shared object file)"


def test_an_operator_that_the_device_lacks_is_named() -> None:
    finding = operators("mps")  # which is not here
    assert finding.status == "warning"
    assert "PYTORCH_ENABLE_MPS_FALLBACK=1" in finding.remedy


def test_a_compiler_that_fails_is_found_where_nnunet_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(network: object) -> None:
        raise RuntimeError("Cannot find a working triton installation.\nMore")

    monkeypatch.setattr("torch.compile", fail)
    finding = compiled("cpu")
    assert (finding.status, finding.remedy) == ("fault", "export nnUNet_compile=f")
    assert "CUDA only" in compilation("cpu").value
    monkeypatch.setenv("nnUNet_compile", "f")
    assert compilation("cuda").value == "not used, nnUNet_compile=f"


def test_a_process_that_cannot_be_spawned_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multiprocessing.spawn._python_exe", b"/no/such/python")
    finding = worker()
    assert finding.status == "fault"
    assert "ulimit -u" in finding.remedy


def test_extras_are_those_of_the_distribution() -> None:
    missing = missing_libraries()
    assert {"cluster", "datasets", "export", "benchmark"} <= set(missing)
    assert "test" not in missing


@pytest.mark.parametrize(("version", "status"), [("2.8.1", "ok"), ("2.10", "ok"), ("2.7.0", "fault"), ("3.0", "fault")])
def test_nnunet_version(version: str, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = tmp_path / f"nnunetv2-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: nnunetv2\nVersion: {version}\n")
    monkeypatch.syspath_prepend(tmp_path)  # found before the installed one
    finding = next(finding for finding in examine() if finding.name == "nnU-Net")
    assert finding.status == status
    assert version in finding.value
    assert bool(finding.remedy) == (status == "fault")
