"""Phantoms on which one part of a network should matter, as tasks in Decathlon format for ``accuracy.py``.

    python benchmarks/phantoms.py FOLDER

writes two tasks. In ``Task091_DistantCue`` (2D) discs look alike, and what class one has is told only by the dark
marker of its row, a ring or filled: one half of the discs have it near, the other further away than the convolutions
see that MISSU keeps. A task for the Transformer. In ``Task092_FineEdges`` (3D) a wall of about two voxels around a
lobed core has to be told from both sides under blur, partial volume and noise: a task for the distillation of fine
detail. All follows from the seed.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

Case = tuple[np.ndarray, np.ndarray]
"""Image ``(Z, Y, X)`` float32, labels ``(Z, Y, X)`` uint8"""

SIDE = 128  # pixels of a distant-cue image
ROWS = 5
NEAR, FAR = (12, 22), (50, 78)  # pixels from marker to disc; the convolutions that MISSU keeps see 32
SHAPE = (36, 44, 36)  # voxels of a fine-edges image
SUPERSAMPLING = 3


def main() -> None:
    """Write both tasks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tasks: dict[str, tuple[Callable[[np.random.Generator], Case], list[str]]] = {
        "Task091_DistantCue": (distant_cue, ["withRing", "withDisc"]),
        "Task092_FineEdges": (fine_edges, ["wall", "core"]),
    }
    for name, (draw, classes) in tasks.items():
        write_task(options.folder / name, draw, classes, options.cases, options.seed)


def distant_cue(rng: np.random.Generator) -> Case:
    """Rows of discs; the marker at the start of each row says which class its discs have."""
    image, labels = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE), np.uint8)
    y, x = np.indices(image.shape)
    for row in range(ROWS):
        row_y = (row + 0.5) * SIDE / ROWS + rng.uniform(-2, 2)
        marker_x = rng.uniform(8, 40)
        label = rng.integers(1, 3)
        distance = np.hypot(y - row_y, x - marker_x)
        marker = (distance < 5) & (distance > 3) if label == 1 else distance < 4  # the same area, nearly
        image[marker] = -1
        for _ in range(rng.integers(1, 3)):
            disc_x = marker_x + rng.uniform(*(NEAR if rng.random() < 0.5 else FAR))
            disc = np.hypot(y - row_y - rng.uniform(-3, 3), x - disc_x) < rng.uniform(4, 6)
            image[disc] = 1
            labels[disc] = label
    image = ndimage.gaussian_filter(image, 0.7) + rng.normal(scale=0.2, size=image.shape)
    return image[None].astype(np.float32), labels[None]


def fine_edges(rng: np.random.Generator) -> Case:
    """A lobed core in a thin wall, both a little brighter than their surroundings."""
    fine = np.array(SHAPE) * SUPERSAMPLING
    grid = (np.indices(fine) - (fine.reshape(3, 1, 1, 1) - 1) / 2) / SUPERSAMPLING  # voxels from the centre
    grid -= rng.uniform(-3, 3, size=(3, 1, 1, 1))
    radius = np.linalg.norm(grid / rng.uniform(0.8, 1.2, size=(3, 1, 1, 1)), axis=0)
    direction = grid / np.maximum(np.linalg.norm(grid, axis=0), 1e-6)
    lobes = sum(
        rng.uniform(0.3, 0.9) * np.cos(rng.uniform(2, 5) * np.arccos(np.clip(np.tensordot(axis, direction, 1), -1, 1)))
        for axis in (axis / np.linalg.norm(axis) for axis in rng.normal(size=(4, 3)))
    )
    surface = rng.uniform(8, 10) + lobes
    wall = (radius < surface) & (radius >= surface - rng.uniform(1.6, 2))
    core = radius < surface - rng.uniform(3, 4)
    anatomy = wall * 1 + core * 2
    intensity = np.array([0.0, 1.0, 0.8])[anatomy]
    blurred = ndimage.gaussian_filter(intensity, 1.2 * SUPERSAMPLING)
    image = _block_means(blurred) + rng.normal(scale=0.5, size=SHAPE)
    shares = np.stack([_block_means(anatomy == label) for label in range(3)])
    return image.astype(np.float32), shares.argmax(axis=0).astype(np.uint8)


def _block_means(fine: np.ndarray) -> np.ndarray:
    """What a voxel sees of the finer drawing."""
    size = SUPERSAMPLING
    return fine.reshape(SHAPE[0], size, SHAPE[1], size, SHAPE[2], size).mean(axis=(1, 3, 5))


def write_task(
    folder: Path, draw: Callable[[np.random.Generator], Case], classes: list[str], cases: int, seed: int
) -> None:
    """Write a task in Decathlon format; a case does not depend on how many come before it."""
    training = []
    for case in range(cases):
        pair = {}
        for kind, array in zip(("image", "label"), draw(np.random.default_rng([seed, case])), strict=True):
            file = folder / f"{kind}sTr" / f"phantom_{case:03d}.nii.gz"
            file.parent.mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(sitk.GetImageFromArray(array), str(file))
            pair[kind] = f"./{file.relative_to(folder)}"
        training.append(pair)
    (folder / "imagesTs").mkdir()
    dataset = {
        "name": folder.name.split("_", 1)[1],
        "modality": {"0": "phantom"},
        "labels": {"0": "background", "1": classes[0], "2": classes[1]},
        "numTraining": cases,
        "numTest": 0,
        "training": training,
        "test": [],
    }
    (folder / "dataset.json").write_text(json.dumps(dataset, indent=2) + "\n")


if __name__ == "__main__":
    main()
