"""The table of plans: from a stored fingerprint to what nnU-Net's planner and ours make of it."""

import json
from pathlib import Path

import pytest

from plans import FINGERPRINTS, describe, plan


def test_one_dataset_through_both_planners(nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    stored = json.loads((FINGERPRINTS / "chaos_mr.json").read_text())
    stock, missu = (plan(stored, planner)["2d"] for planner in ("ExperimentPlanner", "MISSUPlanner"))
    assert stock.patch_size == missu.patch_size == [256, 256]
    assert describe(stock).startswith("33.5 M; 14.8 GMAC; 49 × 256×256")
    assert "256 tokens of 512, 2 of 7 stages below" in describe(missu)
    assert missu.macs < 1.23 * stock.macs
    assert not list((nnunet_folders / "nnUNet_raw").glob("Dataset999*"))
