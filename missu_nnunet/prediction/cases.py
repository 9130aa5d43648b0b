"""Predicting cases one after the other: segmentations, and beside them volumes, uncertainty maps and pictures."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from missu_nnunet.datasets.images import FILE_ENDINGS, check_whole, read_image
from missu_nnunet.datasets.inputs import Cases
from missu_nnunet.errors import InputError
from missu_nnunet.files import PARTIAL, write_csv, write_json
from missu_nnunet.nnunet.dataset import RawDataset
from missu_nnunet.pictures.predictions import save_prediction
from missu_nnunet.prediction.predictor import ObservedPredictor
from missu_nnunet.prediction.segmentation import segment

Given = TypeVar("Given")
Found = TypeVar("Found")


@dataclass(frozen=True)
class ClassVolume:
    """How much of a class was predicted; `ml` is None for 2D images."""

    voxels: int
    ml: float | None


@dataclass(frozen=True)
class PredictedCase:
    """A case that is written: its volumes by class or region, and how long it took."""

    name: str
    volumes: dict[str, ClassVolume]
    seconds: float


def predict_cases(
    predictor: ObservedPredictor, cases: Cases, dataset: RawDataset, output: Path, *, overlays: bool
) -> Iterator[PredictedCase]:
    """Predict and write every case; each is yielded when its files are in place.

    Into `output` go the segmentations, as nnU-Net writes them, dataset.json and plans.json; uncertainty maps into
    ``uncertainty/``, pictures into ``overlays/``, and ``volumes.csv`` at the end.

    Args:
        predictor: loaded.
        cases: what to predict.
        dataset: the model's.
        output: folder.
        overlays: whether to draw pictures.

    Raises:
        InputError: an image cannot be read or preprocessed, or the folder cannot be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_json(predictor.dataset_json, output / "dataset.json")
        write_json(predictor.plans_manager.plans, output / "plans.json")
        volumes = {}
        # The next case is read and preprocessed while the network sees this one.
        with ThreadPoolExecutor(1) as pool:
            preprocessed = _one_ahead(pool, partial(_preprocess, predictor), cases.values())
            started = time.monotonic()
            for case, (data, properties) in zip(cases, preprocessed, strict=True):
                images = cases[case] if overlays else []
                volumes[case] = _predict_case(predictor, case, data, properties, dataset, output, images)
                yield PredictedCase(case, volumes[case], time.monotonic() - started)
                started = time.monotonic()
        write_csv(_volume_rows(volumes), output / "volumes.csv")
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror or error}); choose another place") from error


def _one_ahead(pool: Executor, function: Callable[[Given], Found], values: Iterable[Given]) -> Iterator[Found]:
    """`function` of each value, computed while the one before is in use."""
    waiting: Future[Found] | None = None
    for value in values:
        submitted = pool.submit(function, value)
        if waiting:
            yield waiting.result()
        waiting = submitted
    if waiting:
        yield waiting.result()


def _preprocess(predictor: ObservedPredictor, files: list[Path]) -> tuple[torch.Tensor, dict[str, Any]]:
    for file in files:
        check_whole(file)
    configuration = predictor.configuration_manager
    try:
        data, _, properties = configuration.preprocessor_class(verbose=False).run_case(
            list(map(str, files)), None, predictor.plans_manager, configuration, predictor.dataset_json
        )
    except Exception as error:  # readers of images raise whatever they like
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"{files[0]}: nnU-Net cannot read or preprocess it ({lines[-1]}); replace the file") from error
    return torch.from_numpy(data).to(dtype=torch.float32, memory_format=torch.contiguous_format), properties


def _predict_case(
    predictor: ObservedPredictor,
    case: str,
    data: torch.Tensor,
    properties: dict[str, Any],
    dataset: RawDataset,
    output: Path,
    images: Sequence[Path],
) -> dict[str, ClassVolume]:
    """Write the case's files: all of them into a folder beside, then each to its place, the segmentation last.

    With its `images`, by channel, also a picture.
    """
    logits = predictor.predict_logits_from_preprocessed_data(data)
    beside = output / f"{PARTIAL}{case}"
    shutil.rmtree(beside, ignore_errors=True)  # of a run that was killed
    beside.mkdir()
    try:
        name = f"{case}{dataset.file_ending}"
        plans = predictor.plans_manager
        # As an array: nnU-Net's resampling rounds tensors differently, and its command gives it an array.
        found = segment(logits.numpy(), properties, plans, predictor.configuration_manager, predictor.label_manager)
        plans.image_reader_writer_class().write_seg(found, str(beside / name), properties)
        segmentation = sitk.ReadImage(str(beside / name))
        moves = []
        uncertainty = None
        if predictor.uncertainty:
            uncertainty = _placed(predictor.entropy(properties), segmentation, predictor)
            ending = dataset.file_ending if dataset.file_ending in FILE_ENDINGS else ".nii.gz"
            sitk.WriteImage(uncertainty, str(beside / f"uncertainty{ending}"), True)
            moves.append((f"uncertainty{ending}", output / "uncertainty" / f"{case}{ending}"))
        if images:
            channels = {name: read_image(file) for name, file in zip(dataset.channels, images, strict=False)}
            save_prediction(case, channels, segmentation, uncertainty, dataset.regions, beside / "overlay.png")
            moves.append(("overlay.png", output / "overlays" / f"{case}.png"))
        others = [file.name for file in beside.iterdir() if file.name.startswith(case) and file.name != name]
        moves += [(file, output / file) for file in (*others, name)]
        for source, target in moves:
            target.parent.mkdir(exist_ok=True)
            (beside / source).replace(target)
        return _volumes(segmentation, dataset)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _placed(values: NDArray[np.float32], segmentation: sitk.Image, predictor: ObservedPredictor) -> sitk.Image:
    """The values in the image's geometry, which the segmentation has already."""
    values = values if segmentation.GetDimension() == 3 else values[0]
    image = sitk.GetImageFromArray(values)
    if not predictor.plans_manager.image_reader_writer_class.__name__.endswith("WithReorient"):
        image.CopyInformation(segmentation)
        return image
    # These readers turn images to RAS, and segmentations back when they write them.
    image.CopyInformation(sitk.DICOMOrient(segmentation, "RAS"))
    code = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(segmentation.GetDirection())
    return sitk.DICOMOrient(image, code)


def _volumes(segmentation: sitk.Image, dataset: RawDataset) -> dict[str, ClassVolume]:
    array = sitk.GetArrayFromImage(segmentation)
    ml_per_voxel = float(np.prod(segmentation.GetSpacing())) / 1000 if segmentation.GetDimension() == 3 else None
    found = {}
    for name, labels in dataset.regions.items():
        count = int(np.isin(array, labels).sum())
        found[name] = ClassVolume(count, None if ml_per_voxel is None else count * ml_per_voxel)
    return found


def _volume_rows(volumes: dict[str, dict[str, ClassVolume]]) -> list[dict[str, object]]:
    """One row per case and class."""
    return [
        {"case": case, "class": name, "voxels": volume.voxels, "ml": "" if volume.ml is None else f"{volume.ml:.9g}"}
        for case, by_class in volumes.items()
        for name, volume in by_class.items()
    ]
