"""A synthetic dataset in the format of the Medical Segmentation Decathlon.

Small two-channel volumes in which no structure can be told from one channel alone. A *nucleus* lies inside a *shell*,
a *vessel* winds past both, and an unlabelled *mimic* looks exactly like the nucleus but has no shell around it:

========  =========  =========
          channel 0  channel 1
========  =========  =========
nucleus   bright     bright
shell     bright     tissue
vessel    tissue     bright
mimic     bright     bright
========  =========  =========

Pose, size, shape, contrast, bias field and noise differ from case to case; edges carry partial volume. Everything
follows from the seed.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage
from scipy.spatial.transform import Rotation

CHANNELS = ("phantomA", "phantomB")
LABELS = {"background": 0, "nucleus": 1, "shell": 2, "vessel": 3}

_MAX_SHAPE = np.array([32, 40, 32])  # voxels (z, y, x); cases are up to 3 voxels smaller per axis
_SPACING = 1.0  # mm, isotropic
_SUPERSAMPLING = 2  # the anatomy is drawn this much finer than the voxels, which gives partial volume

# Tissues as drawn; the first four are the labels above.
_TISSUE, _NUCLEUS, _SHELL, _VESSEL, _MIMIC, _AIR = range(6)
_INTENSITY = np.array([[300, 700, 700, 300, 700, 0], [300, 700, 300, 700, 700, 0]], dtype=float)


@dataclass(frozen=True)
class PhantomCase:
    """One phantom: ``image`` is ``(C, Z, Y, X)`` int16, ``labels`` is ``(Z, Y, X)`` uint8; 1 mm isotropic."""

    image: np.ndarray
    labels: np.ndarray


def generate_phantom(rng: np.random.Generator) -> PhantomCase:
    """Draw one phantom of at most 32 × 40 × 32 voxels.

    Args:
        rng: the only source of randomness.

    Returns:
        The image and its reference segmentation.
    """
    shape = _MAX_SHAPE - rng.integers(0, 4, size=3)
    anatomy = _draw_anatomy(_body_coordinates(shape, rng), rng)
    image = np.stack([_acquire(anatomy, intensity, rng) for intensity in _INTENSITY])
    return PhantomCase(image, _majority_label(anatomy))


def write_phantom_dataset(folder: Path, seed: int, num_training: int = 20, num_test: int = 4) -> None:
    """Write a Decathlon dataset: ``imagesTr``, ``labelsTr``, ``imagesTs`` and ``dataset.json``.

    The references of the test cases go to ``labelsTs``, which ``dataset.json`` does not mention and nnU-Net's
    converter does not read.

    Args:
        folder: the dataset's folder, which must not exist; nnU-Net's converter needs a name such as ``TaskNN_Name``.
        seed: seed of all cases; two calls with the same seed write the same bytes.
        num_training: number of training cases.
        num_test: number of held-out cases.

    Raises:
        FileExistsError: if ``folder`` exists already.
    """
    folder.mkdir(parents=True)
    names = [f"phantom_{number:03d}" for number in range(num_training + num_test)]
    for number, name in enumerate(names):
        # One generator per case: a case does not depend on how many come before it.
        case = generate_phantom(np.random.default_rng([seed, number]))
        subset = "Tr" if number < num_training else "Ts"
        _write_nifti(case.image, folder / f"images{subset}" / f"{name}.nii.gz")
        _write_nifti(case.labels, folder / f"labels{subset}" / f"{name}.nii.gz")
    description = {
        "name": folder.name.split("_", 1)[-1],
        "description": "Synthetic two-channel phantoms with three structures",
        "tensorImageSize": "4D",
        "modality": {str(number): channel for number, channel in enumerate(CHANNELS)},
        "labels": {str(value): label for label, value in LABELS.items()},
        "numTraining": num_training,
        "numTest": num_test,
        "training": [
            {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
            for name in names[:num_training]
        ],
        "test": [f"./imagesTs/{name}.nii.gz" for name in names[num_training:]],
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=2) + "\n")


def _body_coordinates(shape: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Where each fine voxel lies in the body: ``(3, Z, Y, X)`` in mm from its centre, posed and deformed."""
    fine_shape = tuple(shape * _SUPERSAMPLING)
    scanner = np.indices(fine_shape) - (np.array(fine_shape).reshape(3, 1, 1, 1) - 1) / 2
    scanner *= _SPACING / _SUPERSAMPLING
    pose = Rotation.from_rotvec(rng.normal(scale=0.2, size=3)).as_matrix()
    displacement = np.stack([_smooth_field(fine_shape, rng) for _ in range(3)])
    return np.tensordot(pose, scanner, axes=1) + displacement


