"""The temperature of a calibrated model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from missu_nnunet.structures import Structure, read_structure

FILE = "calibration.json"
"""The file that ``missu weights calibrate`` writes into a trained model's folder."""


class _Calibration(Structure):
    """What a prediction uses of the file."""

    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]


def read_temperature(model: Path) -> float | None:
    """Read the temperature of a model; None where the model is not calibrated.

    Raises:
        InputError: if the file holds no temperature.
    """
    file = model / FILE
    if not file.exists():
        return None
    return read_structure(file, _Calibration, "write it anew with missu weights calibrate, or remove it").temperature
