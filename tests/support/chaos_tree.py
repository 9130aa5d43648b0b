"""Trees in the organisers' layout, traps included, and the truth they were written from."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

GREY = np.array([0, 63, 126, 189, 252], np.uint8)


@dataclass
class Truth:
    """One series as it should come out: what each slice holds and where each of its pixels is (mm, LPS)."""

    volume: np.ndarray
    labels: np.ndarray
    origins: np.ndarray
    axis_x: np.ndarray
    axis_y: np.ndarray
    spacing: tuple[float, float]  # between columns, between rows
    step: float
    extra: dict = field(default_factory=dict)

    def positions(self):
        """(slices, rows, columns, 3)"""
        _, rows, columns = self.volume.shape
        right = np.arange(columns)[:, None] * self.spacing[0] * self.axis_x
        down = np.arange(rows)[:, None] * self.spacing[1] * self.axis_y
        return self.origins[:, None, None] + down[None, :, None] + right[None, None, :]


def make_truth(rng, shape=(6, 10, 12), step=2.0, tilt=0.0, spacing=(0.7, 0.75), ct=False) -> Truth:
    """A volume with random values and organs; ``tilt`` (radians) turns it about the x axis."""
    axis_x = np.array([1.0, 0, 0])
    axis_y = np.array([0, np.cos(tilt), np.sin(tilt)])
    normal = np.cross(axis_x, axis_y)
    volume = rng.integers(-1000, 1000, shape) if ct else rng.integers(0, 1500, shape)
    labels = rng.integers(0, 2 if ct else 5, shape)
    origins = np.array([-120.5, -80.25, 31.5]) + step * np.arange(shape[0])[:, None] * normal
    return Truth(volume, labels, origins, axis_x, axis_y, spacing, step)


def write_slice(path: Path, truth: Truth, values, place: int, modality: str, series_uid: str, offset=0, thickness=3.2):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slice_ = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    slice_.SOPClassUID, slice_.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    slice_.Modality, slice_.SeriesInstanceUID = modality, series_uid
    slice_.Rows, slice_.Columns = values.shape
    slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 12, 11, 0
    slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
    slice_.PixelSpacing = [truth.spacing[1], truth.spacing[0]]
    slice_.ImageOrientationPatient = [round(float(value), 6) for value in (*truth.axis_x, *truth.axis_y)]
    slice_.ImagePositionPatient = [round(float(value), 4) for value in truth.origins[place]]
    slice_.SliceThickness = thickness
    if modality == "CT":
        slice_.RescaleSlope, slice_.RescaleIntercept = "1", str(-offset)
    slice_.PixelData = (values + offset).astype(np.uint16).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    slice_.save_as(path, enforce_file_format=True)


def write_png(path: Path, grey: np.ndarray, one_bit=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(grey)
    (image.convert("1") if one_bit else image).save(path)


def write_ct(folder: Path, rng, ground=True, naming="i{:04d},0000b.dcm", masks="1-bit", **truth_arguments) -> Truth:
    """Files numbered by descending z, HU through an intercept, 1-bit masks."""
    truth = make_truth(rng, ct=True, **truth_arguments)
    uid = generate_uid()
    count = len(truth.volume)
    for number in range(count):
        place = count - 1 - number
        write_slice(folder / "DICOM_anon" / naming.format(number), truth, truth.volume[place], place, "CT", uid, 1024)
        if ground:
            on = 1 if masks == "0/1" else 255
            grey = (truth.labels[place] * on).astype(np.uint8)
            write_png(folder / "Ground" / f"liver_GT_{number:03d}.png", grey, one_bit=masks == "1-bit")
    return truth


def write_t1dual(folder: Path, rng, ground=True, **truth_arguments) -> Truth:
    """Ascending z; in-phase even, out-phase one less; one series UID for both."""
    truth = make_truth(rng, **truth_arguments)
    truth.extra["OutPhase"] = rng.integers(0, 1500, truth.volume.shape)
    uid = generate_uid()
    for place in range(len(truth.volume)):
        number = 2 * place + 2
        name = f"IMG-0004-{number:05d}"
        dicom = folder / "DICOM_anon"
        write_slice(dicom / "InPhase" / f"{name}.dcm", truth, truth.volume[place], place, "MR", uid)
        out = dicom / "OutPhase" / f"IMG-0004-{number - 1:05d}.dcm"
        write_slice(out, truth, truth.extra["OutPhase"][place], place, "MR", uid)
        if ground:
            write_png(folder / "Ground" / f"{name}.png", GREY[truth.labels[place]])
    return truth


def write_t2spir(folder: Path, rng, ground=True, naming="IMG-0002-{:05d}.dcm", **truth_arguments) -> Truth:
    truth = make_truth(rng, **truth_arguments)
    uid = generate_uid()
    for place in range(len(truth.volume)):
        name = f"IMG-0002-{place + 1:05d}"
        path = folder / "DICOM_anon" / naming.format(place + 1)
        write_slice(path, truth, truth.volume[place], place, "MR", uid)
        if ground:
            write_png(folder / "Ground" / f"{name}.png", GREY[truth.labels[place]])
    return truth


def write_download(root: Path, rng) -> dict[str, Truth]:
    """Training and test sets; each case's truth by the name of its scan."""
    train, test = root / "Train_Sets", root / "Test_Sets"
    return {
        "CT_01": write_ct(train / "CT" / "1", rng),
        "CT_14": write_ct(train / "CT" / "14", rng, naming="IMG-0013-{:05d}.dcm", masks="0/1", step=1.25),
        "MR_01_T1DUAL": write_t1dual(train / "MR" / "1" / "T1DUAL", rng, step=5.5, tilt=0.12),
        "MR_01_T2SPIR": write_t2spir(train / "MR" / "1" / "T2SPIR", rng, step=8.0, spacing=(1.6, 1.6)),
        "MR_39_T1DUAL": write_t1dual(train / "MR" / "39" / "T1DUAL", rng, shape=(4, 9, 8)),
        "MR_39_T2SPIR": write_t2spir(train / "MR" / "39" / "T2SPIR", rng, naming="{}.dcm", shape=(11, 5, 6), tilt=-0.3),
        "CT_03": write_ct(test / "CT" / "3", rng, ground=False, masks="8-bit"),
        "MR_04_T1DUAL": write_t1dual(test / "MR" / "4" / "T1DUAL", rng, ground=False),
        "MR_04_T2SPIR": write_t2spir(test / "MR" / "4" / "T2SPIR", rng, ground=False),
    }
