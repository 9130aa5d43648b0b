"""nnU-Net's commands, those of the environment that runs this."""

import shutil
import sys
from pathlib import Path

from missu_nnunet.errors import InputError


def nnunet_command(name: str) -> str:
    """The path of a command, such as ``nnUNetv2_train``, beside this Python, not whichever is first on the PATH.

    Raises:
        InputError: it is not there.
    """
    folder = Path(sys.executable).parent
    command = shutil.which(name, path=str(folder))
    if command is None:
        raise InputError(
            f"{name}: not found in {folder}; install nnU-Net there: {sys.executable} -m pip install nnunetv2"
        )
    return command
