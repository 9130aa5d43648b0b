"""The packages; everything else is in setup.cfg, which can find packages or rename some, but not both."""

from setuptools import find_packages, setup

# nnU-Net looks for trainers and planners below its own folders only: the shims are installed there.
SHIMS = {
    "nnunetv2.training.nnUNetTrainer.missu": "trainers",
    "nnunetv2.experiment_planning.missu": "plans",
}

setup(packages=[*find_packages(include=["missu_nnunet*"]), *SHIMS], package_dir=SHIMS)
