"""``missu predict``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from missu_nnunet.cli.nnunet_spelling import find_model
from missu_nnunet.cli.options import Trusted
from missu_nnunet.errors import InputError
from missu_nnunet.terminal import Words, progress_bar, say
from missu_nnunet.text import counted, duration, some

if TYPE_CHECKING:
    from missu_nnunet.prediction.cases import PredictedCase, Wanted
    from missu_nnunet.prediction.predictor import ObservedPredictor


def _named_folder(name: str) -> Path:
    """An output folder; a variable that is not set must not become the current one, as ``Path`` would have it."""
    if not name:
        raise InputError("--output: the name is empty, expected a folder for the predictions, such as predictions")
    return Path(name)


def predict(
    output: Annotated[
        Path, typer.Option("--output", "-o", parser=_named_folder, metavar="PATH", help="Folder for the predictions.")
    ],
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="INPUT…", help="A folder of images as nnU-Net takes it, or single files."),
    ] = None,
    more_inputs: Annotated[
        list[Path] | None, typer.Option("--input", "-i", help="The same, as nnU-Net says it.")
    ] = None,
    models: Annotated[
        list[Path] | None,
        typer.Option(
            "--model",
            "-m",
            help="A trained model's folder, Trainer__Plans__configuration, or its zip. Several are an ensemble.",
        ),
    ] = None,
    trained_on: Annotated[
        str | None, typer.Option("--dataset", "-d", help="Instead of -m: name or ID of the dataset it was trained on.")
    ] = None,
    trainer: Annotated[
        str | None, typer.Option("--trainer", "-tr", help="With -d: the model's trainer, otherwise nnUNetTrainer.")
    ] = None,
    plans: Annotated[
        str | None, typer.Option("--plans", "-p", help="With -d: the model's plans, otherwise nnUNetPlans.")
    ] = None,
    folds: Annotated[
        str, typer.Option("--folds", "-f", help="Such as 0,1 or 0 1. Otherwise all with a checkpoint.")
    ] = "",
    checkpoint: Annotated[
        str, typer.Option("--checkpoint", "-chk", help="Its file name in each fold.")
    ] = "checkpoint_final.pth",
    tta: Annotated[
        bool, typer.Option("--tta/--no-tta", " /--disable_tta", help="Mirror the image, as the training allows.")
    ] = True,
    step: Annotated[
        float, typer.Option("--step", "-step_size", help="Step of the sliding window, as a share of the patch.")
    ] = 0.5,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Write a map of the entropy over folds and mirrorings.")
    ] = False,
    overlays: Annotated[bool, typer.Option("--overlays", help="Write a picture of every case.")] = False,
    probabilities: Annotated[
        bool, typer.Option("--save-probabilities", help="Write the classes' probabilities, as nnUNetv2_predict does.")
    ] = False,
    postprocessing: Annotated[
        bool, typer.Option(help="Apply nnU-Net's post-processing, where it was determined for the model.")
    ] = True,
    resume: Annotated[
        bool, typer.Option("--continue", help="Predict only what an interrupted run with these settings left.")
    ] = False,
    configuration: Annotated[
        str | None,
        typer.Option(
            "--configuration",
            "-c",
            help="With -d: the model's, such as 3d_fullres. Or which model of a zip of several.",
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", "-device", help="cuda, cpu or mps. Otherwise the fastest there is.")
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            help="pytorch, openvino or openvino-bf16; auto is OpenVINO on a CPU where it is installed, else PyTorch."
        ),
    ] = "auto",
    trust: Trusted = None,
) -> None:
    """Predict as nnUNetv2_predict does, with the time it takes, volumes, and on request uncertainty and pictures.

    nnU-Net's post-processing is applied where nnUNetv2_find_best_configuration determined one. The options of
    nnUNetv2_predict are understood: -i, -o, -d, -tr, -p, -c, -f, -chk.
    """
    inputs = [*(inputs or ()), *(more_inputs or ())]
    if models:
        _check_names_agree(models, {"-d": trained_on, "-tr": trainer, "-p": plans}, configuration)
    elif trained_on:
        models = [find_model(trained_on, trainer or "nnUNetTrainer", plans or "nnUNetPlans", configuration)]
    models = models or []
    _check_given(inputs, models)
    if not 0 < step <= 1:
        raise InputError(f"--step {step:g}: expected a share of the patch above 0 and up to 1, such as 0.5")
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: a file, expected a folder to write to; choose another place")
    from rich.progress import BarColumn, TimeElapsedColumn, TimeRemainingColumn

    from missu_nnunet.datasets.inputs import find_cases, left_out
    from missu_nnunet.datasets.readers import model_reader
    from missu_nnunet.machine import fastest_device
    from missu_nnunet.nnunet.dataset import read_dataset
    from missu_nnunet.nnunet.postprocessing import find_postprocessing
    from missu_nnunet.prediction.cases import Wanted, predict_cases
    from missu_nnunet.prediction.engines.choice import AUTO, EngineError, choose_engine
    from missu_nnunet.prediction.model import check_ensemble, choose_folds, files_of, load_model
    from missu_nnunet.prediction.needs import find_needs
    from missu_nnunet.prediction.resume import Record, check_output, fingerprint
    from missu_nnunet.weights.zipped_model import model_folder

    if output.resolve() in {model.resolve() for model in models}:
        raise InputError(f"{output}: is the model's folder; choose another folder for the predictions")
    device = device or ("cpu" if engine.startswith("openvino") else fastest_device())
    running = choose_engine(engine, device)
    with contextlib.ExitStack() as opened:
        folders = [opened.enter_context(model_folder(model, configuration)) for model in models]
        dataset = read_dataset(folders[0])
        cases = find_cases(inputs, dataset, model_reader(folders[0]))
        if output.resolve() in {file.parent.resolve() for files in cases.values() for file in files}:
            raise InputError(f"{output}: holds the images; choose another folder for the predictions")
        check_output(output, dataset.file_ending)
        if others := left_out(inputs, cases):
            say(f"left out, since not named CASE_0000{dataset.file_ending}: {some(others)}")
        given = [fold.strip() for fold in folds.split(",") if fold.strip()]
        chosen = [choose_folds(folder, given, checkpoint) for folder in folders]
        wanted = Wanted(
            overlays=overlays,
            probabilities=probabilities,
            postprocessing=find_postprocessing(folders) if postprocessing else None,
        )
        models_files = [files_of(folder, of, checkpoint) for folder, of in zip(folders, chosen, strict=True)]
        postprocessing_files = [wanted.postprocessing.source] if wanted.postprocessing else []
        settings = {
            "models": [str(model.resolve()) for model in models],
            "model_folders": [folder.resolve().name for folder in folders],
            **{"folds": chosen, "checkpoint": checkpoint, "tta": tta, "step": step, "device": device},
            **{"uncertainty": uncertainty, "overlays": overlays, "probabilities": probabilities},
            "postprocessing": wanted.postprocessing is not None,
            "model_contents": fingerprint(chain(*models_files, postprocessing_files)),
        }

        columns = (
            Words("{task.description}"),
            BarColumn(),
            Words("{task.completed:.1f}/{task.total} cases"),
            TimeElapsedColumn(),
            Words("left:"),
            TimeRemainingColumn(),
        )
        with progress_bar(*columns) as progress:
            task = progress.add_task("loading", total=len(cases))
            done: list[PredictedCase] = []

            def show(number: int, share: float) -> None:
                progress.update(task, completed=len(done) + (number + share) / len(folders))

            def load() -> list[ObservedPredictor]:
                return [
                    load_model(
                        folder,
                        folds=chosen[number],
                        checkpoint=checkpoint,
                        device=device,
                        engine=running,
                        tta=tta,
                        step=step,
                        uncertainty=uncertainty,
                        on_window=partial(show, number),
                    )
                    for number, folder in enumerate(folders)
                ]

            try:
                predictors = load()
            except EngineError as error:
                if engine != AUTO:
                    raise
                running = "pytorch"
                predictors = load()
                say(f"{error.finding}: PyTorch does")
            check_ensemble(predictors, models)
            record = Record(output, settings | {"engine": running})
            if resume:
                record.resume(cases, dataset.file_ending)
            finished = record.finished.keys() & cases.keys()
            open_cases = len(cases) - len(finished)
            needs = find_needs(
                predictors, {case: files for case, files in cases.items() if case not in finished}, wanted, output
            )
            folds_used = counted(sum(len(predictor.list_of_parameters) for predictor in predictors), "fold")
            ensemble = f"{len(predictors)} models, " if len(predictors) > 1 else ""
            say(f"{counted(len(cases), 'case')}, {ensemble}{folds_used}, on {predictors[0].device} with {running}")
            if needs:
                say(needs.text(output))
            for said in _said_beforehand(predictors, models, wanted, len(finished)):
                say(said)
            progress.update(task, total=open_cases, description="predicting")
            for case in predict_cases(predictors, cases, dataset, output, wanted, record):
                done.append(case)
                progress.update(task, completed=len(done))
                say(_line(case, done, open_cases))
    say(f"{output}: {counted(len(cases), 'segmentation')}, and their volumes in volumes.csv")


def _check_names_agree(models: Sequence[Path], names: Mapping[str, str | None], configuration: str | None) -> None:
    """Refuse names beside -m, which would be ignored."""
    for option, name in names.items():
        if name is not None:
            raise InputError(f"{option} {name}: names a model, as -m does; give one of both")
    if configuration is None or any(model.is_file() for model in models):
        return
    from missu_nnunet.nnunet.folders import Model

    for model in models:
        if (found := Model.of(model.resolve())) and found.configuration != configuration:
            raise InputError(
                f"--model {model}: of configuration {found.configuration}, expected {configuration} as -c says; leave "
                "-c out, or give the folder of that model"
            )


def _check_given(inputs: Sequence[Path], models: Sequence[Path]) -> None:
    if not inputs:
        raise InputError("no images given; give a folder of images or single files, as in missu predict INPUT")
    if not models:
        raise InputError(
            "no model given; give its folder with -m, or -d, -tr, -p and -c as nnUNetv2_predict takes them"
        )
    for model in models:
        if not model.exists():
            raise InputError(
                f"--model {model}: no such folder or file; give a trained model's folder, "
                "Trainer__Plans__configuration in nnUNet_results, or its zip"
            )


def _said_beforehand(
    predictors: Sequence[ObservedPredictor], models: Sequence[Path], wanted: Wanted, finished: int
) -> Iterator[str]:
    """What the segmentations are besides the models' word."""
    if finished:
        yield f"{counted(finished, 'segmentation')} there already"
    if wanted.postprocessing:
        yield f"post-processing as determined: {wanted.postprocessing.source.parent.name}/postprocessing.json"
    for predictor, model in zip(predictors, models, strict=True):
        if predictor.uncertainty:
            if predictor.temperature == 1:
                what = f"{model} does it" if model.is_dir() else "does it before a model is exported"
                yield f"uncertainty: not calibrated; missu weights calibrate {what}"
            else:
                yield f"uncertainty: calibrated, temperature {predictor.temperature:.3f}"


def _line(case: PredictedCase, done: list[PredictedCase], total: int) -> str:
    """What one finished case says: volumes, its time, and the time that the others will need."""
    volumes = ", ".join(
        f"{name} {volume.voxels} pixels" if volume.ml is None else f"{name} {volume.ml:.2f} ml"
        for name, volume in case.volumes.items()
    )
    left = (total - len(done)) * sum(other.seconds for other in done) / len(done)
    remaining = f", about {duration(left)} left" if len(done) < total else ""
    return f"[{len(done)}/{total}] {case.name}: {volumes} ({duration(case.seconds)}{remaining})"
