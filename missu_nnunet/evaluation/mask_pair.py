"""What one predicted mask has in common with its reference, by the definitions of the BraTS and CHAOS challenges.

Overlap metrics count voxels. Distance metrics look at the borders of the masks; all of them derive from the same two
sets of directed distances in mm. SciPy does the work (erosion, k-d tree).
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, generate_binary_structure
from scipy.spatial import cKDTree

from missu_nnunet.boxes import bounding_box

BoolArray = NDArray[np.bool_]


class MaskPair:
    """A predicted and a reference mask on one grid; each method is a metric.

    What a metric leaves undefined (0/0, a distance to an empty mask) is NaN: what an empty mask *scores* is for the
    protocol to say (``missu_nnunet.evaluation.protocols``).

    Args:
        prediction: the predicted mask, (D, H, W).
        reference: the reference mask, (D, H, W).
        spacing: mm per voxel along each array axis.
        outside_is_foreground: whether the border of a mask (the mask minus its erosion by one voxel over the 6 face
            neighbours) leaves out the faces of the volume. CHAOS does so: an organ cut off by the field of view has no
            surface there. MedPy, MONAI and DeepMind's surface-distance count these voxels as border.
        valid: voxels that count, (D, H, W); all when not given. Where nnU-Net's ignore label stands, none does.

    Raises:
        ValueError: if the arrays' shapes or the number of spacings differ.
    """

    def __init__(
        self,
        prediction: BoolArray,
        reference: BoolArray,
        spacing: tuple[float, ...],
        outside_is_foreground: bool = False,
        valid: BoolArray | None = None,
    ) -> None:
        if prediction.shape != reference.shape or len(spacing) != reference.ndim:
            raise ValueError(
                f"prediction {prediction.shape}, reference {reference.shape} and spacing {spacing} must share a grid"
            )
        prediction, reference = prediction.astype(bool), reference.astype(bool)
        if valid is not None:
            prediction, reference = prediction & valid, reference & valid
        # Of a single slice every voxel would be border, with nothing above and below: it counts as the 2D image it is.
        wide = [axis for axis, length in enumerate(reference.shape) if length > 1]
        if len(wide) > 1:
            prediction, reference = prediction.squeeze(), reference.squeeze()
            spacing = tuple(spacing[axis] for axis in wide)
        self.voxels = int(reference.size if valid is None else np.count_nonzero(valid))
        # A label fills a small part of a scan: everything below works on the box around both masks, and on one voxel
        # more, since erosion at the box's faces must see what lies beyond.
        box = bounding_box(prediction | reference, 1) or (slice(0, 0),) * reference.ndim
        self.prediction, self.reference = prediction[box], reference[box]
        self.spacing = np.asarray(spacing, dtype=float)
        self.outside_is_foreground = outside_is_foreground
        self.n_prediction = int(np.count_nonzero(self.prediction))
        self.n_reference = int(np.count_nonzero(self.reference))
        self.true_positives = int(np.count_nonzero(self.prediction & self.reference))

    def dice(self) -> float:
        """2 |P ∩ R| / (|P| + |R|), in 0–1."""
        return _ratio(2 * self.true_positives, self.n_prediction + self.n_reference)

    def sensitivity(self) -> float:
        """Share of the reference that was found, in 0–1."""
        return _ratio(self.true_positives, self.n_reference)

    def specificity(self) -> float:
        """Share of the voxels outside the reference that the prediction leaves out, in 0–1."""
        negatives = self.voxels - self.n_reference
        return _ratio(negatives - (self.n_prediction - self.true_positives), negatives)

    def ravd(self) -> float:
        """Relative absolute volume difference, | |P| − |R| | / |R| × 100 (%)."""
        return 100 * _ratio(abs(self.n_prediction - self.n_reference), self.n_reference)

    def hd95(self) -> float:
        """95th percentile, linearly interpolated, of both directed sets of border distances together (mm).

        MedPy's definition. MONAI and surface-distance take the larger of the two sets' own percentiles, which is never
        smaller.
        """
        return float(np.percentile(self._all_distances, 95)) if self._all_distances.size else np.nan

    def assd(self) -> float:
        """Average symmetric surface distance: the mean of both directed sets of border distances together (mm)."""
        return float(np.mean(self._all_distances)) if self._all_distances.size else np.nan

    def mssd(self) -> float:
        """Maximum symmetric surface distance: the Hausdorff distance of the borders (mm)."""
        return float(np.max(self._all_distances)) if self._all_distances.size else np.nan

    def nsd(self, tolerance: float) -> float:
        """Normalised surface distance: the share of both borders' voxels within ``tolerance`` (mm) of the other border.

        Border voxels count alike, as in MONAI's ``compute_surface_dice``; surface-distance weighs them by area.
        """
        distances = self._all_distances
        if distances.size:
            return float(np.mean(distances <= tolerance))
        return 0.0 if self.n_prediction or self.n_reference else np.nan

    @cached_property
    def _all_distances(self) -> NDArray[np.float64]:
        """Distance of each border voxel, of either mask, to the other border (mm); empty when one border is."""
        prediction, reference = self._border(self.prediction), self._border(self.reference)
        if not len(prediction) or not len(reference):
            # Masks without a border fill the volume; if both do, they are the same.
            same = self.n_prediction == self.n_reference == self.reference.size > 0
            return np.zeros(int(same))
        return np.concatenate([cKDTree(reference).query(prediction)[0], cKDTree(prediction).query(reference)[0]])

    def _border(self, mask: BoolArray) -> NDArray[np.float64]:
        """Positions in mm of the mask's border voxels, (N, dimensions)."""
        core = binary_erosion(
            mask, generate_binary_structure(mask.ndim, 1), border_value=int(self.outside_is_foreground)
        )
        return np.argwhere(mask & ~core) * self.spacing


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else np.nan
