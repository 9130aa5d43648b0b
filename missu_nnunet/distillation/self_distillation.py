"""The module that joins MISSU with what only training needs."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from missu_nnunet.architecture.missu import MISSU, MISSUDecoder
from missu_nnunet.distillation.fusion import LocalMultiScaleFusion
from missu_nnunet.distillation.losses import TrainingOutput, level_weights, sigmoid_kl, softmax_kl
from missu_nnunet.hyperparameters import Hyperparameters


class SelfDistillation(nn.Module):
    """MISSU with the teachers of its skip connections attached.

    In training mode it returns a :class:`TrainingOutput`; in evaluation mode it is the network and nothing else. Its
    ``state_dict`` is the network's alone, so that whoever saves or loads weights handles the inference network; the
    teachers' is :meth:`teacher_state_dict`.

    Args:
        network: the inference network.
        num_classes: channels of its logits.
        regions: whether those are overlapping regions (sigmoid) rather than exclusive classes (softmax).
        hyperparameters: ``teacher`` must not be None.

    Raises:
        ValueError: if the class posterior is to be distilled from the raw skip, which has none.
    """

    def __init__(self, network: MISSU, num_classes: int, regions: bool, hyperparameters: Hyperparameters) -> None:
        super().__init__()
        if hyperparameters.teacher == "skip" and hyperparameters.student == "posterior":
            raise ValueError("student='posterior' needs teacher='fusion': the raw skip predicts no classes")
        self.network = network
        self.hyperparameters = hyperparameters
        self.posterior_kl = sigmoid_kl if regions else softmax_kl
        encoder = network.encoder
        n_levels = len(encoder.output_channels) - 1
        # A two-stage network has one skip connection only: that one teaches.
        self.finest_level = min(hyperparameters.finest_level, n_levels - 1)
        self.fusion = nn.ModuleList()
        if hyperparameters.teacher == "fusion":
            for level in range(self.finest_level, n_levels):
                self.fusion.append(
                    LocalMultiScaleFusion(
                        encoder.output_channels[level],
                        num_classes,
                        encoder.conv_op,
                        encoder.norm_op,
                        encoder.kernel_sizes[level],
                        hyperparameters.dilations,
                    )
                )

    @property
    def decoder(self) -> MISSUDecoder:
        """The network's decoder, where nnU-Net switches deep supervision."""
        return self.network.decoder

    def forward(self, x: Tensor) -> TrainingOutput | Tensor | list[Tensor]:
        """Image ``(B, C, D, H, W)`` → :class:`TrainingOutput` in training, the network's logits in evaluation."""
        if not self.training:
            return self.network(x)
        skips = self.network.encode(x)
        features = self.decoder.features(skips)
        segmentation = self.decoder.segment(features)
        teachers, auxiliary = skips[self.finest_level : -1], []
        if self.fusion:
            seen = teachers if self.hyperparameters.supervise_encoder else [skip.detach() for skip in teachers]
            fused = [block(skip) for block, skip in zip(self.fusion, seen, strict=True)]
            teachers, auxiliary = [feature for feature, _ in fused], [logits for _, logits in fused]
        distillation = self._distillation(teachers, auxiliary, features[self.finest_level :])
        return TrainingOutput(segmentation, auxiliary, distillation)

    def _distillation(self, teachers: list[Tensor], auxiliary: list[Tensor], students: list[Tensor]) -> Tensor:
        """Distillation term over the levels, finest first; 0 without computing anything where it has no weight."""
        hp = self.hyperparameters
        loss = students[0].new_zeros((), dtype=torch.float32)
        if not hp.w_kd:
            return loss
        divergence = softmax_kl
        if hp.student == "posterior":
            divergence, teachers = self.posterior_kl, auxiliary
            heads = list(reversed(self.decoder.seg_layers))[self.finest_level :]
            students = [head(student) for head, student in zip(heads, students, strict=True)]
        weights = level_weights(len(students), hp.level_decay)
        for weight, teacher, student in zip(weights, teachers, students, strict=True):
            loss = loss + weight * divergence(teacher, student, hp.temperature)
        return loss

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> np.int64:
        """Like the network's, with the fusion blocks and, where features are distilled, two maps of each level added.

        Posteriors are not counted, having few channels, as nnU-Net does not count logits.

        Args:
            input_size: the patch in voxels, without batch and channels.
        """
        encoder = self.network.encoder
        total = self.network.compute_conv_feature_map_size(input_size)
        sizes = np.array(input_size) // np.cumprod(encoder.strides, axis=0)
        for level in range(self.finest_level, len(sizes) - 1):
            if self.fusion:
                block = cast(LocalMultiScaleFusion, self.fusion[level - self.finest_level])
                total += block.compute_conv_feature_map_size(sizes[level])
            if self.hyperparameters.w_kd and self.hyperparameters.student == "features":
                total += np.prod(sizes[level], dtype=np.int64) * encoder.output_channels[level]
        return total

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """The inference network's state."""
        return self.network.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load the inference network's state."""
        return self.network.load_state_dict(state_dict, strict, assign)

    def teacher_state_dict(self) -> dict[str, Any]:
        """State of the training-only parts."""
        return self.fusion.state_dict()

    def load_teacher_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load the state of the training-only parts."""
        self.fusion.load_state_dict(state_dict)
