"""``missu demo``: its folder, its steps and its failures. The whole chain runs in continuous integration."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import wait_until_gone
from result_folders import write_image

from missu_nnunet import __version__
from missu_nnunet.datasets.phantom import CHANNELS, LABELS, generate_phantom
from missu_nnunet.demo import Demo, Step
from missu_nnunet.errors import InputError

_MARKER = "missu-demo.json"


def _missu_demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from missu_nnunet.cli.main import main; main()", "demo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_negative_seed_is_refused(tmp_path: Path) -> None:
    result = _missu_demo("--out", str(tmp_path / "demo"), "--seed", "-1")
    assert result.returncode == 2
    assert not (tmp_path / "demo").exists()


def test_foreign_folder_is_refused_in_one_line_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    result = _missu_demo("--out", str(tmp_path))
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "is not a demo's folder" in result.stderr
    assert _contents(tmp_path) == {"thesis.txt": b"years of work"}


def test_what_was_removed_is_made_again_with_what_follows(tmp_path: Path) -> None:
    steps = ["phantoms", "convert", "plan", "train", "predict", "evaluate"]
    (tmp_path / _MARKER).write_text(json.dumps({"seed": 0, "version": __version__, "finished": steps}))
    demo = Demo(tmp_path, seed=0)
    for name in ("imagesTs", "dataset.json"):
        (demo.raw / name).mkdir(parents=True)
    demo.predictions.mkdir()
    assert [name for name in steps if demo.is_finished(name)] == ["convert", "predict"]  # the latter of no case
    with pytest.raises(InputError, match="'convert' failed"):
        list(demo.run(Step("convert", (sys.executable, "-c", "raise SystemExit(1)"), None)))
    assert [name for name in steps if Demo(tmp_path, seed=0).is_finished(name)] == []


def test_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("text")
    with pytest.raises(InputError, match="is not a demo's folder"):
        Demo(file, seed=0)


@pytest.mark.parametrize("state", ["{", "[]", '{"seed": 0}'])
def test_broken_marker_is_refused(tmp_path: Path, state: str) -> None:
    (tmp_path / _MARKER).write_text(state)
    with pytest.raises(InputError, match="is not a demo's state"):
        Demo(tmp_path, seed=0)
    assert (tmp_path / _MARKER).read_text() == state


def test_other_seed_is_refused_and_the_demo_left_alone(tmp_path: Path) -> None:
    Demo(tmp_path, seed=0)
    before = _contents(tmp_path)
    result = _missu_demo("--out", str(tmp_path), "--seed", "1")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "of seed 0 by" in result.stderr
    assert _contents(tmp_path) == before


def test_other_version_is_refused(tmp_path: Path) -> None:
    Demo(tmp_path, seed=0)
    marker = tmp_path / _MARKER
    marker.write_text(marker.read_text().replace(__version__, "0.0.1"))
    with pytest.raises(InputError, match=r"0\.0\.1"):
        Demo(tmp_path, seed=0)


def test_phantoms_are_written_once_and_half_written_ones_again(tmp_path: Path) -> None:
    demo = Demo(tmp_path, seed=0)
    demo.phantoms.mkdir()  # a run was stopped while it wrote
    demo.write_phantoms()
    written = (demo.phantoms / "dataset.json").stat().st_mtime_ns
    again = Demo(tmp_path, seed=0)
    assert again.is_finished("phantoms")
    again.write_phantoms()
    assert (demo.phantoms / "dataset.json").stat().st_mtime_ns == written


def test_finished_step_is_remembered(tmp_path: Path) -> None:
    demo = Demo(tmp_path, seed=0)
    step = Step("print", (sys.executable, "-c", "import os; print(os.environ['nnUNet_raw'])"), None)
    first, *_ = demo.run(step)
    assert first == f"{tmp_path / 'nnUNet_raw'}\n"
    assert f"{tmp_path / 'nnUNet_raw'}\n" in demo.log(step).read_text()
    assert Demo(tmp_path, seed=0).is_finished("print")


def test_failed_step_names_command_and_log_and_runs_again_from_scratch(tmp_path: Path) -> None:
    demo = Demo(tmp_path, seed=0)
    output = tmp_path / "output"
    # Fails where it finds what an earlier run left.
    code = "import pathlib, sys; pathlib.Path(sys.argv[1]).mkdir(); sys.exit(3)"
    step = Step("break", (sys.executable, "-c", code, str(output)), output)
    for _ in range(2):
        with pytest.raises(InputError) as caught:
            list(demo.run(step))
        message = str(caught.value)
        assert "demo step 'break' failed (exit code 3)" in message
        assert str(demo.log(step)) in message
        assert "\n" not in message
        assert "FileExistsError" not in demo.log(step).read_text()
    assert not Demo(tmp_path, seed=0).is_finished("break")


def test_abandoned_step_leaves_no_process(tmp_path: Path) -> None:
    demo = Demo(tmp_path, seed=0)
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    lines = demo.run(Step("sleep", (sys.executable, "-c", code), None))
    process = int(next(lines))
    lines.close()
    wait_until_gone([process])
    assert not demo.is_finished("sleep")


def test_failing_nnunet_command_ends_the_demo_with_one_line(tmp_path: Path) -> None:
    demo = Demo(tmp_path, seed=0)
    demo.write_phantoms()
    (demo.phantoms / "dataset.json").write_text("{")
    result = _missu_demo("--out", str(tmp_path))
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "demo step 'convert' failed" in result.stderr
    assert "JSONDecodeError" in (tmp_path / "logs" / "convert.log").read_text()


def test_missing_nnunet_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(InputError, match="nnUNetv2_convert_MSD_dataset: not found in"):
        Demo(tmp_path / "demo", seed=0).steps()


def test_interrupted_training_continues(tmp_path: Path) -> None:
    demo = Demo(tmp_path, seed=0)
    train = {step.name: step for step in demo.steps()}["train"]
    assert "--c" not in train.command
    demo.fold.folder.mkdir(parents=True)
    train = {step.name: step for step in demo.steps()}["train"]
    assert "--c" in train.command
    assert train.output is None  # nothing of it is removed


def test_dice_is_read_by_case_and_structure(tmp_path: Path) -> None:
    demo = Demo(tmp_path, seed=0)
    cases = [
        {"prediction_file": f"p_{case}.nii.gz", "metrics": {str(value): {"Dice": value + case} for value in (1, 2, 3)}}
        for case in (0, 10)
    ]
    demo.predictions.mkdir()
    (demo.predictions / "summary.json").write_text(json.dumps({"metric_per_case": cases}))
    assert demo.dice() == {
        "p_0": {"nucleus": 1, "shell": 2, "vessel": 3},
        "p_10": {"nucleus": 11, "shell": 12, "vessel": 13},
    }


def test_pictures_and_report_of_its_own_result(tmp_path: Path) -> None:
    """The pictures name both channels; the page is the trained model's, and its images are found."""
    demo = Demo(tmp_path, seed=0)
    for number, part, predicted in ((0, "Tr", demo.fold.validation), (1, "Ts", demo.predictions)):
        name = f"phantom_{number:03d}"
        case = generate_phantom(np.random.default_rng(number))
        reference = demo.phantoms / f"labels{part}" / f"{name}.nii.gz"
        for file in (reference, predicted / f"{name}.nii.gz"):
            write_image(case.labels, file)
        for channel, values in enumerate(case.image):
            write_image(values, demo.raw / f"images{part}" / f"{name}_{channel:04d}.nii.gz")
        scored = {
            "reference_file": str(reference),
            "prediction_file": str(predicted / reference.name),
            "metrics": {str(label): {"Dice": 1.0} for label in (1, 2, 3)},
        }
        (predicted / "summary.json").write_text(json.dumps({"metric_per_case": [scored]}))
    channels = {str(number): name for number, name in enumerate(CHANNELS)}
    content = {"channel_names": channels, "labels": LABELS, "numTraining": 1, "file_ending": ".nii.gz"}
    (demo.fold.folder.parent / "dataset.json").write_text(json.dumps(content))
    demo.draw_overlays()
    assert (demo.overlays / "phantom_001.png").is_file()
    demo.write_report()
    page = demo.report.read_text(encoding="utf-8")
    assert "No image of this case was found" not in page
    assert all(f", {name}: image" in page for name in CHANNELS)
    assert "nucleus 1.000, shell 1.000, vessel 1.000" in page
