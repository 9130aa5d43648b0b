"""nnU-Net's per-epoch log with the terms of MISSU's loss."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from nnunetv2.training.logging.nnunet_logger import LocalLogger
from PIL import Image

LOSS_TERMS = {"seg_loss": "segmentation", "kd_loss": "distillation", "aux_loss": "auxiliary heads"}
"""Keys of the log, and what the plot calls them."""


class SelfDistillationLogger(LocalLogger):
    """Also takes one value per epoch of each loss term, and draws them below nnU-Net's panels in ``progress.png``."""

    def __init__(self) -> None:
        super().__init__()
        self.my_fantastic_logging.update({term: [] for term in LOSS_TERMS})

    def log(self, key: str, value: Any, epoch: int) -> None:
        """Log the value of an epoch; the moving pseudo-Dice stays as it was where no voxel was there to score.

        nnU-Net's would be undefined ever after: no checkpoint would be the best any more, and patience would run out.
        """
        if key == "ema_fg_dice" and np.isnan(value):
            value = self.my_fantastic_logging[key][epoch - 1] if epoch else 0.0
        super().log(key, value, epoch)

    def plot_progress_png(self, output_folder: str) -> None:
        """Write ``progress.png``: nnU-Net's own figure, and a panel of the loss terms under it."""
        super().plot_progress_png(output_folder)
        file = Path(output_folder) / "progress.png"
        with Image.open(file) as image:
            upper = image.convert("RGB")
        lower = self._draw_loss_terms(upper.width)
        combined = Image.new("RGB", (upper.width, upper.height + lower.height))
        combined.paste(upper, (0, 0))
        combined.paste(lower, (0, upper.height))
        combined.save(file, compress_level=1)  # written every epoch, in the training's time

    def _draw_loss_terms(self, width: int) -> Image.Image:
        """Loss terms over epochs, ``width`` pixels wide."""
        dpi = 100
        figure, axes = plt.subplots(figsize=(width / dpi, 18), dpi=dpi)
        for term, label in LOSS_TERMS.items():
            axes.plot(self.my_fantastic_logging[term], label=label, linewidth=4)
        axes.set_xlabel("epoch")
        axes.set_ylabel("unweighted loss term")
        axes.legend(loc=(0, 1), ncols=len(LOSS_TERMS))
        figure.tight_layout()
        file = io.BytesIO()
        figure.savefig(file, format="png")
        plt.close(figure)
        return Image.open(file).convert("RGB")
