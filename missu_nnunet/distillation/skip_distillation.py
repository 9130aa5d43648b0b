"""The module that joins MISSU with teachers at its skip connections, as the authors' code release has them."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from missu_nnunet.architecture.missu import MISSU, MISSUDecoder
from missu_nnunet.distillation.fusion import LocalMultiScaleFusion
from missu_nnunet.distillation.losses import TrainingOutput


class SkipDistillation(nn.Module):
    """MISSU with a teacher attached to each skip connection.

    In training mode it returns a ``TrainingOutput``; in evaluation mode it is the network and nothing else. Its
    ``state_dict`` is the network's alone, so that whoever saves or loads weights handles the inference network; the
    teachers' is that of ``fusion``.

    Args:
        network: the inference network.
        num_classes: channels of its logits.
        fusion: whether a fusion block teaches, which reads the skip; otherwise the raw skip does, as in the release.

    Attributes:
        fusion: the fusion blocks, finest first; empty where the raw skip teaches.
    """

    def __init__(self, network: MISSU, num_classes: int, fusion: bool) -> None:
        super().__init__()
        self.network = network
        self.fusion = nn.ModuleList()
        if fusion:
            encoder = network.encoder
            for channels, kernel_size in zip(encoder.output_channels[:-1], encoder.kernel_sizes[:-1], strict=True):
                self.fusion.append(LocalMultiScaleFusion(channels, num_classes, encoder.conv_op, kernel_size))

    @property
    def decoder(self) -> MISSUDecoder:
        """The network's decoder, where nnU-Net switches deep supervision."""
        return self.network.decoder

    def forward(self, x: Tensor) -> TrainingOutput | Tensor | list[Tensor]:
        """Image ``(B, C, D, H, W)`` → ``TrainingOutput`` in training, the network's logits in evaluation."""
        if not self.training:
            return self.network(x)
        encoded = self.network.encode(x)
        students = self.decoder.features(encoded)
        teachers, auxiliary = [skip.detach() for skip in encoded[:-1]], []
        if self.fusion:
            fused = [block(skip) for block, skip in zip(self.fusion, teachers, strict=True)]
            teachers, auxiliary = [feature.detach() for feature, _ in fused], [logits for _, logits in fused]
        return TrainingOutput(self.decoder.segment(students), auxiliary, teachers, students)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """The inference network's state."""
        return self.network.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load the inference network's state."""
        return self.network.load_state_dict(state_dict, strict, assign)
