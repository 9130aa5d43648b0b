"""``missu predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from missu_nnunet.cli.options import Trusted
from missu_nnunet.errors import InputError
from missu_nnunet.terminal import Words, progress_bar, say
from missu_nnunet.text import counted, duration

if TYPE_CHECKING:
    from missu_nnunet.prediction.cases import PredictedCase


def predict(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT…", help="A folder of images as nnU-Net takes it, or single files.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the predictions.")],
    model: Annotated[
        Path, typer.Option("--model", "-m", help="A trained model's folder, Trainer__Plans__configuration.")
    ],
    folds: Annotated[
        str, typer.Option("--folds", "-f", help="Comma-separated, such as 0,1. Otherwise all with a checkpoint.")
    ] = "",
    checkpoint: Annotated[str, typer.Option(help="Its file name in each fold.")] = "checkpoint_final.pth",
    tta: Annotated[bool, typer.Option("--tta/--no-tta", help="Mirror the image, as the training allows.")] = True,
    step: Annotated[float, typer.Option(help="Step of the sliding window, as a share of the patch.")] = 0.5,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Write a map of the entropy over folds and mirrorings.")
    ] = False,
    overlays: Annotated[bool, typer.Option("--overlays", help="Write a picture of every case.")] = False,
    device: Annotated[str | None, typer.Option(help="cuda, cpu or mps. Otherwise the fastest there is.")] = None,
    engine: Annotated[
        str,
        typer.Option(
            help="pytorch, openvino or openvino-bf16; auto is OpenVINO on a CPU where it is installed, else PyTorch."
        ),
    ] = "auto",
    trust: Trusted = None,
) -> None:
    """Predict as nnUNetv2_predict does, with the time it takes, volumes, and on request uncertainty and pictures."""
    if not 0 < step <= 1:
        raise InputError(f"--step {step:g}: expected a share of the patch above 0 and up to 1, such as 0.5")
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: a file, expected a folder to write to; choose another place")
    from rich.progress import BarColumn, TimeElapsedColumn, TimeRemainingColumn

    from missu_nnunet.datasets.images import model_reader
    from missu_nnunet.datasets.inputs import find_cases
    from missu_nnunet.nnunet.dataset import read_dataset
    from missu_nnunet.prediction.cases import predict_cases
    from missu_nnunet.prediction.engines.choice import choose_engine
    from missu_nnunet.prediction.model import default_device, load_model

    device = device or ("cpu" if engine.startswith("openvino") else default_device())
    engine = choose_engine(engine, device)
    dataset = read_dataset(model)
    cases = find_cases(inputs, dataset, model_reader(model))
    if output.resolve() in {file.parent.resolve() for files in cases.values() for file in files}:
        raise InputError(f"{output}: holds the images; choose another folder for the predictions")

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
        predictor = load_model(
            model,
            folds=[fold.strip() for fold in folds.split(",") if fold.strip()],
            checkpoint=checkpoint,
            device=device,
            engine=engine,
            tta=tta,
            step=step,
            uncertainty=uncertainty,
            on_window=lambda share: progress.update(task, completed=len(done) + share),
        )
        folds_used = counted(len(predictor.list_of_parameters), "fold")
        say(f"{counted(len(cases), 'case')}, {folds_used}, on {predictor.device} with {engine}")
        progress.update(task, description="predicting")
        for case in predict_cases(predictor, cases, dataset, output, overlays=overlays):
            done.append(case)
            progress.update(task, completed=len(done))
            say(_line(case, done, len(cases)))
    say(f"{output}: {counted(len(done), 'segmentation')}, and their volumes in volumes.csv")


def _line(case: PredictedCase, done: list[PredictedCase], total: int) -> str:
    """What one finished case says: volumes, its time, and the time that the others will need."""
    volumes = ", ".join(
        f"{name} {volume.voxels} pixels" if volume.ml is None else f"{name} {volume.ml:.2f} ml"
        for name, volume in case.volumes.items()
    )
    left = (total - len(done)) * sum(other.seconds for other in done) / len(done)
    remaining = f", about {duration(left)} left" if len(done) < total else ""
    return f"[{len(done)}/{total}] {case.name}: {volumes} ({duration(case.seconds)}{remaining})"
