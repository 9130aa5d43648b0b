"""All hyper-parameters of a MISSU training, and where its seed comes from."""

from dataclasses import dataclass
from typing import Literal

SEED_VARIABLE = "MISSU_SEED"
"""Environment variable that seeds a training; unset, every training differs."""


@dataclass(frozen=True)
class Hyperparameters:
    """The hyper-parameters of a trainer; variants of ``MISSUTrainer`` differ by these alone.

    They are stored in the checkpoint and printed in the log. The paper does not give the weights; the defaults are
    design choices unless the release is named.

    Attributes:
        transformer: whether the network has its Transformer; False leaves the features as the encoder made them.
        teacher: the teacher in training: the network's moving average, where labels are missing; the fusion block of
            each skip connection (the paper's abstract); the raw skip (the authors' code release); or None.
        average_decay: share of the moving average that a training step keeps.
        w_kd: weight of the distillation term.
        w_aux: weight of the segmentation loss of the fusion blocks' heads.
        level_decay: weight of a skip level over that of the next finer one.
        optimizer: ``torch.optim`` class; Adam runs with amsgrad, as in the release.
        initial_lr: learning rate after the warm-up; falls polynomially (exponent 0.9).
        transformer_lr: the Transformer's learning rate, as a share of all others'.
        weight_decay: the weight decay of convolutions and linear maps; see ``training.optimizer`` for what has none.
        warmup: share of the training over which the learning rate rises linearly.
        foreground: share of the patches that are chosen to hold foreground (nnU-Net's 0.33).
        class_weights: weights of the cross-entropy, of the background first and then of every class in the order of
            their labels; of every region where those are trained. None weighs all alike, as nnU-Net does.
        patience: epochs without a better moving pseudo-Dice after which the training ends; None never ends it early.
        num_epochs: length of the training.
        num_iterations_per_epoch: training batches per epoch; validation takes a fifth of it.
    """

    transformer: bool = True
    teacher: Literal["average", "fusion", "skip"] | None = "average"
    average_decay: float = 0.99
    w_kd: float = 1.0
    w_aux: float = 0.4
    level_decay: float = 0.5
    optimizer: Literal["AdamW", "Adam"] = "AdamW"
    initial_lr: float = 3e-3
    transformer_lr: float = 0.2
    weight_decay: float = 1e-2
    warmup: float = 0.05
    foreground: float = 0.33
    class_weights: tuple[float, ...] | None = None
    patience: int | None = None
    num_epochs: int = 1000
    num_iterations_per_epoch: int = 250
