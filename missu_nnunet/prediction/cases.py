"""Predicts cases one after the other: segmentations and, beside them, volumes, uncertainty maps and pictures."""

from __future__ import annotations

import glob
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import SimpleITK as sitk
import torch
from nnunetv2.ensembling.ensemble import merge_files
from nnunetv2.inference.export_prediction import export_prediction_from_logits
from numpy.typing import NDArray

from missu_nnunet.datasets.headers import check_whole, is_nifti, nifti_voxels
from missu_nnunet.datasets.images import FILE_ENDINGS
from missu_nnunet.datasets.inputs import Cases
from missu_nnunet.datasets.readers import read_volume, reorients
from missu_nnunet.errors import InputError
from missu_nnunet.files import PARTIAL, write_bytes, write_csv
from missu_nnunet.nnunet.dataset import DATASET_FILE, RawDataset
from missu_nnunet.nnunet.model import PLANS_FILE
from missu_nnunet.nnunet.postprocessing import Postprocessing
from missu_nnunet.pictures.predictions import save_prediction
from missu_nnunet.prediction.predictor import ObservedPredictor, entropy
from missu_nnunet.prediction.resume import Record, fingerprint
from missu_nnunet.prediction.segmentation import segment
from missu_nnunet.text import first_line, last_line

Given = TypeVar("Given")
Found = TypeVar("Found")

Preprocessed = tuple[torch.Tensor, dict[str, Any]]
"""The preprocessed image of one model, and nnU-Net's properties of it."""


@dataclass(frozen=True)
class ClassVolume:
    """The predicted volume of a class, in voxels and millilitres; ``ml`` is None for 2D images."""

    voxels: int
    ml: float | None


@dataclass(frozen=True)
class PredictedCase:
    """A case that has been written: its volumes by class or region, and the seconds that it took."""

    name: str
    volumes: dict[str, ClassVolume]
    seconds: float


@dataclass(frozen=True)
class Wanted:
    """What a prediction writes beside the segmentations.

    Attributes:
        overlays: whether pictures are written.
        probabilities: whether probabilities are written, as ``nnUNetv2_predict --save_probabilities`` does; they are
            those before any post-processing.
        postprocessing: the post-processing of the segmentations, if there is one.
    """

    overlays: bool = False
    probabilities: bool = False
    postprocessing: Postprocessing | None = None


def predict_cases(
    predictors: Sequence[ObservedPredictor],
    cases: Cases,
    dataset: RawDataset,
    output: Path,
    wanted: Wanted,
    record: Record,
) -> Iterator[PredictedCase]:
    """Predict and write every case that is not finished, and yield each when its files are in place.

    The output folder gets the segmentations, ``dataset.json`` and ``plans.json`` as nnU-Net writes them, uncertainty
    maps in ``uncertainty/``, pictures in ``overlays/`` and, at the end, ``volumes.csv``. Several models form an
    ensemble like that of ``nnUNetv2_ensemble``: the mean of their probabilities decides.

    Args:
        predictors: the loaded predictor of each model.
        cases: the cases to predict.
        dataset: dataset of the first model.
        output: folder for all that is written.
        wanted: what is written beside the segmentations.
        record: what is finished already, and will be.

    Raises:
        InputError: if an image cannot be read or preprocessed, or the folder cannot be written.
    """
    try:
        plans, ending = predictors[0].plans_manager, dataset.file_ending
        reader = plans.image_reader_writer_class()
        finished = record.finished.keys() & cases.keys()
        volumes = {case: _volumes(read_volume(reader, output / f"{case}{ending}"), dataset) for case in finished}
        open_cases = {case: files for case, files in cases.items() if case not in finished}
        # The next case is read and preprocessed while the network sees this one.
        with ThreadPoolExecutor(1) as pool:
            preprocessed = _one_ahead(pool, partial(_preprocess, predictors), open_cases.values())
            started = time.monotonic()
            first = [*islice(preprocessed, 1)]  # an image that is refused leaves nothing behind
            record.write()
            for content, name in ((predictors[0].dataset_json, DATASET_FILE), (plans.plans, PLANS_FILE)):
                # With the NaN that nnU-Net's plans have where no voxel of a channel was foreground.
                write_bytes(json.dumps(content, indent=4).encode(), output / name)
            for (case, files), images in zip(open_cases.items(), chain(first, preprocessed), strict=True):
                volumes[case] = _predict_case(predictors, case, files, images, dataset, output, wanted)
                record.finished[case] = fingerprint(files)
                record.write()
                yield PredictedCase(case, volumes[case], time.monotonic() - started)
                started = time.monotonic()
        write_csv(_volume_rows({case: volumes[case] for case in cases}), output / "volumes.csv")
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror or error}); choose another place") from error


def _one_ahead(pool: Executor, function: Callable[[Given], Found], values: Iterable[Given]) -> Iterator[Found]:
    """Yield ``function`` of each value, computed while the result before is in use."""
    waiting: Future[Found] | None = None
    for value in values:
        submitted = pool.submit(function, value)
        if waiting:
            yield waiting.result()
        waiting = submitted
    if waiting:
        yield waiting.result()


