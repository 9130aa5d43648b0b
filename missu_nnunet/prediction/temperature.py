"""The temperature of a calibrated model."""

from __future__ import annotations

import math
from pathlib import Path

from missu_nnunet.errors import InputError
from missu_nnunet.files import read_json

FILE = "calibration.json"
"""The file that ``missu weights calibrate`` writes into a trained model's folder."""


def read_temperature(model: Path) -> float | None:
    """Read the temperature of a model; None where the model is not calibrated.

    Raises:
        InputError: if the file holds no temperature.
    """
    file = model / FILE
    if not file.exists():
        return None
    remedy = "write it anew with missu weights calibrate, or remove it"
    temperature = read_json(file, remedy).get("temperature")
    if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 < temperature < math.inf:
        raise InputError(f"{file}: the temperature is {temperature!r}, expected a number above 0; {remedy}")
    return float(temperature)
