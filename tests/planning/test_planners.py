import json
import os
from pathlib import Path

import nnunetv2
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

from missu_nnunet.architecture.configuration import MISSU_CLASS
from missu_nnunet.architecture.missu import MISSU, paper_arch_kwargs
from missu_nnunet.errors import InputError
from missu_nnunet.planning import planners

PLANS_NAMES = {
    "MISSUPlanner": "nnUNetMISSUPlans",
    "MISSUPlannerM": "nnUNetMISSUPlansM",
    "MISSUPlannerL": "nnUNetMISSUPlansL",
    "MISSUPlannerCPU": "nnUNetMISSUPlansCPU",
}
PAPER_PLANS = Path(__file__).parents[2] / "plans" / "nnUNetMISSUPlansPaper.json"


def find_planner(name: str) -> type | None:
    """nnU-Net's own search for ``-pl``."""
    folder = Path(nnunetv2.__path__[0]) / "experiment_planning"
    return recursive_find_python_class(str(folder), name, current_module="nnunetv2.experiment_planning")


def network_of(plans: dict, configuration: str = "3d_fullres") -> MISSU:
    """The network as unmodified nnU-Net builds it from the plan."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(plans)
    return nnUNetTrainer.build_network_architecture(manager, manager.get_configuration(configuration), 1, 3, True)


@pytest.mark.parametrize("name", PLANS_NAMES)
def test_nnunet_finds_the_planner(name: str) -> None:
    assert find_planner(name) is getattr(planners, name)


def test_a_wrong_name_is_refused_with_the_existing_names() -> None:
    with pytest.raises(InputError, match="no planner MISSUPlannerXXL, found MISSUPlanner, MISSUPlannerM"):
        find_planner("MISSUPlannerXXL")


@pytest.mark.parametrize(("name", "plans_name"), PLANS_NAMES.items())
def test_plans_name_missu_and_stock_nnunet_builds_it(name: str, plans_name: str, tiny_dataset: str) -> None:
    getattr(planners, name)(tiny_dataset).plan_experiment()
    file = Path(os.environ["nnUNet_preprocessed"]) / tiny_dataset / f"{plans_name}.json"
    plans = json.loads(file.read_text())
    assert plans["plans_name"] == plans_name
    for configuration in ("2d", "3d_fullres"):
        architecture = plans["configurations"][configuration]["architecture"]
        assert architecture["network_class_name"] == MISSU_CLASS
        kwargs = architecture["arch_kwargs"]
        assert kwargs["transformer"]["embedding_dim"] == 16 * kwargs["features_per_stage"][0]
        network = network_of(plans, configuration)
        patch_size = plans["configurations"][configuration]["patch_size"]
        assert len(network(torch.randn(1, 1, *patch_size))) == kwargs["n_stages"] - 1


def test_residual_encoders_of_the_larger_sizes(tiny_dataset: str) -> None:
    for planner in (planners.MISSUPlannerM, planners.MISSUPlannerL):
        plan = planner(tiny_dataset).plan_experiment()["configurations"]["3d_fullres"]
        # The Transformer stands for more blocks than the third stage has.
        assert plan["architecture"]["arch_kwargs"]["n_blocks_per_stage"] == [1, 3, 1]


def test_memory_target_bounds_the_batch(tiny_dataset: str) -> None:
    def batch_size(target: float) -> int:
        planner = planners.MISSUPlannerM(tiny_dataset, gpu_memory_target_in_gb=target)
        planner.max_dataset_covered = 1000  # the tiny dataset would bound it first
        return planner.plan_experiment()["configurations"]["3d_fullres"]["batch_size"]

    assert batch_size(8) == pytest.approx(2 * batch_size(4), rel=0.02)


def test_the_planned_network_is_what_the_memory_estimate_counts(tiny_dataset: str) -> None:
    plan = planners.MISSUPlanner(tiny_dataset).plan_experiment()["configurations"]["3d_fullres"]
    architecture = plan["architecture"]
    arguments = (architecture["arch_kwargs"], architecture["_kw_requires_import"])
    patch_size = plan["patch_size"]
    planned = planners.MISSUPlanner.static_estimate_VRAM_usage(patch_size, 1, 3, MISSU_CLASS, *arguments)
    network = network_of({"configurations": {"3d_fullres": plan}})
    network.decoder.deep_supervision = False
    assert planned == network.compute_conv_feature_map_size(patch_size)


def test_other_spacing_or_preprocessor_has_data_of_its_own(tiny_dataset: str) -> None:
    default = planners.MISSUPlanner(tiny_dataset)
    assert default.generate_data_identifier("3d_fullres") == "nnUNetPlans_3d_fullres"
    assert default.generate_data_identifier("3d_lowres") == "nnUNetMISSUPlans_3d_lowres"
    for changed in ({"overwrite_target_spacing": [2.0, 2.0, 2.0]}, {"preprocessor_name": "NoResamplingPreprocessor"}):
        other = planners.MISSUPlanner(tiny_dataset, **changed)
        assert other.generate_data_identifier("3d_fullres") == "nnUNetMISSUPlans_3d_fullres"


@pytest.mark.parametrize(("size", "ignore"), [(0.5, 3), (0.5, None), (0.9, 3)])
def test_images_are_normalised_as_a_whole_where_labels_may_be_missing(
    size: float, ignore: int | None, tiny_dataset: str
) -> None:
    planner = planners.MISSUPlanner(tiny_dataset)
    planner.dataset_fingerprint["median_relative_size_after_cropping"] = size  # nnU-Net masks below 0.75
    planner.dataset_json["labels"]["ignore"] = ignore
    masked = size < 0.75 and ignore is None
    schemes, found = planner.determine_normalization_scheme_and_whether_mask_is_used_for_norm()
    assert (schemes, found) == (["ZScoreNormalization"], [masked])
    own = size < 0.75 and not masked
    assert planner.generate_data_identifier("2d") == f"{'nnUNetMISSUPlans' if own else 'nnUNetPlans'}_2d"


def test_paper_plans_hold_the_papers_network() -> None:
    plans = json.loads(PAPER_PLANS.read_text())
    configuration = plans["configurations"]["3d_fullres"]
    assert configuration["patch_size"] == [128, 128, 128]
    assert configuration["batch_size"] == 2
    kwargs = configuration["architecture"]["arch_kwargs"]
    assert {key: kwargs[key] for key in paper_arch_kwargs()} == paper_arch_kwargs()
    assert network_of(plans).state_dict().keys() == MISSU.paper(1, 3).state_dict().keys()