def _preprocess(predictors: Sequence[ObservedPredictor], files: list[Path]) -> list[Preprocessed]:
    """Preprocess a case for each model."""
    for file in files:
        if not is_nifti(file):
            check_whole(file)
        elif not np.isfinite(nifti_voxels(file)).any():  # SimpleITK reads NaN as 0
            raise InputError(f"{file}: holds NaN or infinite values alone, expected an image; replace the file")
    found = []
    for predictor in predictors:
        configuration = predictor.configuration_manager
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # it is refused below
                data, _, properties = configuration.preprocessor_class(verbose=False).run_case(
                    list(map(str, files)), None, predictor.plans_manager, configuration, predictor.dataset_json
                )
        except Exception as error:  # readers of images raise whatever they like
            raise InputError(
                f"{files[0]}: nnU-Net cannot read or preprocess it ({last_line(error)}); replace the file"
            ) from error
        if not np.isfinite(data).all():  # one infinite voxel makes the mean infinite
            raise InputError(
                f"{files[0]}: NaN or infinite values once it is preprocessed, expected numbers; replace such values in "
                "the case's files"
            )
        tensor = torch.from_numpy(data).to(dtype=torch.float32, memory_format=torch.contiguous_format)
        found.append((tensor, properties))
    return found


def _predict_case(
    predictors: Sequence[ObservedPredictor],
    case: str,
    files: Sequence[Path],
    preprocessed: list[Preprocessed],
    dataset: RawDataset,
    output: Path,
    wanted: Wanted,
) -> dict[str, ClassVolume]:
    """Write the case's files into a folder beside, then move each to its place, the segmentation last.

    No case's name begins with a dot, so that what else lies in the folder until then does.
    """
    first = predictors[0]
    beside = output / f"{PARTIAL}{case}"
    shutil.rmtree(beside, ignore_errors=True)  # of a run that was killed
    beside.mkdir()
    try:
        try:
            _export(predictors, preprocessed, beside / case, wanted.probabilities)
        except RuntimeError as error:  # the network's: numbers out of range, or no more memory
            raise InputError(
                f"{files[0]}: the model cannot predict it ({first_line(error)}); look at the image and the model, or "
                "use a machine with more memory"
            ) from error
        name = f"{case}{dataset.file_ending}"
        reader = first.plans_manager.image_reader_writer_class()
        if wanted.postprocessing:
            wanted.postprocessing.apply(beside / name, reader)
        segmentation = read_volume(reader, beside / name)
        moves = []
        uncertainty = None
        if first.uncertainty:
            every = [properties for _, properties in preprocessed]
            posteriors = zip(*map(ObservedPredictor.posterior, predictors, every), strict=True)
            mean = (sum(of_class) / len(predictors) for of_class in posteriors)
            values = entropy(mean, first.label_manager.has_regions)
            uncertainty = _placed(values, segmentation, first)
            ending = dataset.file_ending if dataset.file_ending in FILE_ENDINGS else ".nii.gz"
            sitk.WriteImage(uncertainty, str(beside / f".uncertainty{ending}"), True)
            moves.append((f".uncertainty{ending}", output / "uncertainty" / f"{case}{ending}"))
        if wanted.overlays:
            channels = {name: read_volume(reader, file) for name, file in zip(dataset.channels, files, strict=False)}
            save_prediction(case, channels, segmentation, uncertainty, dataset.regions, beside / ".overlay.png")
            moves.append((".overlay.png", output / "overlays" / f"{case}.png"))
        others = [file.name for file in beside.glob(f"{glob.escape(case)}*") if file.name != name]
        moves += [(file, output / file) for file in (*others, name)]
        for source, target in moves:
            target.parent.mkdir(exist_ok=True)
            (beside / source).replace(target)
        _remove_earlier(output, case, {target for _, target in moves})
        return _volumes(segmentation, dataset)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _export(
    predictors: Sequence[ObservedPredictor], preprocessed: list[Preprocessed], target: Path, probabilities: bool
) -> None:
    """Predict, and write the segmentation as nnU-Net does, of several models as its ``nnUNetv2_ensemble`` does."""
    first = predictors[0]
    writer = first.plans_manager.image_reader_writer_class()
    if len(predictors) == 1 and not probabilities:
        data, properties = preprocessed[0]
        slabs = (slab.numpy() for slab in first.predict_slabs(data, properties))
        labels = segment(
            *(slabs, data.shape[1:], properties),
            *(first.plans_manager, first.configuration_manager, first.label_manager),
        )
        writer.write_seg(labels, f"{target}{first.dataset_json['file_ending']}", properties)
        return
    several = len(predictors) > 1
    files = []
    for number, (predictor, (data, properties)) in enumerate(zip(predictors, preprocessed, strict=True)):
        files.append(target.parent / f".model_{number}" / target.name if several else target)
        files[-1].parent.mkdir(exist_ok=True)
        export_prediction_from_logits(
            # As an array: nnU-Net's resampling rounds tensors differently, and its command gives it an array.
            predictor.predict_logits_from_preprocessed_data(data).numpy(),
            properties,
            predictor.configuration_manager,
            predictor.plans_manager,
            predictor.dataset_json,
            str(files[-1]),
            save_probabilities=True,
        )
    if several:
        merge_files(
            [f"{file}.npz" for file in files],
            str(target),
            first.dataset_json["file_ending"],
            writer,
            first.label_manager,
            probabilities,
        )


def _remove_earlier(output: Path, case: str, written: set[Path]) -> None:
    """Remove what an earlier run wrote of the case and this one did not: it belongs to another segmentation."""
    uncertainty, overlays = output / "uncertainty", output / "overlays"
    maps = {uncertainty / f"{case}{ending}" for ending in FILE_ENDINGS}
    probabilities = {output / f"{case}{ending}" for ending in (".npz", ".pkl")}
    for file in (maps | probabilities | {overlays / f"{case}.png"}) - written:
        file.unlink(missing_ok=True)
    for folder in (uncertainty, overlays):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _placed(values: NDArray[np.float32], segmentation: sitk.Image, predictor: ObservedPredictor) -> sitk.Image:
    """The values in the image's geometry, which the segmentation has already."""
    values = values if segmentation.GetDimension() == 3 else values[0]
    image = sitk.GetImageFromArray(values)
    if not reorients(predictor.plans_manager.image_reader_writer_class.__name__):
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
