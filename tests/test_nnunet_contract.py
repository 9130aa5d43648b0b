"""What this package relies on in nnU-Net beyond its documented interface, who relies on it, and for what.

When a new nnU-Net release fails here, the message names the file of this package to look at first.
"""

import ast
import inspect
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.training.logging.nnunet_logger import LocalLogger, MetaLogger
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

REPOSITORY = Path(__file__).parents[1]

LIBRARIES = ("nnunetv2", "dynamic_network_architectures", "batchgenerators")


def imported_names() -> Iterator[tuple[str, str, str]]:
    """Module, name and the file of this package that imports it, of everything imported from nnU-Net's libraries."""
    for file in sorted(REPOSITORY.glob("missu_nnunet/**/*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in LIBRARIES:
                yield from ((node.module, alias.name, str(file.relative_to(REPOSITORY))) for alias in node.names)


SIGNATURES = [
    (nnUNetTrainer.__init__, ["self", "plans", "configuration", "fold", "dataset_json", "device"], "trainer.py"),
    (
        nnUNetTrainer.build_network_architecture,
        [
            "plans_manager",
            "configuration_manager",
            "num_input_channels",
            "num_output_channels",
            "enable_deep_supervision",
        ],
        "trainer.py",
    ),
    (nnUNetTrainer.train_step, ["self", "batch"], "trainer.py"),
    (nnUNetTrainer.on_train_epoch_end, ["self", "train_outputs"], "trainer.py"),
    (nnUNetTrainer.save_checkpoint, ["self", "filename"], "trainer.py"),
    (nnUNetTrainer.load_checkpoint, ["self", "filename_or_checkpoint"], "trainer.py"),
    (nnUNetTrainer.configure_optimizers, ["self"], "trainer.py"),
    (nnUNetTrainer._get_deep_supervision_scales, ["self"], "trainer.py"),
    (nnUNetTrainer._build_loss, ["self"], "trainer.py"),
    (nnUNetTrainer.do_split, ["self"], "trainer.py"),
    (
        PolyLRScheduler.__init__,
        ["self", "optimizer", "initial_lr", "max_steps", "exponent", "current_step"],
        "lr_schedule.py",
    ),
    (MetaLogger.log, ["self", "key", "value", "step"], "trainer.py"),
    (LocalLogger.plot_progress_png, ["self", "output_folder"], "logger.py"),
    (
        ExperimentPlanner.static_estimate_VRAM_usage,
        ["patch_size", "input_channels", "output_channels", "arch_class_name", "arch_kwargs", "arch_kwargs_req_import"],
        "planners.py",
    ),
    (ExperimentPlanner.generate_data_identifier, ["self", "configuration_name"], "planners.py"),
]

SOURCES = [
    (nnUNetTrainer.initialize, "self.build_network_architecture(", "trainer.py attaches the teachers there"),
    (nnUNetTrainer.initialize, "self.configure_optimizers()", "trainer.py makes the optimiser after the teachers"),
    (nnUNetTrainer.save_checkpoint, "torch.save(checkpoint, filename)", "trainer.py hands a buffer over"),
    (nnUNetTrainer.save_checkpoint, "mod.state_dict()", "self_distillation.py answers with the inference network's"),
    (nnUNetTrainer.set_deep_supervision_enabled, "mod.decoder.deep_supervision", "self_distillation.py has a decoder"),
    (nnUNetTrainer.on_train_start, "self.get_dataloaders()", "trainer.py restores the random state after it"),
    (ExperimentPlanner.get_plans_for_configuration, "self.static_estimate_VRAM_usage(", "planners.py estimates there"),
    (UNetDecoder.forward, "torch.cat((x, skips[-(s+2)]), 1)", "missu.py repeats the decoder's order of operations"),
]


def _name(value: object) -> str:
    return getattr(value, "__qualname__", "")


@pytest.mark.parametrize(("module", "name", "user"), list(imported_names()))
def test_import(module: str, name: str, user: str) -> None:
    try:
        found = import_module(module)
    except ImportError as error:
        pytest.fail(f"{module} cannot be imported any more ({error}); see {user}")
    assert hasattr(found, name), f"{module} has no {name} any more; see {user}"


@pytest.mark.parametrize(("function", "parameters", "user"), SIGNATURES, ids=_name)
def test_signature(function: Callable, parameters: list[str], user: str) -> None:
    found = list(inspect.signature(function).parameters)
    assert found == parameters, f"{function.__qualname__} changed its parameters; see {user}"


@pytest.mark.parametrize(("function", "code", "use"), SOURCES, ids=_name)
def test_source(function: Callable, code: str, use: str) -> None:
    assert code in inspect.getsource(function), f"{function.__qualname__} no longer has `{code}`: {use}"


def test_log_keys_are_a_dictionary_of_lists() -> None:
    assert all(isinstance(values, list) for values in LocalLogger().my_fantastic_logging.values()), "see logger.py"


def test_loss_of_one_resolution_is_within_the_deep_supervision_wrapper() -> None:
    loss = DeepSupervisionWrapper(abs, [1.0])
    assert loss.loss is abs, "see trainer.py, _build_loss"


def test_networks_are_built_from_keyword_arguments_of_the_plan() -> None:
    parameters = list(inspect.signature(get_network_from_plans).parameters)
    assert parameters[:6] == [
        "arch_class_name",
        "arch_kwargs",
        "arch_kwargs_req_import",
        "input_channels",
        "output_channels",
        "allow_init",
    ], "see trainer.py and planners.py"
