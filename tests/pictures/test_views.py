"""Which slices are drawn, on which channel, and what they show."""

import numpy as np
import pytest
import SimpleITK as sitk

from missu_nnunet.datasets.phantom import CHANNELS, LABELS, generate_phantom
from missu_nnunet.pictures.colours import DIFFERENCES, label_colours
from missu_nnunet.pictures.orientation import oriented
from missu_nnunet.pictures.slices import grey
from missu_nnunet.pictures.views import labels_by_channel, views

SHAPE = (12, 16, 14)
PALETTE = label_colours({"core": (1,), "rim": (2,)})


@pytest.fixture
def segmentation() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:9, 4:12, 4:11] = 2
    labels[5:7, 6:10, 6:9] = 1
    return labels


def geometry_of(volume: np.ndarray):
    return oriented(sitk.GetImageFromArray(volume))[1]


def coloured_pixels(picture) -> int:
    values = np.asarray(picture, int)
    return int((np.ptp(values, axis=-1) > 25).sum())


@pytest.mark.parametrize("seed", range(5))
def test_each_structure_of_the_phantom_is_drawn_where_it_is_seen(seed: int) -> None:
    case = generate_phantom(np.random.default_rng([seed, 0]))
    channels = {name: grey(values) for name, values in zip(CHANNELS, case.image, strict=True)}
    found = labels_by_channel(channels, case.labels, [1, 2, 3])
    # The first channel shows neither vessel nor nucleus, the second no outer border of the shell.
    assert found == {"phantomA": (LABELS["shell"],), "phantomB": (LABELS["nucleus"], LABELS["vessel"])}


def test_channels_alike_are_not_drawn_twice(segmentation: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    channels = {name: grey(segmentation * 50.0 + rng.normal(0, 10, SHAPE)) for name in ("T1", "T2", "FLAIR")}
    assert len(labels_by_channel(channels, segmentation, [1, 2, 3])) == 1


def test_labels_that_are_nowhere_still_have_a_channel() -> None:
    empty = np.zeros(SHAPE, np.uint8)
    assert labels_by_channel({"a": empty, "b": empty}, empty, [1, 2]) == {"a": (1, 2)}
    assert labels_by_channel({}, empty, [1]) == {"": (1,)}


def test_titles_numbers_and_sizes(segmentation: np.ndarray) -> None:
    found = views({"MRI": segmentation}, segmentation, geometry_of(segmentation), PALETTE, 100)
    assert [view.title for view in found] == ["axial 6", "coronal 7", "sagittal 7"]
    assert [view.size for view in found] == [(88, 100), (100, 86), (100, 75)]
    (flat,) = views({}, segmentation[:1], geometry_of(segmentation[:1]), PALETTE, 100)
    assert flat.title == "image"


def test_a_perfect_prediction_has_no_difference_and_an_error_its_colour(segmentation: np.ndarray) -> None:
    view = views({}, segmentation, geometry_of(segmentation), PALETTE, 200)[0]
    assert coloured_pixels(view.image()) == 0
    assert coloured_pixels(view.segmentation(segmentation, PALETTE)) > 1000
    assert coloured_pixels(view.difference(segmentation, segmentation, None)) == 0
    for wrong, colour in ((0, "missed"), (2, "confused")):
        prediction = np.where(segmentation == 1, wrong, segmentation).astype(np.uint8)
        pixels = np.asarray(view.difference(segmentation, prediction, None)).reshape(-1, 3).tolist()
        assert list(bytes.fromhex(DIFFERENCES[colour][1:])) in pixels


def test_the_ignore_label_is_drawn_and_chooses_no_slice(segmentation: np.ndarray) -> None:
    segmentation[11] = 3
    found = views({}, segmentation, geometry_of(segmentation), [*PALETTE, 3], 100, ignore=3)
    assert found[0].index == 5
    assert found[0].labels == (1, 2, 3)


def test_the_sides_are_marked(segmentation: np.ndarray) -> None:
    """Only the mark's own side of an otherwise black picture is lit."""
    black = np.zeros(SHAPE, np.uint8)
    picture = np.asarray(views({"MRI": black}, segmentation, geometry_of(segmentation), PALETTE, 340)[0].image())
    lit = picture.max(axis=-1) > 128
    height, width = lit.shape
    centre = lit[height // 4 : -height // 4, width // 4 : -width // 4]
    assert not centre.any()
    sides = (lit[:, : width // 8], lit[:, -width // 8 :], lit[: height // 8], lit[-height // 8 :])
    assert all(side.any() for side in sides)
