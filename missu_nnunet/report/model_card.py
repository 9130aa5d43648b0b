"""Writes the model card of a trained model in the form of the Hugging Face Hub, from nnU-Net's files.

What no file says stays "[More Information Needed]", which is how that form asks its author.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from missu_nnunet.errors import InputError
from missu_nnunet.extras import require_extra
from missu_nnunet.nnunet.dataset import RawDataset, read_dataset
from missu_nnunet.nnunet.folders import Model
from missu_nnunet.nnunet.model import folds_of
from missu_nnunet.nnunet.summary import dice_of_cases
from missu_nnunet.prediction.temperature import read_temperature
from missu_nnunet.report.facts import arm_facts, dataset_name
from missu_nnunet.report.training_curves import read_training

_VERSION = "MISSU's version"
"""The name of a fact that only trainings of MISSU have."""

_MISSU_PAPER = """@article{wang2023missu,
  title={MISSU: 3D Medical Image Segmentation via Self-distilling TransUNet},
  author={Wang, Nan and others},
  journal={IEEE Transactions on Medical Imaging},
  volume={42},
  number={9},
  year={2023},
  note={arXiv:2206.00902}
}

"""

_NNUNET_PAPER = """@article{isensee2021nnunet,
  title={nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation},
  author={Isensee, Fabian and Jaeger, Paul F and Kohl, Simon A A and Petersen, Jens and Maier-Hein, Klaus H},
  journal={Nature Methods},
  volume={18},
  number={2},
  pages={203--211},
  year={2021}
}"""


def model_card(model: Path) -> str:
    """Write the card of a trained model, as Markdown with a YAML header.

    Args:
        model: folder of the model, ``Trainer__Plans__configuration`` in nnUNet_results.

    Raises:
        InputError: if the folder is not a model's, or a library of the extra "export" is missing.
    """
    with require_extra("export"):
        import jinja2  # noqa: F401  the template's
        from huggingface_hub import EvalResult, ModelCard, ModelCardData
    if not Model.of(model.resolve()):
        raise InputError(f"{model}: expected a trained model's folder, Trainer__Plans__configuration in nnUNet_results")
    dataset = read_dataset(model)
    name = dataset_name(model) or model.resolve().parent.name
    dice = validation_dice(model, dataset)
    cases = max(map(len, dice.values()), default=0)
    means = {label: float(np.nanmean(scores)) for label, scores in dice.items() if not np.isnan(scores).all()}
    facts = arm_facts(model, read_training(model))
    facts.pop("folder")
    is_missu = _VERSION in facts
    classes = ", ".join(dataset.regions)
    data = ModelCardData(
        library_name="nnunetv2",
        pipeline_tag="image-segmentation",
        tags=["medical-image-segmentation", "nnU-Net", *(["MISSU"] if is_missu else [])],
        metrics=["dice"],
        model_name=f"{name} {model.resolve().name}",
        eval_results=[
            EvalResult(
                task_type="image-segmentation",
                dataset_type=name,
                dataset_name=name,
                dataset_split="cross-validation",
                metric_type="dice",
                metric_name=f"Dice, {label}",
                metric_value=round(mean, 4),
            )
            for label, mean in means.items()
        ],
        ignore_metadata_errors=False,
    )
    temperature = read_temperature(model)
    card = ModelCard.from_template(
        data,
        model_id=f"{name}, {facts.get('trainer', model.name)}",
        model_summary=f"Segments {classes} in images of the channels {', '.join(dataset.channels)}.",
        model_description=(
            f"A model of nnU-Net v2, trained on {name}{f' with missu-nnunet {facts[_VERSION]}' if is_missu else ''}."
        ),
        model_type=_model_type(facts),
        direct_use=f"Research on the segmentation of {classes}.",
        out_of_scope_use=(
            "Clinical decisions: this is no medical device. Images of other channels, scanners, patients or spacings "
            f"than those of {name} have not been tried."
        ),
        get_started_code=(
            f"```bash\npip install missu-nnunet\nmissu predict IMAGES -o PREDICTIONS -m {model.resolve().name}\n```"
        ),
        training_data=f"{name}.",
        preprocessing=f"nnU-Net's, as its plans say: spacing {facts.get('spacing (mm)', 'unknown')}.",
        training_regime=_listed(facts),
        testing_data=f"The validation cases of the folds ({cases} cases): not seen by the fold's network in training.",
        testing_metrics="Mean Dice over cases; a case does not count where a class is neither there nor predicted.",
        results=_table(means, {label: int((~np.isnan(scores)).sum()) for label, scores in dice.items()}),
        results_summary=(
            "" if temperature is None else f"Calibrated by temperature scaling: temperature {temperature:.3f}."
        ),
        hardware_type=facts.get("GPU") or facts.get("device"),
        hours_used=facts.get("training time"),
        software=", ".join(f"{key} {facts[key]}" for key in ("trained with torch", _VERSION) if key in facts),
        citation_bibtex=f"```bibtex\n{_MISSU_PAPER if is_missu else ''}{_NNUNET_PAPER}\n```",
        repo=None,
        paper="arXiv:2206.00902" if is_missu else "arXiv:1904.08128",
    )
    return str(card)


def validation_dice(model: Path, dataset: RawDataset) -> dict[str, np.ndarray]:
    """Read the Dice of every validated case of every fold, by class or region; NaN where there was nothing to score.

    Raises:
        InputError: if the content of a ``summary.json`` is not what nnU-Net writes.
    """
    summaries = [fold.summary for fold in folds_of(model) if fold.summary.is_file()]
    cases = [scores for summary in summaries for scores in dice_of_cases(summary, dataset.regions).values()]
    return {name: np.array([scores[name] for scores in cases], float) for name in dataset.regions}


def _model_type(facts: Mapping[str, str]) -> str:
    parts = [facts.get("configuration", ""), f"patch {facts['patch']}" if "patch" in facts else ""]
    parts.append(f"{facts['parameters at inference']} parameters" if "parameters at inference" in facts else "")
    network = "the network of nnU-Net's plans"
    if _VERSION in facts:
        without = facts.get("Transformer", "").startswith("none")
        network = "MISSU without its Transformer" if without else "MISSU, a TransUNet"
    return f"{network} ({', '.join(filter(None, parts))})"


def _listed(facts: Mapping[str, str]) -> str:
    """Every fact on a line of its own."""
    return "\n" + "\n".join(f"  - {name}: {value}" for name, value in facts.items())


def _table(means: Mapping[str, float], counts: Mapping[str, int]) -> str:
    if not means:
        return "No fold has been validated."
    rows = [f"| {name} | {mean:.4f} | {counts[name]} |" for name, mean in means.items()]
    mean = math.fsum(means.values()) / len(means)
    return "\n".join(["| class | Dice | cases |", "|---|---|---|", *rows, f"| mean | {mean:.4f} | |"])