def _smooth_field(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """A field of standard deviation about 1: one slow wave of random phase along each axis."""
    waves = [
        rng.normal() * np.sin(np.linspace(0, rng.uniform(np.pi, 2 * np.pi), size) + rng.uniform(0, 2 * np.pi))
        for size in shape
    ]
    z, y, x = np.ix_(*waves)
    return z + y + x


def _draw_anatomy(position: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The tissue at each position (mm, body coordinates)."""
    core = np.array([0.0, -6.0, 0.0]) + rng.uniform(-2, 2, size=3)
    core_radii = rng.uniform(5.0, 7.0, size=3)
    shell_thickness = rng.uniform(2.8, 3.6)
    mimic = np.array([rng.uniform(-6, 6), rng.uniform(12, 14), rng.uniform(-6, 6)])

    anatomy = np.full(position.shape[1:], _AIR, dtype=np.uint8)
    anatomy[_ellipsoid(position, np.zeros(3), np.array([15.0, 19.0, 15.0]))] = _TISSUE
    anatomy[_ellipsoid(position, mimic, rng.uniform(2.5, 4.0, size=3))] = _MIMIC
    anatomy[_ellipsoid(position, core, core_radii + shell_thickness)] = _SHELL
    anatomy[_ellipsoid(position, core, core_radii)] = _NUCLEUS
    anatomy[_vessel(position, rng) & (anatomy == _TISSUE)] = _VESSEL
    return anatomy


def _ellipsoid(position: np.ndarray, centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
    offset = (position - centre.reshape(3, 1, 1, 1)) / radii.reshape(3, 1, 1, 1)
    return (offset**2).sum(axis=0) < 1


def _vessel(position: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A tube that winds along the first axis, beside the core."""
    z, y, x = position
    phase_y, phase_x = rng.uniform(0, 2 * np.pi, size=2)
    centre_y = 6 + rng.uniform(-1, 1) + 1.5 * np.sin(z / 5 + phase_y)
    centre_x = rng.uniform(-4, 4) + 2.5 * np.sin(z / 5 + phase_x)
    return (y - centre_y) ** 2 + (x - centre_x) ** 2 < rng.uniform(2.5, 3.2) ** 2


def _acquire(anatomy: np.ndarray, intensity: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Image the fine anatomy as one channel: contrast, partial volume, bias field, noise."""
    contrast = intensity * rng.normal(1, 0.08, size=intensity.shape) * rng.uniform(0.7, 1.3)
    signal = ndimage.gaussian_filter(_pool(contrast[anatomy]), sigma=0.5)
    bias = np.exp(0.08 * _smooth_field(signal.shape, rng))
    noise = rng.normal(scale=60, size=signal.shape)
    return np.rint(signal * bias + noise).astype(np.int16)


def _majority_label(anatomy: np.ndarray) -> np.ndarray:
    """The label that fills most of each voxel; mimic and air count as background."""
    labels = np.where(anatomy <= _VESSEL, anatomy, LABELS["background"])
    fractions = np.stack([_pool(labels == value) for value in LABELS.values()])
    return fractions.argmax(axis=0).astype(np.uint8)


def _pool(fine: np.ndarray) -> np.ndarray:
    """The mean of the fine voxels in each voxel."""
    factor = _SUPERSAMPLING
    z, y, x = (size // factor for size in fine.shape)
    return fine.reshape(z, factor, y, factor, x, factor).mean(axis=(1, 3, 5))


def _write_nifti(array: np.ndarray, file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    image = sitk.GetImageFromArray(array, isVector=False)
    image.SetSpacing([_SPACING] * array.ndim)
    sitk.WriteImage(image, file)
