"""What this package relies on in nnU-Net beyond its documented interface, who relies on it, and for what.

When a new nnU-Net release fails here, the message names the file of this package to look at first.
"""

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.logging.nnunet_logger import LocalLogger, MetaLogger
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.crossval_split import generate_crossval_split
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from missu_nnunet.planning.planners import MISSUPlanner
from missu_nnunet.prediction.predictor import ObservedPredictor
from missu_nnunet.training.logger import SelfDistillationLogger
from missu_nnunet.training.lr_schedule import WarmupPolyLRScheduler
from missu_nnunet.training.trainer import MISSUTrainer

REPOSITORY = Path(__file__).parents[1]

LIBRARIES = ("nnunetv2", "dynamic_network_architectures", "batchgenerators")


def imported_names() -> Iterator[tuple[str, str, str]]:
    """Module, name and the file of this package that imports it, of everything imported from nnU-Net's libraries."""
    for file in sorted(REPOSITORY.glob("missu_nnunet/**/*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in LIBRARIES:
                yield from ((node.module, alias.name, str(file.relative_to(REPOSITORY))) for alias in node.names)


SIGNATURES = [
    (nnUNetTrainer.__init__, "self plans configuration fold dataset_json device", "trainer.py"),
    (
        nnUNetTrainer.build_network_architecture,
        "plans_manager configuration_manager num_input_channels num_output_channels enable_deep_supervision",
        "trainer.py",
    ),
    (nnUNetTrainer.initialize, "self", "trainer.py"),
    (nnUNetTrainer.on_train_start, "self", "trainer.py"),
    (nnUNetTrainer.train_step, "self batch", "trainer.py"),
    (nnUNetTrainer.on_train_epoch_end, "self train_outputs", "trainer.py"),
    (nnUNetTrainer.save_checkpoint, "self filename", "trainer.py"),
    (nnUNetTrainer.load_checkpoint, "self filename_or_checkpoint", "trainer.py"),
    (nnUNetTrainer.configure_optimizers, "self", "trainer.py"),
    (nnUNetTrainer._get_deep_supervision_scales, "self", "trainer.py"),
    (nnUNetTrainer._build_loss, "self", "trainer.py"),
    (nnUNetTrainer.do_split, "self", "trainer.py"),
    (nnUNetTrainer.run_training, "self", "trainer.py"),
    (nnUNetTrainer.on_epoch_end, "self", "trainer.py"),
    (nnUNetTrainer.get_tr_and_val_datasets, "self", "trainer.py"),
    (PolyLRScheduler.__init__, "self optimizer initial_lr max_steps exponent current_step", "lr_schedule.py"),
    (PolyLRScheduler.step, "self current_step", "lr_schedule.py"),
    (MetaLogger.log, "self key value step", "trainer.py"),
    (LocalLogger.__init__, "self verbose", "logger.py"),
    (LocalLogger.log, "self key value epoch", "logger.py"),
    (LocalLogger.plot_progress_png, "self output_folder", "logger.py"),
    (
        ExperimentPlanner.__init__,
        "self dataset_name_or_id gpu_memory_target_in_gb preprocessor_name plans_name overwrite_target_spacing "
        "suppress_transpose",
        "planners.py",
    ),
    (
        ExperimentPlanner.static_estimate_VRAM_usage,
        "patch_size input_channels output_channels arch_class_name arch_kwargs arch_kwargs_req_import",
        "planners.py",
    ),
    (
        ExperimentPlanner.get_plans_for_configuration,
        "self spacing median_shape data_identifier approximate_n_voxels_dataset _cache",
        "planners.py",
    ),
    (ExperimentPlanner.generate_data_identifier, "self configuration_name", "planners.py"),
    (
        ExperimentPlanner.determine_normalization_scheme_and_whether_mask_is_used_for_norm,
        "self",
        "planners.py",
    ),
    (
        nnUNetPredictor.__init__,
        "self tile_step_size use_gaussian use_mirroring perform_everything_on_device device verbose "
        "verbose_preprocessing allow_tqdm",
        "prediction/model.py",
    ),
    (
        nnUNetPredictor.initialize_from_trained_model_folder,
        "self model_training_output_dir use_folds checkpoint_name",
        "prediction/model.py",
    ),
    (nnUNetPredictor.predict_logits_from_preprocessed_data, "self data", "prediction/predictor.py"),
    (nnUNetPredictor.predict_sliding_window_return_logits, "self input_image", "prediction/predictor.py"),
    (
        nnUNetPredictor._internal_predict_sliding_window_return_logits,
        "self data slicers do_on_device",
        "prediction/predictor.py",
    ),
    (nnUNetPredictor._internal_maybe_mirror_and_predict, "self x", "prediction/predictor.py"),
    (nnUNetPredictor._internal_get_sliding_window_slicers, "self image_size", "prediction/predictor.py"),
    (compute_gaussian, "tile_size sigma_scale value_scaling_factor dtype device", "prediction/predictor.py"),
    (compute_steps_for_sliding_window, "image_size tile_size tile_step_size", "experiments/timing.py"),
    (
        get_trainer_from_args,
        "dataset_name_or_id configuration fold trainer_name plans_identifier continue_training device",
        "experiments/timing.py",
    ),
    (infer_dataset_class, "folder", "nnunet/splits.py"),
    (generate_crossval_split, "train_identifiers seed n_splits", "nnunet/splits.py"),
    (recursive_find_trainer_class_by_name, "trainer_name", "experiments/experiment.py, doctor.py"),
    (
        get_network_from_plans,
        "arch_class_name arch_kwargs arch_kwargs_req_import input_channels output_channels allow_init deep_supervision",
        "trainer.py, planners.py, summary.py, network_costs.py",
    ),
]

SOURCES = [
    (nnUNetTrainer.initialize, "self.build_network_architecture(", "trainer.py attaches the teachers there"),
    (nnUNetTrainer.initialize, "self.configure_optimizers()", "trainer.py makes the optimiser after the teachers"),
    (nnUNetTrainer.save_checkpoint, "torch.save(checkpoint, filename)", "trainer.py hands a buffer over"),
    (nnUNetTrainer.save_checkpoint, "mod.state_dict()", "skip_distillation.py answers with the inference network's"),
    (nnUNetTrainer.set_deep_supervision_enabled, "mod.decoder.deep_supervision", "skip_distillation.py has a decoder"),
    (nnUNetDataLoader.__init__, "self.indices = data.identifiers", "trainer.py repeats labelled cases there"),
    (DC_and_CE_loss.__init__, "self.ce = ", "trainer.py gives it class weights"),
    (DC_and_BCE_loss.__init__, "self.ce = ", "trainer.py gives it class weights"),
    (nnUNetTrainer.on_train_start, "self.get_dataloaders()", "trainer.py restores the random state after it"),
    (ExperimentPlanner.get_plans_for_configuration, "self.static_estimate_VRAM_usage(", "planners.py estimates there"),
    (
        nnUNetPredictor._internal_maybe_mirror_and_predict,
        "itertools.combinations(mirror_axes, i + 1)",
        "predictor.py pairs the network's outputs with these axes",
    ),
    (
        nnUNetPredictor._internal_predict_sliding_window_return_logits,
        "predicted_logits[sl] += prediction",
        "predictor.py adds windows up in the same way",
    ),
    (
        nnUNetPredictor._internal_predict_sliding_window_return_logits,
        "torch.div(predicted_logits, n_predictions, out=predicted_logits)",
        "predictor.py divides class by class",
    ),
    (
        convert_predicted_logits_to_segmentation_with_correct_shape,
        "segmentation = label_manager.convert_logits_to_segmentation(predicted_logits)",
        "segmentation.py finds the same class by class",
    ),
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
def test_signature(function: Callable, parameters: str, user: str) -> None:
    found = list(inspect.signature(function).parameters)
    assert found == parameters.split(), f"{function.__qualname__} changed its parameters; see {user}"


@pytest.mark.parametrize(("function", "code", "use"), SOURCES, ids=_name)
def test_source(function: Callable, code: str, use: str) -> None:
    assert code in inspect.getsource(function), f"{function.__qualname__} no longer has `{code}`: {use}"


def test_log_keys_are_a_dictionary_of_lists() -> None:
    assert all(isinstance(values, list) for values in LocalLogger().my_fantastic_logging.values()), "see logger.py"


def test_loss_of_one_resolution_is_within_the_deep_supervision_wrapper() -> None:
    loss = DeepSupervisionWrapper(abs, [1.0])
    assert loss.loss is abs, "see trainer.py, _build_loss"


@pytest.mark.parametrize(
    "ours", [MISSUTrainer, SelfDistillationLogger, WarmupPolyLRScheduler, MISSUPlanner, ObservedPredictor]
)
def test_every_method_of_nnunet_that_is_overridden_stands_above(ours: type) -> None:
    theirs = next(base for base in ours.__mro__ if base.__module__.startswith("nnunetv2."))
    own = {name for base in ours.__mro__ if base.__module__.startswith("missu_nnunet.") for name in vars(base)}
    overridden = {name for name in own & vars(theirs).keys() if inspect.isfunction(getattr(theirs, name))}
    listed = {function.__qualname__ for function, _, _ in SIGNATURES}
    missing = {f"{theirs.__name__}.{name}" for name in overridden} - listed
    assert not missing, f"{ours.__name__} overrides what is not in SIGNATURES here: {missing}"


def test_every_command_of_nnunet_that_is_run_exists() -> None:
    users = {
        command: file.relative_to(REPOSITORY)
        for file in REPOSITORY.glob("missu_nnunet/**/*.py")
        for command in re.findall(r"[\"'](nnUNetv2_\w+)[\"']", file.read_text(encoding="utf-8"))
    }
    assert {"nnUNetv2_train", "nnUNetv2_predict"} <= users.keys()
    missing = users.keys() - entry_points(group="console_scripts").names
    assert not missing, f"nnU-Net has these commands no more: { {name: str(users[name]) for name in missing} }"
