"""Exports a trained model as a folder that segments images on its own, without nnU-Net and PyTorch."""

import shutil
from pathlib import Path
from typing import Any

from nnunetv2.configuration import ANISO_THRESHOLD

from missu_nnunet import __version__
from missu_nnunet.datasets.readers import reorients
from missu_nnunet.errors import InputError
from missu_nnunet.files import PARTIAL, check_is_new, make_folder, write_json
from missu_nnunet.nnunet.fold import FINAL_CHECKPOINT
from missu_nnunet.nnunet.labels import output_names
from missu_nnunet.nnunet.model import folds_with
from missu_nnunet.nnunet.plans import malformed_plan_named
from missu_nnunet.weights.export import TrainedNetwork, export_onnx, trained_network

_RUNNER = Path(__file__).with_name("standalone.py")
_REQUIREMENTS = "numpy\nscipy\nonnxruntime\nSimpleITK\n"
_READERS = ("SimpleITKIO", "SimpleITKIOWithReorient", "NibabelIO", "NibabelIOWithReorient", "NaturalImage2DIO")
_SCHEMES = (
    "ZScoreNormalization",
    "CTNormalization",
    "RescaleTo01Normalization",
    "RGBTo01Normalization",
    "NoNormalization",
)


def export_bundle(source: Path, out: Path, card: str) -> str:
    """Write an ONNX network for each fold, ``predict.py``, its numbers in ``model.json``, and ``requirements.txt``.

    Args:
        source: a checkpoint, or a trained model's folder, of which those finished folds are used that predict together.
        out: the folder to write.
        card: text of the folder's ``README.md``; empty for none.

    Returns:
        One line on what was written.

    Raises:
        InputError: if the source cannot be used or needs what ``predict.py`` cannot do, or if ``out`` exists or cannot
            be written.
        RuntimeError: if an ONNX network and PyTorch give different logits; nothing is kept then.
    """
    check_is_new(out)
    folds = folds_with(source, FINAL_CHECKPOINT)
    files = [fold.final_checkpoint for fold in folds] if source.is_dir() else [source]
    if not files:
        raise InputError(f"{source}: no fold has a {FINAL_CHECKPOINT}; finish a training, or give a checkpoint")
    partial = out.with_name(PARTIAL + out.name)
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    make_folder(partial)
    try:
        networks = []
        for number, file in enumerate(files):
            trained = trained_network(file)
            if not number:
                with malformed_plan_named(file):
                    settings = _settings(trained, file)
            networks.append(f"network_{number}.onnx")
            summary = export_onnx(trained, partial / networks[-1])
        write_json(settings | {"networks": networks}, partial / "model.json")
        shutil.copy(_RUNNER, partial / "predict.py")
        (partial / "requirements.txt").write_text(_REQUIREMENTS, encoding="utf-8")
        if card:
            (partial / "README.md").write_text(card, encoding="utf-8", errors="backslashreplace")
        partial.replace(out)
    except OSError as error:
        raise InputError(
            f"{out}: cannot be written ({error.strerror or error}); make room there, or choose another place"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return f"{len(networks)} network{'s' if len(networks) > 1 else ''}; {summary}"


def _settings(trained: TrainedNetwork, file: Path) -> dict[str, Any]:
    """The numbers of ``model.json``.

    Raises:
        InputError: if the plan does what ``predict.py`` cannot.
    """
    plans, configuration = trained.plans_manager, trained.configuration_manager
    init_args = trained.checkpoint["init_args"]
    labels = plans.get_label_manager(init_args["dataset_json"])
    reader = plans.plans["image_reader_writer"]
    contents = configuration.configuration
    resampling = {
        "image": contents["resampling_fn_data_kwargs"],
        "logits": contents["resampling_fn_probabilities_kwargs"],
    }
    functions = {contents["resampling_fn_data"], contents["resampling_fn_probabilities"]}
    unknown = [
        *({reader} - set(_READERS)),
        *({contents["preprocessor_name"]} - {"DefaultPreprocessor"}),
        *(functions - {"resample_data_or_seg_to_shape"}),
        *(set(configuration.normalization_schemes) - set(_SCHEMES)),
        *(f"order_z {kwargs['order_z']}" for kwargs in resampling.values() if kwargs["order_z"]),
    ]
    if configuration.previous_stage_name:
        unknown.append(f"a second stage, after {configuration.previous_stage_name}")
    if unknown:
        raise InputError(
            f"{file}: its plan has {', '.join(unknown)}, which a folder without nnU-Net cannot do; share the model "
            "with nnUNetv2_export_model_to_zip"
        )
    dataset_json = init_args["dataset_json"]
    channel_names = dataset_json.get("channel_names") or dataset_json["modality"]  # as in nnU-Net
    intensities = plans.foreground_intensity_properties_per_channel
    return {
        "made_by": f"missu-nnunet {__version__}",
        "dataset": plans.dataset_name,
        "channels": [channel_names[key] for key in sorted(channel_names, key=int)],
        "file_ending": dataset_json["file_ending"],
        "outputs": output_names(labels),
        "regions": labels.has_regions,
        "labels": [int(label) for label in (labels.regions_class_order if labels.has_regions else labels.all_labels)],
        "reorient": reorients(reader),
        "photograph": reader == "NaturalImage2DIO",
        "transpose_forward": list(plans.transpose_forward),
        "transpose_backward": list(plans.transpose_backward),
        "spacing": list(configuration.spacing),
        "patch_size": [int(size) for size in configuration.patch_size],
        "mirror_axes": list(trained.checkpoint.get("inference_allowed_mirroring_axes") or []),
        "normalization": [
            {"scheme": scheme, "mask": mask} | (intensities[str(channel)] if scheme == "CTNormalization" else {})
            for channel, (scheme, mask) in enumerate(
                zip(configuration.normalization_schemes, configuration.use_mask_for_norm, strict=True)
            )
        ],
        "resampling": {
            name: {
                "order": kwargs["order"],
                "force_separate_z": kwargs["force_separate_z"],
                "anisotropy_threshold": kwargs.get("separate_z_anisotropy_threshold", ANISO_THRESHOLD),
            }
            for name, kwargs in resampling.items()
        },
    }
