"""Plans of nnU-Net's own planners, on real images through the real commands."""

import json
import os
import shutil
from pathlib import Path

import pytest
from forked import run

N_CASES = 6


@pytest.fixture(scope="module")
def raw_dataset(hippocampus: Path, nnunet_folders: Path) -> str:
    """A few cases of the Decathlon's Task04, converted by nnU-Net."""
    source = nnunet_folders / "Task04_Hippocampus"
    dataset = json.loads((hippocampus / "dataset.json").read_text())
    dataset |= {"training": dataset["training"][:N_CASES], "numTraining": N_CASES, "test": [], "numTest": 0}
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (source / folder).mkdir(parents=True)
    for case in dataset["training"]:
        for file in case.values():
            shutil.copy(hippocampus / file, source / file)
    (source / "dataset.json").write_text(json.dumps(dataset))
    run("nnUNetv2_convert_MSD_dataset", "-i", source, "-np", 1)
    run("nnUNetv2_extract_fingerprint", "-d", 4, "-np", 1)
    return "Dataset004_Hippocampus"


@pytest.mark.parametrize(
    ("planner", "plans"), [("ExperimentPlanner", "nnUNetPlans"), ("nnUNetPlannerResEncM", "nnUNetResEncUNetMPlans")]
)
def test_missu_trains_on_stock_plans(
    planner: str, plans: str, raw_dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The memory target is the CPU's: it makes the planner choose a small patch and batch.
    with monkeypatch.context() as context:
        context.setenv("nnUNet_n_proc_DA", "1")  # nnU-Net's planners take it for a number of threads: 0 fails
        run("nnUNetv2_plan_experiment", "-d", 4, "-pl", planner, "-gpu_memory_target", 0.1)
    for configuration in ("3d_fullres", "2d"):
        run("nnUNetv2_preprocess", "-d", 4, "-plans_name", plans, "-c", configuration, "-np", 1)
        trainer = "MISSUTrainer_1epochs_2iters"
        run("nnUNetv2_train", 4, configuration, 0, "-tr", trainer, "-p", plans, "-device", "cpu")
        results = Path(os.environ["nnUNet_results"]) / raw_dataset / f"{trainer}__{plans}__{configuration}" / "fold_0"
        assert (results / "checkpoint_final.pth").exists()
        assert json.loads((results / "validation" / "summary.json").read_text())["mean"].keys() == {"1", "2"}
