"""``missu inspect`` and ``missu weights``, as users run them."""

import json
import re
import stat
import sys
from pathlib import Path

import pytest
import torch
from checkpoints import dataset_json, initialized, saved, tiny_plans, train_epoch, write_plans
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from tiny_dataset import LABELS
from validation_folder import write_validation

from missu_nnunet.training.trainer import MISSUTrainer


@pytest.fixture
def checkpoint(nnunet_folders: Path, tmp_path: Path) -> Path:
    return saved(initialized(MISSUTrainer, tiny_plans(), dataset_json()), tmp_path / "missu.pth")


@pytest.fixture
def stock_checkpoint(nnunet_folders: Path, tmp_path: Path) -> Path:
    return saved(initialized(nnUNetTrainer, tiny_plans(), dataset_json()), tmp_path / "stock.pth")


def test_inspect_prints_what_a_checkpoint_holds(missu, checkpoint: Path) -> None:
    done = missu("inspect", checkpoint)
    assert done.returncode == 0
    for text in ("MISSUTrainer", "nnUNetPlans", "3d_fullres", "size of network_weights", "MiB", "w_kd "):
        assert text in done.stdout


def test_inspect_prints_the_metrics_of_the_last_epoch(missu, nnunet_folders: Path, tmp_path: Path) -> None:
    trainer = initialized(MISSUTrainer, tiny_plans(), dataset_json())
    train_epoch(trainer)
    done = missu("inspect", saved(trainer, tmp_path / "missu.pth"))
    assert done.returncode == 0
    loss, dice = (float(trainer.logger.get_value(key, 0)) for key in ("train_losses", "mean_fg_dice"))
    output = " ".join(done.stdout.split())
    assert f"mean_fg_dice {dice:.4g}, " in output
    assert f"train_losses {loss:.4g}, " in output


def test_inspect_prints_json(missu, stock_checkpoint: Path) -> None:
    done = missu("inspect", stock_checkpoint, "--json")
    (inspection,) = json.loads(done.stdout)
    assert done.returncode == 0
    assert (inspection["trainer"], inspection["missu_version"]) == ("nnUNetTrainer", None)


def test_inspect_prints_untrusted_text_as_text(missu, checkpoint: Path, tmp_path: Path) -> None:
    content = torch.load(checkpoint, weights_only=False) | {"trainer_name": "[/red]\x1b[2J\n[bold]Trainer"}
    torch.save(content, tmp_path / "stranger.pth")
    done = missu("inspect", tmp_path / "stranger.pth")
    assert done.returncode == 0
    assert "[/red]\\x1b[2J\\n[bold]Trainer" in done.stdout
    assert "\x1b" not in done.stdout


def test_inspect_refuses_with_one_line_and_exit_code_2(missu, checkpoint: Path, tmp_path: Path) -> None:
    torch.save(torch.load(checkpoint, weights_only=False) | {"run": print}, tmp_path / "stranger.pth")
    done = missu("inspect", tmp_path / "stranger.pth")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "print, which no checkpoint" in done.stderr


def test_adapt_says_what_became_of_the_channels(missu, checkpoint: Path, tmp_path: Path) -> None:
    plans_file = write_plans(tmp_path, tiny_plans(), dataset_json(channels=2))
    done = missu("weights", "adapt", checkpoint, tmp_path / "out.pth", "--plans", plans_file)
    assert done.returncode == 0
    assert "1 became 2" in done.stdout
    assert missu("inspect", tmp_path / "out.pth").returncode == 0


@pytest.mark.parametrize(
    ("stock_plans", "channels", "said"),
    [
        ({}, 1, "first outputs: the stock network's"),
        ({}, 2, "first outputs: differ from the stock network's, because classes or input channels do"),
        ({"n_stages": 4}, 1, "dropped: encoder.stages.3, decoder.stages.0"),
        ({"n_stages": 4}, 1, "first outputs: differ from the stock network's, of which a part was dropped"),
    ],
)
def test_from_nnunet_says_whether_the_first_outputs_are_the_same(
    missu, stock_plans: dict, channels: int, said: str, nnunet_folders: Path, tmp_path: Path
) -> None:
    trainer = initialized(nnUNetTrainer, tiny_plans(**stock_plans), dataset_json())
    stock_checkpoint = saved(trainer, tmp_path / "stock.pth")
    plans_file = write_plans(tmp_path, tiny_plans(), dataset_json(channels))
    done = missu("weights", "from-nnunet", stock_checkpoint, tmp_path / "out.pth", "--plans", plans_file)
    assert done.returncode == 0
    assert said in done.stdout


def test_a_configuration_that_the_plan_lacks_is_refused(missu, checkpoint: Path, tmp_path: Path) -> None:
    plans_file = write_plans(tmp_path, tiny_plans(), dataset_json())
    done = missu("weights", "adapt", checkpoint, tmp_path / "out.pth", "--plans", plans_file, "-c", "2d")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no configuration '2d', found ['3d_fullres']" in done.stderr


def test_export_says_what_it_wrote(missu, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "missu.safetensors"
    done = missu("weights", "export", checkpoint, out)
    assert done.returncode == 0
    assert done.stdout.startswith(f"{out}: ")
    assert stat.S_IMODE(out.stat().st_mode) == stat.S_IMODE(checkpoint.stat().st_mode)


@pytest.mark.parametrize("library", ["onnxscript", "onnxruntime"])
def test_export_names_the_extra_that_is_missing_where_it_is_needed(
    missu, library: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    done = missu("weights", "export", checkpoint, tmp_path / "missu.onnx")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"{library} is not installed: pip install 'missu-nnunet[export]'" in done.stderr
    assert missu("weights", "export", checkpoint, tmp_path / "missu.safetensors").returncode == 0


def test_calibrate_says_what_it_changes(missu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, references = write_validation(tmp_path / "Dataset001_A", LABELS)
    done = missu("weights", "calibrate", model, "--references", references)
    assert done.returncode == 0
    assert f"{model / 'calibration.json'}: temperature " in done.stdout
    before, after = re.search(r"expected calibration error: (\S+) before, (\S+) after", done.stdout).groups()
    assert float(after) < float(before)

    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))  # where nnU-Net keeps them
    assert missu("weights", "calibrate", model).stdout == done.stdout


def test_model_card_is_written_once(missu, nnunet_folders: Path, tmp_path: Path) -> None:
    model = tmp_path / "Dataset904_Checkpoints" / "MISSUTrainer__nnUNetPlans__3d_fullres"
    write_plans(model, tiny_plans(), dataset_json())
    card = tmp_path / "README.md"
    done = missu("model-card", model, "-o", card)
    assert done.returncode == 0
    assert "[More Information Needed]" in done.stdout
    assert "# Model Card for Dataset904_Checkpoints" in card.read_text()
    done = missu("model-card", model, "-o", card)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "exists already" in done.stderr
