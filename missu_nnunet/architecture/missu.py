"""MISSU: CNN encoder with a Transformer at one of its deep stages, CNN decoder (arXiv:2206.00902).

This is the whole network at inference; ``missu_nnunet.distillation`` holds what the paper computes only in training.
Encoder and decoder are nnU-Net's own building blocks, which is a design choice: the network then follows every plan,
and its parameters have the names of nnU-Net's U-Nets.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from dynamic_network_architectures.architectures.abstract_arch import AbstractDynamicNetworkArchitectures
from dynamic_network_architectures.building_blocks.helper import convert_conv_op_to_dim
from dynamic_network_architectures.building_blocks.plain_conv_encoder import PlainConvEncoder
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from dynamic_network_architectures.initialization.weight_init import InitWeights_He, init_last_bn_before_add_to_0
from torch import Tensor, nn

from missu_nnunet.architecture.transformer import TransformerBottleneck


class MISSUDecoder(UNetDecoder):
    """nnU-Net's U-Net decoder that can also hand out its features, and takes odd sizes, as plain encoders give them."""

    def features(self, skips: Sequence[Tensor]) -> list[Tensor]:
        """Compute the decoder features of every level, finest first.

        Args:
            skips: encoder features, finest first, the bottleneck's output last.

        Returns:
            One ``(B, C, D, H, W)`` per skip (the bottleneck excepted), with the skip's channels and spatial size.
        """
        x = skips[-1]
        features = []
        for transpconv, stage, skip in zip(self.transpconvs, self.stages, reversed(skips[:-1]), strict=True):
            x = transpconv(x)
            # A strided convolution rounds an odd size up, the transposed one doubles it: drop the surplus voxel.
            for axis in range(2, x.ndim):
                if x.shape[axis] > skip.shape[axis]:
                    x = x.narrow(axis, 0, skip.shape[axis])
            x = stage(torch.cat((x, skip), dim=1))
            features.append(x)
        return features[::-1]

    def segment(self, features: Sequence[Tensor]) -> Tensor | list[Tensor]:
        """Features → logits ``(B, classes, D, H, W)``, or with deep supervision those of every level, finest first."""
        if not self.deep_supervision:
            return self.seg_layers[-1](features[0])
        return [layer(x) for layer, x in zip(reversed(self.seg_layers), features, strict=True)]

    def forward(self, skips: Sequence[Tensor]) -> Tensor | list[Tensor]:
        """Encoder features, finest first → logits, see ``segment``."""
        return self.segment(self.features(skips))


