"""Segments images with the networks beside this file, without nnU-Net and PyTorch.

    python predict.py INPUT… --output FOLDER

INPUT is a folder of images named as in nnU-Net, CASE_0000.nii.gz, where 0000 is the channel, or such files. The script
needs numpy, scipy, onnxruntime and SimpleITK. From Python::

    from predict import Model

    segmentation = Model(folder).segment(image, spacing)

The model does what nnU-Net's predictor does, in the same order and precision: crop, normalise, resample, sliding window
with mirroring, mean over the folds, back to the image's grid. ``model.json`` holds the numbers.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[Any]


class Model:
    """A trained model: its networks, and the steps before and after them.

    Args:
        folder: folder of ``model.json`` and the networks.
        mirroring: whether to average over mirrored images, as in the model's validation; without, prediction is faster
            and a little worse.
        step: step of the sliding window, as a share of the patch.
    """

    def __init__(self, folder: Path, mirroring: bool = True, step: float = 0.5) -> None:
        self.settings: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        files = (str(folder / name) for name in self.settings["networks"])
        self.networks = [onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]) for file in files]
        self.patch: list[int] = self.settings["patch_size"]
        self.step = step
        axes = self.settings["mirror_axes"] if mirroring else []
        flips = itertools.chain.from_iterable(itertools.combinations(axes, count) for count in range(len(axes) + 1))
        self.flips = [tuple(axis + 2 for axis in flip) for flip in flips]

    def segment(self, image: Array, spacing: Sequence[float]) -> Array:
        """Segment an image, and return its labels ``(Z, Y, X)``.

        Args:
            image: image ``(C, Z, Y, X)`` with the intensities of its files.
            spacing: spacing along Z, Y and X in mm.
        """
        forward, backward = self.settings["transpose_forward"], self.settings["transpose_backward"]
        image = image.astype(np.float32).transpose(0, *(axis + 1 for axis in forward))
        spacing = [spacing[axis] for axis in forward]
        box, inside = nonzero_box(image)
        cropped = image[all_channels(box)]
        for channel, settings in zip(cropped, self.settings["normalization"], strict=True):
            channel[...] = normalize(channel, settings, inside)
        # A 2D model leaves the distance between slices alone.
        target = [*spacing[: 3 - len(self.settings["spacing"])], *self.settings["spacing"]]
        shape = [round(old / new * size) for old, new, size in zip(spacing, target, cropped.shape[1:], strict=True)]
        resampled = resample(cropped, shape, spacing, target, self.settings["resampling"]["image"])
        logits = self.logits(resampled)
        logits = resample(logits, cropped.shape[1:], target, spacing, self.settings["resampling"]["logits"])
        labels = np.zeros(image.shape[1:], np.uint8 if max(self.settings["labels"]) < 255 else np.uint16)
        labels[box] = self.decide(logits)
        return labels.transpose(backward)

    def logits(self, image: Array) -> Array:
        """Compute the mean logits of the folds for a preprocessed image ``(C, Z, Y, X)``."""
        missing = [
            max(0, patch - size) for patch, size in zip(self.patch, image.shape[-len(self.patch) :], strict=True)
        ]
        padding = [(0, 0)] * (image.ndim - len(missing)) + [(gap // 2, gap - gap // 2) for gap in missing]
        padded = np.pad(image, padding)
        inside = tuple(slice(low, low + size) for (low, _), size in zip(padding[1:], image.shape[1:], strict=True))
        total = sum(self.sliding_window(padded, network) for network in self.networks)
        return (total / np.float16(len(self.networks)))[all_channels(inside)]

    def sliding_window(self, image: Array, network: onnxruntime.InferenceSession) -> Array:
        """Compute one network's logits of an image that is no smaller than the patch."""
        weights = gaussian(self.patch)
        channels = len(self.settings["outputs"])
        # Sums in half precision, as nnU-Net's: in a volume's corners they decide.
        total = np.zeros((channels, *image.shape[1:]), np.float16)
        norm = np.zeros(image.shape[1:], np.float16)
        for window in windows(image.shape[1:], self.patch, self.step):
            patch = np.ascontiguousarray(image[all_channels(window)][None])
            logits = np.zeros((1, channels, *self.patch), np.float32)
            for flip in self.flips:
                (found,) = network.run(None, {"image": np.ascontiguousarray(np.flip(patch, flip))})
                logits += np.flip(found, flip)
            logits /= len(self.flips)
            total[all_channels(window)] += logits[0] * weights
            norm[window] += weights
        return total / norm

    def decide(self, logits: Array) -> Array:
        """Turn logits into labels: the class with the highest, or in their order the regions with logits above 0."""
        labels = np.asarray(self.settings["labels"])
        if not self.settings["regions"]:
            return labels[logits.argmax(axis=0)]
        found = np.zeros(logits.shape[1:], labels.dtype)
        for region, label in zip(logits, labels, strict=True):
            found[region > 0] = label
        return found


