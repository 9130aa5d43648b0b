"""How the study of long trainings reads what was seen."""

from pathlib import Path

import pytest
from stability import WATCHED, print_epochs, watched_epochs


def test_an_epoch_that_was_trained_again_counts_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken, continued = (tmp_path / f"training_log_{part}.txt" for part in (1, 2))
    broken.write_text(f'x: {WATCHED}{{"epoch": 0.0, "loss": 1}}\nEpoch 1\ny: {WATCHED}{{"epoch": 1.0, "loss": 5}}\n')
    continued.write_text(f'z: {WATCHED}{{"epoch": 1.0, "loss": 0.123456}}\n')
    epochs = watched_epochs([broken, continued])
    assert epochs == [{"epoch": 0, "loss": 1}, {"epoch": 1, "loss": 0.123456}]
    print_epochs([{"arm": "planned", "run": 1} | epoch for epoch in epochs])
    assert capsys.readouterr().out.splitlines()[-1] == "| planned | 1 | 1 | 0.1235 |"
