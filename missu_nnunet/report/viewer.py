"""Prepares a case for the page's viewer: its voxels, and the surfaces of its classes as Plotly meshes."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.measure import marching_cubes

from missu_nnunet.pictures.colours import Labels, class_colours
from missu_nnunet.report.cases import CaseVolumes

_VOXELS = 4_000_000  # of all channels of a case; more are thinned out
_FACES = 30_000


def viewer_case(volumes: CaseVolumes, labels: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Return a case as ``page.js`` reads it: volumes as gzip in base64, meshes as Plotly's traces.

    Args:
        volumes: voxels of the case.
        labels: labels of each class or region.
    """
    step = _step(volumes)
    segmentations = {"reference": volumes.reference, **volumes.predictions}
    geometry = volumes.geometry
    flat = len(geometry.planes) == 1
    return {
        "shape": [len(range(0, size, step)) for size in volumes.reference.shape],
        "spacing": [size * step for size in geometry.spacing],
        "step": step,
        "cropped": volumes.reference.shape != geometry.shape,
        # The file's numbers of the slices, and the letters at the sides: left, right, top, bottom.
        "numbers": [
            [geometry.slice_number(axis, index) for index in range(0, size, step)]
            for axis, size in enumerate(volumes.reference.shape)
        ],
        "sizes": geometry.shape,
        "marks": [geometry.marks(axis) for axis in range(3)],
        "channels": [
            {"name": name, "window": volumes.windows[name], "data": _packed(volume, step, "u1")}
            for name, volume in volumes.channels.items()
        ],
        "segmentations": [
            {
                "name": name,
                "data": _packed(volume, step, "<u2"),
                "surfaces": [] if flat else _surfaces(volume, geometry.spacing, labels),
            }
            for name, volume in segmentations.items()
        ],
    }


def _step(volumes: CaseVolumes) -> int:
    """N, where every Nth voxel along each axis is shown, so that the page stays small."""
    axes = 3 if len(volumes.reference) > 1 else 2
    voxels = volumes.reference.size * max(len(volumes.channels), 1)
    return int(np.ceil((voxels / _VOXELS) ** (1 / axes)))


def _packed(volume: NDArray[Any], step: int, numbers: str) -> str:
    voxels = np.ascontiguousarray(volume[::step, ::step, ::step], numbers)
    return base64.b64encode(gzip.compress(voxels.tobytes(), mtime=0)).decode()


def _surfaces(
    segmentation: Labels, spacing: Sequence[float], labels: Mapping[str, Sequence[int]]
) -> list[dict[str, Any]]:
    """Make a mesh of each class that is present, in mm, smoothed by half a voxel."""
    colours = class_colours(labels)
    meshes = []
    for name, values in labels.items():
        # A class at the volume's border gets a surface there, too.
        mask = np.pad(np.isin(segmentation, values), 2).astype(np.float32)
        if not mask.any():
            continue
        smooth = gaussian_filter(mask, 0.5)
        border = np.count_nonzero(np.diff(mask, axis=0)) + np.count_nonzero(np.diff(mask, axis=1))
        step = int(np.ceil(np.sqrt(3 * border / _FACES)))
        try:
            vertices, faces, _, _ = marching_cubes(smooth, 0.5, spacing=tuple(spacing), step_size=step)
        except (RuntimeError, ValueError):  # a voxel or two, which smoothing or the step leaves nothing of
            continue
        vertices, faces = vertices.astype(np.float32), faces.astype(np.int32)
        mesh = go.Mesh3d(
            # Right-handed, and the patient's right on the left side as in the slices: LPS seen from the front.
            x=vertices[:, 2],
            y=vertices[:, 1],
            z=vertices[:, 0],
            i=faces[:, 0],
            j=faces[:, 1],
            k=faces[:, 2],
            color=colours[name],
            name=escape(name),
            hoverinfo="name",
            flatshading=False,
            lighting={"ambient": 0.45, "diffuse": 0.75, "specular": 0.25, "roughness": 0.5, "fresnel": 0.1},
        )
        meshes.append(mesh)
    return go.Figure(meshes).to_dict()["data"]  # with arrays in base64
