"""The metrics against MedPy, MONAI and a brute-force computation over all pairs of border voxels."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from medpy.metric import binary as medpy
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from scipy.spatial.distance import cdist

from missu_nnunet.evaluation.mask_pair import MaskPair

SPACINGS = [(1.0, 1.0, 1.0), (2.0, 0.7, 0.7), (0.5, 3.0, 1.25)]


def without_flat_axes(prediction, reference, spacing):
    """A volume of one slice as the 2D image that it is."""
    wide = [axis for axis, length in enumerate(reference.shape) if length > 1]
    if len(wide) < 2:
        return prediction, reference, spacing
    return prediction.squeeze(), reference.squeeze(), tuple(spacing[axis] for axis in wide)


def brute_force_distances(prediction, reference, spacing, outside_is_foreground):
    """Both directed sets of border distances, straight from the definition."""
    prediction, reference, spacing = without_flat_axes(prediction, reference, spacing)
    steps, positions = np.eye(reference.ndim, dtype=int), []
    for mask in (prediction, reference):
        padded = np.pad(mask, 1, constant_values=outside_is_foreground)
        border = []
        for index in np.argwhere(mask):
            neighbours = [index + 1 + step for step in np.vstack([steps, -steps])]
            if not all(padded[tuple(neighbour)] for neighbour in neighbours):
                border.append(index * np.asarray(spacing))
        positions.append(np.array(border).reshape(-1, reference.ndim))
    distances = cdist(*positions)
    return np.concatenate([distances.min(axis=1), distances.min(axis=0)])


@st.composite
def mask_pairs(draw):
    """Pairs of masks from empty and single voxels to blobs that touch the faces of the volume."""
    shape = draw(st.tuples(*[st.integers(1, 7)] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    masks = []
    for _ in range(2):
        kind = draw(st.sampled_from(["empty", "voxel", "noise", "box", "full"]))
        mask = np.zeros(shape, bool)
        if kind == "voxel":
            mask[tuple(rng.integers(0, shape))] = True
        elif kind == "noise":
            mask = rng.random(shape) < rng.random()
        elif kind == "box":
            corners = np.sort([rng.integers(0, shape), rng.integers(0, shape)], axis=0)
            mask[tuple(slice(low, high + 1) for low, high in corners.T)] = True
        elif kind == "full":
            mask[:] = True
        masks.append(mask)
    return *masks, draw(st.sampled_from(SPACINGS))


@settings(max_examples=400, deadline=None)
@given(mask_pairs(), st.booleans(), st.sampled_from([0.0, 1.0, 2.5]))
def test_every_metric_agrees_with_its_definition(masks, outside_is_foreground, tolerance):
    prediction, reference, spacing = masks
    pair = MaskPair(prediction, reference, spacing, outside_is_foreground)
    tp, fp = np.sum(prediction & reference), np.sum(prediction & ~reference)
    fn, tn = np.sum(~prediction & reference), np.sum(~prediction & ~reference)
    with np.errstate(divide="ignore", invalid="ignore"):
        assert pair.dice() == pytest.approx(2 * tp / (2 * tp + fp + fn), nan_ok=True)
        assert pair.sensitivity() == pytest.approx(tp / (tp + fn), nan_ok=True)
        assert pair.specificity() == pytest.approx(tn / (tn + fp), nan_ok=True)
    if reference.any():
        assert pair.ravd() == pytest.approx(abs(int(fp) - int(fn)) / (tp + fn) * 100)
    else:
        assert math.isnan(pair.ravd())

    if not (prediction.any() and reference.any()):
        assert all(math.isnan(value) for value in (pair.hd95(), pair.assd(), pair.mssd()))
        assert pair.nsd(tolerance) == pytest.approx(0 if (prediction | reference).any() else math.nan, nan_ok=True)
        return
    if outside_is_foreground and (prediction.all() or reference.all()):
        # A mask that fills the volume has no border: it is at no distance to its like, and at none to anything else.
        expected = 0.0 if prediction.all() and reference.all() else math.nan
        assert pair.mssd() == pytest.approx(expected, nan_ok=True)
        return
    distances = brute_force_distances(prediction, reference, spacing, outside_is_foreground)
    assert pair.mssd() == pytest.approx(distances.max(), abs=1e-9)
    assert pair.assd() == pytest.approx(distances.mean(), abs=1e-9)
    assert pair.hd95() == pytest.approx(np.percentile(distances, 95), abs=1e-9)
    # k-d tree and brute force round distances that equal the tolerance each its own way.
    if not np.isclose(distances, tolerance).any():
        assert pair.nsd(tolerance) == pytest.approx(np.mean(distances <= tolerance), abs=1e-9)


@settings(max_examples=150, deadline=None)
@given(mask_pairs())
def test_surface_distances_agree_with_medpy(masks):
    prediction, reference, spacing = masks
    if not (prediction.any() and reference.any()):
        return
    pair = MaskPair(prediction, reference, spacing)
    prediction, reference, spacing = without_flat_axes(prediction, reference, spacing)
    assert pair.hd95() == pytest.approx(medpy.hd95(prediction, reference, spacing), abs=1e-6)
    assert pair.mssd() == pytest.approx(medpy.hd(prediction, reference, spacing), abs=1e-6)
    directed = [
        medpy.__surface_distances(*sides, spacing, 1) for sides in ((prediction, reference), (reference, prediction))
    ]
    assert pair.assd() == pytest.approx(np.concatenate(directed).mean(), abs=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_of_one_slice_scores_as_the_slice(axis):
    """Its voxels have nothing above and below, and are not all border for that."""
    reference = np.zeros((40, 40), bool)
    reference[5:25, 5:25] = True
    prediction = reference.copy()
    prediction[5:9] = False
    flat = MaskPair(prediction, reference, (2, 1))
    volume = MaskPair(
        *(np.expand_dims(mask, axis) for mask in (prediction, reference)), tuple(np.insert([2.0, 1.0], axis, 999))
    )
    assert flat.hd95() == volume.hd95() == 8
    assert flat.assd() == volume.assd() > 1
    assert flat.nsd(1) == volume.nsd(1)
    assert flat.specificity() == volume.specificity()


def test_chaos_border_leaves_out_the_faces_of_the_volume():
    """An organ cut by the field of view: only its two inner faces are surface."""
    reference = np.zeros((6, 5, 5), bool)
    reference[:3] = True
    prediction = np.zeros_like(reference)
    prediction[:4] = True
    assert MaskPair(prediction, reference, (2, 1, 1), outside_is_foreground=True).assd() == pytest.approx(2.0)
    # With the faces counted as border, most border voxels coincide.
    assert MaskPair(prediction, reference, (2, 1, 1)).assd() < 1


def test_symmetry_and_identity():
    rng = np.random.default_rng(3)
    a, b = rng.random((2, 6, 7, 8)) < 0.3
    one, other = MaskPair(a, b, (1, 2, 3)), MaskPair(b, a, (1, 2, 3))
    for metric in ("dice", "hd95", "assd", "mssd"):
        assert getattr(one, metric)() == pytest.approx(getattr(other, metric)())
    same = MaskPair(a, a, (1, 2, 3))
    assert (same.dice(), same.mssd(), same.nsd(0.0), same.ravd()) == (1, 0, 1, 0)


def test_agrees_with_monai_on_a_large_anisotropic_pair():
    zz, yy, xx = np.ogrid[:20, :64, :64]
    reference = ((zz - 9) / 7) ** 2 + ((yy - 30) / 20) ** 2 + ((xx - 28) / 22) ** 2 < 1
    prediction = ((zz - 10) / 6) ** 2 + ((yy - 33) / 19) ** 2 + ((xx - 28) / 25) ** 2 < 1
    pair = MaskPair(prediction, reference, (3.0, 0.8, 0.8))
    batch = [torch.from_numpy(mask)[None, None] for mask in (prediction, reference)]
    assd = compute_average_surface_distance(
        *batch, include_background=True, symmetric=True, spacing=pair.spacing.tolist()
    )
    assert pair.assd() == pytest.approx(float(assd), abs=1e-5)  # MONAI answers in 32-bit floats
    hausdorff = compute_hausdorff_distance(*batch, include_background=True, spacing=pair.spacing.tolist())
    assert pair.mssd() == pytest.approx(float(hausdorff), abs=1e-5)
    nsd = compute_surface_dice(*batch, class_thresholds=[2.0], include_background=True, spacing=pair.spacing.tolist())
    assert pair.nsd(2.0) == pytest.approx(float(nsd), abs=1e-6)


def test_the_ignore_label_takes_voxels_out():
    prediction = np.array([[[1, 1, 1, 0]]], bool)
    reference = np.array([[[1, 0, 0, 0]]], bool)
    valid = np.array([[[1, 1, 0, 0]]], bool)
    pair = MaskPair(prediction, reference, (1, 1, 1), valid=valid)
    assert pair.dice() == pytest.approx(2 / 3)
    assert pair.specificity() == 0
    assert pair.mssd() == 1


def test_grids_must_match():
    with pytest.raises(ValueError, match="must share a grid"):
        MaskPair(np.zeros((2, 2, 2), bool), np.zeros((2, 2, 3), bool), (1, 1, 1))
