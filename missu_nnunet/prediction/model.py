"""Loads trained models for prediction."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from nnunetv2.configuration import default_num_processes
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from missu_nnunet.errors import InputError
from missu_nnunet.files import check_is_file
from missu_nnunet.nnunet.checkpoint import check_weights, read_checkpoint
from missu_nnunet.nnunet.dataset import DATASET_FILE
from missu_nnunet.nnunet.fold import Fold
from missu_nnunet.nnunet.model import PLANS_FILE, folds_with, read_model
from missu_nnunet.nnunet.plans import find_configuration, malformed_plan_named
from missu_nnunet.prediction.engines.choice import EngineError, network_on
from missu_nnunet.prediction.predictor import ObservedPredictor
from missu_nnunet.prediction.temperature import FILE as CALIBRATION_FILE
from missu_nnunet.prediction.temperature import read_temperature
from missu_nnunet.text import last_line


def load_model(
    folder: Path,
    *,
    folds: Sequence[str],
    checkpoint: str,
    device: str,
    engine: str,
    tta: bool,
    step: float,
    uncertainty: bool,
    on_window: Callable[[float], None],
) -> ObservedPredictor:
    """Load a trained model with the settings of ``nnUNetv2_predict``.

    Args:
        folder: the model's folder, ``Trainer__Plans__configuration``.
        folds: names of the folds, as ``choose_folds`` gives them.
        checkpoint: name of the checkpoints' files.
        device: "cuda", "cpu" or "mps".
        engine: engine that runs the network, as ``missu_nnunet.prediction.engines.choice.choose_engine`` gives it.
        tta: whether to mirror at test time, along the axes that the training allows.
        step: step of the sliding window, as a share of the patch.
        uncertainty: whether to keep the posterior, which is calibrated where the model is.
        on_window: function that is called after each window, see ``ObservedPredictor``.

    Raises:
        InputError: if the folder is not a model's; if its plans lack what a prediction needs; if a fold or checkpoint
            is missing, broken or would run code; if the model is the second stage of a cascade; or if the device is
            not there.
        EngineError: if the engine cannot run the network.
    """
    plans, _ = read_model(folder)  # refuses what nnU-Net would run
    _check_device(device)
    for fold in folds:
        _check_checkpoint(Fold.of(folder, fold).folder / checkpoint, PlansManager(plans), folder / PLANS_FILE)
    # As nnUNetv2_predict sets them: another number of threads could change the last bit.
    torch.set_num_threads(multiprocessing.cpu_count() if device == "cpu" else 1)
    with contextlib.redirect_stdout(io.StringIO()):  # what nnU-Net says of its defaults
        predictor = ObservedPredictor(
            uncertainty=uncertainty,
            temperature=read_temperature(folder) or 1.0,
            on_window=on_window,
            tile_step_size=step,
            use_mirroring=tta,
            device=torch.device(device),
            allow_tqdm=False,
        )
        try:
            predictor.initialize_from_trained_model_folder(str(folder), folds, checkpoint)
        except Exception as error:  # a plan or a trainer that does not fit can raise anything
            raise InputError(
                f"{folder}: nnU-Net cannot load this model ({error}); missu doctor says whether its trainer is found"
            ) from error
    _check_use(predictor, folder / PLANS_FILE)
    if stage := predictor.configuration_manager.previous_stage_name:
        raise InputError(
            f"{folder}: the second stage of a cascade, which needs predictions of {stage}; run nnUNetv2_predict for "
            "both stages, with -prev_stage_predictions for this one"
        )
    _swap_network(predictor, engine)
    return predictor


def choose_folds(folder: Path, folds: Sequence[str], checkpoint: str) -> list[str]:
    """Choose the folds of a trained model to predict with, by nnU-Net's names: those given, or ``folds_with``.

    Args:
        folder: the model's folder.
        folds: numbers of the folds, or "all"; it may be empty.
        checkpoint: name of the checkpoints' files.

    Raises:
        InputError: if a fold is no number, or there is none.
    """
    found = [fold.name for fold in folds_with(folder, checkpoint)]
    chosen = list(dict.fromkeys(map(_fold, folds or found)))
    if not chosen:
        read_model(folder)  # which names what is missing where this is no model at all
        raise InputError(f"{folder}: no fold has a {checkpoint}; finish a training or name another with --checkpoint")
    return chosen


def files_of(folder: Path, folds: Sequence[str], checkpoint: str) -> list[Path]:
    """Name the files of a model on which its predictions depend.

    Args:
        folder: the model's folder.
        folds: names of the folds, as ``choose_folds`` gives them.
        checkpoint: name of the checkpoints' files.

    Raises:
        InputError: if a checkpoint is missing.
    """
    checkpoints = [Fold.of(folder, fold).folder / checkpoint for fold in folds]
    for file in checkpoints:
        check_is_file(file, "name folds and a checkpoint that are there with --folds and --checkpoint")
    others = (folder / name for name in (DATASET_FILE, PLANS_FILE, CALIBRATION_FILE))
    return [*checkpoints, *(file for file in others if file.is_file())]


def _check_checkpoint(file: Path, plans: PlansManager, source: Path) -> None:
    """Refuse a checkpoint of which nnU-Net would run whatever it holds, or that does not belong to the plans."""
    checkpoint = read_checkpoint(file, str(file))
    check_weights(checkpoint["network_weights"], str(file))
    configuration = find_configuration(plans, checkpoint["init_args"]["configuration"], source)
    axes, dimensions = checkpoint.get("inference_allowed_mirroring_axes"), range(len(configuration.patch_size))
    if axes is None:
        return
    known = isinstance(axes, list | tuple) and all(type(axis) is int and axis in dimensions for axis in axes)
    if not known or len(set(axes)) != len(axes) or not axes:
        raise InputError(
            f"{file}: inference_allowed_mirroring_axes is {axes!r}, expected None or some of {[*dimensions]}, each "
            "once; fetch the checkpoint again"
        )


def _check_use(predictor: ObservedPredictor, plans_file: Path) -> None:
    """Refuse plans from which a network can be built, but that nnU-Net would trip over with the first case."""
    plans, spacing = predictor.plans_manager, [9.0, 1.0, 1.0]
    with malformed_plan_named(plans_file):
        _ = plans.transpose_forward, plans.transpose_backward, plans.image_reader_writer_class
        predictor.configuration_manager.resampling_fn_probabilities(
            np.zeros((1, 2, 2, 2), np.float32), (3, 3, 3), spacing, spacing
        )


def _swap_network(predictor: ObservedPredictor, engine: str) -> None:
    """Put the engine's network in the place of PyTorch's."""
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    channels = determine_num_input_channels(plans, configuration, predictor.dataset_json)
    # nnU-Net predicts with no more threads than it has processes.
    threads = min(torch.get_num_threads(), default_num_processes)
    try:
        network = network_on(engine, predictor.network, (1, channels, *configuration.patch_size), threads)
        if network is not predictor.network:  # PyTorch's has its weights
            network.load_state_dict(predictor.list_of_parameters[0])  # what cannot be compiled shows here
    except InputError:
        raise
    except Exception as error:  # engines raise whatever they like
        raise EngineError(engine, last_line(error)) from error
    predictor.network = network


def check_ensemble(predictors: Sequence[ObservedPredictor], models: Sequence[Path]) -> None:
    """Make sure that several models read the same images in the same way and give the same classes.

    Args:
        predictors: the loaded models.
        models: folders of the models, for messages.

    Raises:
        InputError: if they do not.
    """

    def described(predictor: ObservedPredictor) -> dict[str, object]:
        dataset_json = predictor.dataset_json
        keys = ("labels", "channel_names", "file_ending", "regions_class_order")
        # Readers turn the voxels in different ways, so that the probabilities of two would not lie on each other.
        reader = predictor.plans_manager.image_reader_writer_class.__name__
        return {key: dataset_json.get(key) for key in keys} | {"image_reader_writer": reader}

    first = described(predictors[0])
    for predictor, model in zip(predictors[1:], models[1:], strict=True):
        for key, value in described(predictor).items():
            if value != first[key]:
                raise InputError(
                    f"{model}: its {key} is {value}, that of {models[0]} is {first[key]}; only models that read "
                    "the same images in the same way and give the same classes can be an ensemble"
                )


def _fold(text: str) -> str:
    """Return the fold as nnU-Net names its folder: what is checked must be what nnU-Net loads."""
    if text != "all" and not re.fullmatch("[0-9]{1,3}", text):
        raise InputError(f"fold {text}: expected a number such as 0, or all; give those to use with --folds")
    return text if text == "all" else str(int(text))


def _check_device(device: str) -> None:
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device):
        names = ", ".join(name for name, present in there.items() if present)
        raise InputError(f"--device {device}: not there, expected one of {names}")