class MISSU(AbstractDynamicNetworkArchitectures):
    """The inference network, from the keyword arguments of a plan.

    Exactly one of ``n_conv_per_stage`` (plain encoder) and ``n_blocks_per_stage`` (residual encoder) must be given. The
    arguments that nnU-Net's U-Nets have too mean the same here.

    Args:
        input_channels: image channels.
        n_stages: resolution stages of the encoder, the Transformer's included; at least 2.
        features_per_stage: channels of each stage.
        conv_op: ``nn.Conv2d`` or ``nn.Conv3d``.
        kernel_sizes: kernel of each stage.
        strides: stride into each stage.
        num_classes: output channels.
        n_conv_per_stage_decoder: convolutions of each decoder stage, deepest first.
        n_conv_per_stage: convolutions of each encoder stage (plain encoder).
        n_blocks_per_stage: residual blocks of each encoder stage (residual encoder).
        transformer: keyword arguments of ``TransformerBottleneck`` (``embedding_dim``, ``depth``, ``num_heads``,
            ``mlp_dim``, ``dropout``); None leaves the features as the encoder made them.
        stages_below_transformer: so many of the encoder's stages are deeper than the Transformer's.
        deep_supervision: return the logits of every decoder level, finest first, instead of the finest alone.

    Raises:
        ValueError: if the encoder's kind is unclear, there are fewer than 2 stages, too few for those below the
            Transformer, or its sizes do not fit each other.
    """

    def __init__(
        self,
        input_channels: int,
        n_stages: int,
        features_per_stage: Sequence[int],
        conv_op: type[nn.Conv2d] | type[nn.Conv3d],
        kernel_sizes: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        num_classes: int,
        n_conv_per_stage_decoder: Sequence[int],
        n_conv_per_stage: Sequence[int] | None = None,
        n_blocks_per_stage: Sequence[int] | None = None,
        transformer: dict[str, Any] | None = None,
        stages_below_transformer: int = 0,
        conv_bias: bool = False,
        norm_op: type[nn.Module] | None = None,
        norm_op_kwargs: dict[str, Any] | None = None,
        dropout_op: type[nn.Module] | None = None,
        dropout_op_kwargs: dict[str, Any] | None = None,
        nonlin: type[nn.Module] | None = None,
        nonlin_kwargs: dict[str, Any] | None = None,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        if n_stages < 2:
            raise ValueError(f"MISSU needs at least 2 stages, got n_stages={n_stages}")
        blocks = (n_conv_per_stage, n_blocks_per_stage)
        if blocks.count(None) != 1:
            raise ValueError(
                "give either n_conv_per_stage (plain encoder) or n_blocks_per_stage (residual encoder), "
                f"got n_conv_per_stage={n_conv_per_stage}, n_blocks_per_stage={n_blocks_per_stage}"
            )
        encoder_class = PlainConvEncoder if n_blocks_per_stage is None else ResidualEncoder
        self.encoder = encoder_class(
            input_channels,
            n_stages,
            features_per_stage,
            conv_op,
            kernel_sizes,
            strides,
            n_conv_per_stage if n_blocks_per_stage is None else n_blocks_per_stage,
            conv_bias,
            norm_op,
            norm_op_kwargs,
            dropout_op,
            dropout_op_kwargs,
            nonlin,
            nonlin_kwargs,
            return_skips=True,
        )
        if stages_below_transformer not in range(n_stages):
            raise ValueError(
                f"stages_below_transformer must be one of 0 to {n_stages - 1}, got {stages_below_transformer}"
            )
        self.transformer_stage = n_stages - 1 - stages_below_transformer
        channels = features_per_stage[self.transformer_stage]
        self.bottleneck = (
            nn.Identity()
            if transformer is None
            else TransformerBottleneck(channels, convert_conv_op_to_dim(conv_op), **transformer)
        )
        self.decoder = MISSUDecoder(self.encoder, num_classes, n_conv_per_stage_decoder, deep_supervision)

        # Where nnU-Net and pre-training frameworks find the parts, named as in nnU-Net's own U-Nets.
        self.key_to_encoder = "encoder.stages"
        if n_blocks_per_stage is None:
            self.key_to_stem = "encoder.stages.0"
            self.keys_to_in_proj = ("encoder.stages.0.0.convs.0.all_modules.0", "encoder.stages.0.0.convs.0.conv")
        else:
            self.key_to_stem = "encoder.stem"
            self.keys_to_in_proj = ("encoder.stem.convs.0.conv", "encoder.stem.convs.0.all_modules.0")

    @classmethod
    def paper(cls, input_channels: int, num_classes: int, deep_supervision: bool = False) -> "MISSU":
        """Build the network with the sizes of the authors' release (``paper_arch_kwargs``), for 3D patches of 128³."""
        return cls(
            input_channels,
            num_classes=num_classes,
            conv_op=nn.Conv3d,
            norm_op=nn.InstanceNorm3d,
            nonlin=nn.ReLU,
            deep_supervision=deep_supervision,
            **paper_arch_kwargs(),
        )

    def encode(self, x: Tensor) -> list[Tensor]:
        """Image ``(B, C, D, H, W)`` → features of every stage, finest first; one of them from the Transformer."""
        if isinstance(self.encoder, ResidualEncoder):
            x = self.encoder.stem(x)
        skips = []
        for index, stage in enumerate(self.encoder.stages):
            x = stage(x)
            if index == self.transformer_stage:
                x = self.bottleneck(x)
            skips.append(x)
        return skips

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Image ``(B, C, D, H, W)`` → logits ``(B, classes, D, H, W)``, or a list of them with deep supervision."""
        return self.decoder(self.encode(x))

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> np.int64:
        """Estimate the size of the feature maps that training keeps, in the unit of nnU-Net's memory estimates.

        Args:
            input_size: the patch in voxels, without batch and channels.
        """
        size = self.encoder.compute_conv_feature_map_size(input_size)
        size += self.decoder.compute_conv_feature_map_size(input_size)
        if isinstance(self.bottleneck, TransformerBottleneck):
            grid = np.array(input_size) // np.prod(self.encoder.strides[: self.transformer_stage + 1], axis=0)
            size += self.bottleneck.compute_conv_feature_map_size(grid)
        return size

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """Initialise convolutions as nnU-Net does; the Transformer keeps its own, which start as the identity."""
        InitWeights_He(1e-2)(module)
        init_last_bn_before_add_to_0(module)


def paper_arch_kwargs() -> dict[str, Any]:
    """Return keyword arguments with the numbers of the authors' code release, without the classes of the layers.

    The release has 16 base channels; 4 stages of 1, 2, 2 and 4 residual blocks; and a Transformer with embedding 512,
    depth 4, 8 heads, feed-forward 1024 and dropout 0.1. Design choices, because nnU-Net's blocks are used, are
    post-activation residual blocks with instance normalisation instead of pre-activation with GroupNorm(8), and a
    decoder without residuals.
    """
    return {
        "n_stages": 4,
        "features_per_stage": [16, 32, 64, 128],
        "kernel_sizes": [[3, 3, 3]] * 4,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * 3,
        "n_blocks_per_stage": [1, 2, 2, 4],
        "n_conv_per_stage_decoder": [2, 2, 2],
        "conv_bias": True,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin_kwargs": {"inplace": True},
        "transformer": {"embedding_dim": 512, "depth": 4, "num_heads": 8, "mlp_dim": 1024, "dropout": 0.1},
    }
