"""Every knob of a MISSU training, in one place."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Hyperparameters:
    """What one trainer variant does; variants differ by this alone.

    Stored in the checkpoint and printed in the log. The paper fixes none of the weights: unless marked otherwise the
    defaults are design choices.

    Attributes:
        transformer: Transformer at the bottleneck; False leaves the bottleneck as the encoder made it.
        teacher: what teaches the decoder: the fusion block of each skip connection (the paper's abstract), the raw skip
            (the authors' code release), or None for no self-distillation.
        student: what is distilled: the decoder's class posterior, from the teacher's auxiliary head, or its features,
            by their channel-wise softmax (the release; the raw skip has no head and cannot teach otherwise).
        w_aux: weight of the auxiliary heads' segmentation loss.
        supervise_encoder: whether that loss reaches the encoder too, through the skip connections; otherwise it trains
            the fusion blocks and their heads alone.
        w_kd: weight of the distillation term.
        kd_warmup: share of the training over which that weight rises linearly, epoch by epoch: teachers learn first.
        temperature: softens teacher and student; the term is multiplied by its square.
        dilations: of a fusion block's parallel convolutions, one branch each.
        finest_level: finest skip connection that teaches; 0 is full resolution.
        level_decay: weight of a skip level over that of the next finer one.
        optimizer: ``torch.optim`` class; Adam runs with amsgrad, as in the release.
        initial_lr: learning rate after the warm-up; falls polynomially (exponent 0.9).
        transformer_lr: the Transformer's learning rate, as a share of all others'.
        weight_decay: as the optimiser defines it.
        warmup: share of the training over which the learning rate rises linearly.
        num_epochs: length of the training.
        num_iterations_per_epoch: training batches per epoch; validation takes a fifth of it.
    """

    transformer: bool = True
    teacher: Literal["fusion", "skip"] | None = "fusion"
    student: Literal["features", "posterior"] = "posterior"
    w_aux: float = 0.4
    supervise_encoder: bool = False
    w_kd: float = 0.4
    kd_warmup: float = 1.0
    temperature: float = 1.0
    dilations: tuple[int, ...] = (1, 2, 3)
    finest_level: int = 1
    level_decay: float = 0.5
    optimizer: Literal["AdamW", "Adam"] = "AdamW"
    initial_lr: float = 3e-3
    transformer_lr: float = 0.2
    weight_decay: float = 1e-2
    warmup: float = 0.05
    num_epochs: int = 1000
    num_iterations_per_epoch: int = 250
