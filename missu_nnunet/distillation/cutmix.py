"""CutMix: patches with a box of another patch pasted in, and their labels likewise.

Source: Yun et al., arXiv:1905.04899, and as consistency between a teacher's labels and a student French et al.,
arXiv:1906.01916. A teacher labels whole patches; the student has to give the same labels where the surroundings
have changed, and so cannot rely on them alone.
"""

import torch
from torch import Tensor

BOX_SHARES = (0.25, 0.5)
"""Smallest and largest share of the patch's voxels in a box."""


class CutMix:
    """A random choice of boxes, which mixes every tensor of a batch in the same way.

    A box has the patch's proportions; it comes from the same place of the next patch in the batch. Random numbers are
    those of torch's generator.

    Args:
        patches: so many patches, the first ones of the batch, are mixed; a patch alone is left as it is.
        dimensions: spatial axes, 2 or 3.
    """

    def __init__(self, patches: int, dimensions: int) -> None:
        low, high = BOX_SHARES
        sides = (low + (high - low) * torch.rand(patches)) ** (1 / dimensions)
        corners = torch.rand(patches, dimensions) * (1 - sides[:, None])
        self.boxes = torch.stack((corners, corners + sides[:, None]), dim=2).tolist()

    def __call__(self, batch: Tensor) -> Tensor:
        """Images or probabilities ``(B, C, D, H, W)`` → the first ``patches`` of them, mixed; a new tensor."""
        result = batch[: len(self.boxes)].clone()
        for patch, box in enumerate(self.boxes):
            sides = [
                slice(round(low * size), round(high * size))
                for (low, high), size in zip(box, batch.shape[2:], strict=True)
            ]
            region = (slice(None), *sides)
            result[patch][region] = batch[(patch + 1) % len(batch)][region]
        return result