def all_channels(box: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the index of a box in every channel."""
    return (slice(None), *box)


def nonzero_box(image: Array) -> tuple[tuple[slice, ...], Array]:
    """Find the box around all voxels that are not zero in some channel, and the mask of these, holes filled, in it."""
    inside = ndimage.binary_fill_holes(np.any(image != 0, axis=0))
    boxes = ndimage.find_objects(inside.astype(np.uint8))
    box = boxes[0] if boxes else tuple(slice(0, size) for size in inside.shape)
    return box, inside[box]


def normalize(channel: Array, settings: dict[str, Any], inside: Array) -> Array:
    """Normalise the intensities of a channel as the network expects them.

    Args:
        channel: intensities ``(Z, Y, X)``.
        settings: name of nnU-Net's scheme and its numbers.
        inside: mask of the voxels that are not empty.
    """
    scheme = settings["scheme"]
    if scheme == "ZScoreNormalization":
        if not settings["mask"]:
            return (channel - channel.mean()) / max(channel.std(), 1e-8)
        values = channel[inside]
        return np.where(inside, (channel - values.mean()) / max(values.std(), 1e-8), channel)
    if scheme == "CTNormalization":
        clipped = np.clip(channel, settings["percentile_00_5"], settings["percentile_99_5"])
        return (clipped - settings["mean"]) / max(settings["std"], 1e-8)
    if scheme == "RescaleTo01Normalization":
        lifted = channel - channel.min()
        return lifted / max(lifted.max(), 1e-8)
    if scheme == "RGBTo01Normalization":
        return channel / 255
    return channel


def resample(
    image: Array, shape: Sequence[int], spacing: Sequence[float], target: Sequence[float], settings: dict[str, Any]
) -> Array:
    """Resample an image or logits to a grid of another shape; thick slices are resampled one by one.

    Args:
        image: image or logits ``(C, Z, Y, X)``.
        shape: the new shape ``(Z, Y, X)``.
        spacing: the old spacing in mm.
        target: the new spacing in mm.
        settings: the spline's ``order``, and ``force_separate_z``, which is None where the spacing decides.
    """
    if tuple(image.shape[1:]) == tuple(shape):
        return image
    axis = thick_axis(spacing, target, settings)
    found = np.empty((len(image), *shape), image.dtype)
    for channel, values in zip(found, image, strict=True):
        if axis is None:
            channel[...] = zoom(values, shape, settings["order"])
            continue
        in_plane = [size for other, size in enumerate(shape) if other != axis]
        slices = [zoom(values.take(index, axis), in_plane, settings["order"]) for index in range(values.shape[axis])]
        nearest = ((np.arange(shape[axis]) + 0.5) * (len(slices) / shape[axis])).astype(int)
        channel[...] = np.stack(slices, axis).take(nearest, axis)
    return found


def thick_axis(spacing: Sequence[float], target: Sequence[float], settings: dict[str, Any]) -> int | None:
    """Find the single axis across slices that are thick before or after resampling; None where there is none."""
    if settings["force_separate_z"] is False:
        return None
    for grid in (spacing, target):
        if settings["force_separate_z"] or max(grid) / min(grid) > settings["anisotropy_threshold"]:
            axes = [axis for axis, distance in enumerate(grid) if max(grid) / distance == 1]
            return axes[0] if len(axes) == 1 else None
    return None


def zoom(values: Array, shape: Sequence[int], order: int) -> Array:
    """Resample values to a grid of another shape with the same outline, within their old range."""
    values = values.astype(np.float64)
    factors = [new / old for new, old in zip(shape, values.shape, strict=True)]
    found = ndimage.zoom(values, factors, order=order, mode="nearest", grid_mode=True)
    return np.clip(found, values.min(), values.max())


def gaussian(patch: Sequence[int]) -> Array:
    """Compute the weights of a window's voxels, which are highest in its middle."""
    weights = np.zeros(patch)
    weights[tuple(size // 2 for size in patch)] = 1
    weights = ndimage.gaussian_filter(weights, [size / 8 for size in patch], mode="constant")
    weights = (weights / weights.max() * 10).astype(np.float16)
    return np.maximum(weights, weights[weights > 0].min())


def windows(shape: Sequence[int], patch: Sequence[int], step: float) -> Iterator[tuple[Any, ...]]:
    """Yield the places of the sliding window; a 2D patch goes through every slice."""
    starts = []
    for size, length in zip(shape[-len(patch) :], patch, strict=True):
        count = int(np.ceil((size - length) / (length * step))) + 1
        starts.append([round((size - length) / max(count - 1, 1) * number) for number in range(count)])
    slices = [range(size) for size in shape[: len(shape) - len(patch)]]
    for place in itertools.product(*slices, *starts):
        corner = place[len(slices) :]
        yield (*place[: len(slices)], *(slice(low, low + size) for low, size in zip(corner, patch, strict=True)))


def read(files: Sequence[Path], settings: dict[str, Any]) -> tuple[Array, list[float], sitk.Image]:
    """Read an image: its channels ``(C, Z, Y, X)``, its spacing along Z, Y and X in mm, and its first file.

    The program ends with one line where it cannot be read.
    """
    names = ", ".join(map(str, files))
    try:
        images = [sitk.ReadImage(str(file)) for file in files]
    except RuntimeError as error:
        sys.exit(f"{names}: cannot be read ({str(error).strip().splitlines()[-1]}); replace the damaged file")
    if len(sizes := {image.GetSize() for image in images}) > 1:
        sys.exit(f"{names}: sizes {', '.join(map(str, sorted(sizes)))}, expected one; resample them to one grid")
    channels = []
    for image in images:
        values = sitk.GetArrayFromImage(sitk.DICOMOrient(image, "RAS") if settings["reorient"] else image)
        if image.GetNumberOfComponentsPerPixel() > 1:
            values = np.moveaxis(values, -1, 0)  # a photograph's colours are channels of one file
            if len(files) == len(settings["channels"]) and (values == values[:1]).all():
                values = values[:1]  # SimpleITK gives the grey of a BMP's palette as three equal colours
        else:
            values = values[None]
        channels.append(values if values.ndim == 4 else values[:, None])
    first = images[0]
    oriented = sitk.DICOMOrient(first, "RAS") if settings["reorient"] else first
    spacing = [abs(distance) for distance in oriented.GetSpacing()[::-1]]
    if settings["photograph"]:
        spacing = [999.0, 1.0, 1.0]
    elif len(spacing) == 2:
        spacing = [max(spacing) * 999, *spacing]
    return np.concatenate(channels), spacing, first


def write(labels: Array, original: sitk.Image, settings: dict[str, Any], file: Path) -> None:
    """Write labels on the grid of their image."""
    image = sitk.GetImageFromArray(labels if original.GetDimension() > 2 else labels[0])
    if not settings["reorient"]:
        image.CopyInformation(original)
    else:
        image.CopyInformation(sitk.DICOMOrient(original, "RAS"))
        code = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(original.GetDirection())
        image = sitk.DICOMOrient(image, code)
    sitk.WriteImage(image, str(file), True)


def find_cases(inputs: Sequence[Path], settings: dict[str, Any]) -> dict[str, list[Path]]:
    """List the files of every case, by channel; the program ends with one line where they are not those it needs."""
    ending = settings["file_ending"]
    cases: dict[str, list[tuple[int, Path]]] = {}
    for path in inputs:
        files = [file for file in (path.iterdir() if path.is_dir() else [path]) if file.is_file()]
        matches = [(re.fullmatch(rf"([^.].*)_(\d{{4}}){re.escape(ending)}", file.name), file) for file in files]
        images = [(match[1], int(match[2]), file) for match, file in matches if match]
        if not images:
            sys.exit(f"{path}: no image found, expected files such as CASE_0000{ending}")
        for case, channel, file in images:
            cases.setdefault(case, []).append((channel, file))
    channels = settings["channels"]
    for case, found in cases.items():
        # A photograph's colours may be in one file; their number is known when it is read.
        expected = len(found) if settings["photograph"] else len(channels)
        if sorted(channel for channel, _ in found) != list(range(expected)):
            names = ", ".join(str(file) for _, file in sorted(found))
            sys.exit(f"{names}: expected {case}_0000{ending} and so on, one file each of {', '.join(channels)}")
    return {case: [file for _, file in sorted(found)] for case, found in sorted(cases.items())}


def main() -> None:
    """Segment the images given on the command line."""
    parser = argparse.ArgumentParser(description="Segment images with the networks beside this file.")
    parser.add_argument("input", nargs="+", type=Path, help="folder of images CASE_0000.nii.gz, or such files")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the segmentations")
    parser.add_argument("--no-mirroring", action="store_true", help="faster, a little worse")
    parser.add_argument("--step", type=float, default=0.5, help="of the sliding window, as a share of the patch")
    options = parser.parse_args()
    if not 0 < options.step <= 1:
        parser.error(f"--step {options.step:g}: expected a share of the patch above 0 and up to 1, such as 0.5")
    model = Model(Path(__file__).parent, not options.no_mirroring, options.step)
    cases = find_cases(options.input, model.settings)
    options.output.mkdir(parents=True, exist_ok=True)
    for case, files in cases.items():
        image, spacing, original = read(files, model.settings)
        if len(image) != len(model.settings["channels"]):
            expected = ", ".join(model.settings["channels"])
            sys.exit(f"{files[0]}: found {len(image)} channels of {case}, expected {expected}")
        target = options.output / f"{case}{model.settings['file_ending']}"
        write(model.segment(image, spacing), original, model.settings, target)
        print(target)


if __name__ == "__main__":
    main()
