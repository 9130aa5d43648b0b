"""Trainers by name: ``MISSUTrainer``, its ablations, and any length of each.

nnU-Net finds a trainer by its class name, and writes the name into folders and checkpoints. The classes are made when
somebody asks for the name: ``MISSUTrainer<Variant>[_<N>epochs][_<K>iters][_<P>patience]``, where K is the number of
iterations per epoch, and P the number of epochs without improvement that end the training. They are attributes of this
module, so ``from missu_nnunet.training.variants import MISSUTrainer_20epochs`` and pickle work.
"""

import re
from dataclasses import replace
from functools import cache

from missu_nnunet.hyperparameters import Hyperparameters
from missu_nnunet.training.trainer import MISSUTrainer

VARIANTS = {
    "": MISSUTrainer.hyperparameters,
    "NoDistillation": replace(MISSUTrainer.hyperparameters, teacher=None),
    "NoTransformer": replace(MISSUTrainer.hyperparameters, transformer=False),
    "Fusion": replace(MISSUTrainer.hyperparameters, teacher="fusion"),
    "NoFusion": replace(MISSUTrainer.hyperparameters, teacher="skip"),
    # The authors' release (shared weights of the levels 0.5 : 2 : 8 from coarse to fine), with the abstract's fusion
    # blocks, which the release lacks; w_aux is ours.
    "Paper": Hyperparameters(
        teacher="fusion",
        level_decay=0.25,
        optimizer="Adam",
        initial_lr=2e-4,
        transformer_lr=1.0,
        weight_decay=1e-5,
        warmup=0.0,
        num_epochs=500,
    ),
}
"""Hyper-parameters of each variant, by the part of the name behind ``MISSUTrainer``."""

_NAME = re.compile(
    r"MISSUTrainer(?P<variant>[A-Za-z]*)(_(?P<epochs>[1-9]\d*)epochs)?(_(?P<iterations>[1-9]\d*)iters)?"
    r"(_(?P<patience>[1-9]\d*)patience)?"
)


@cache
def __getattr__(name: str) -> type[MISSUTrainer]:
    match = _NAME.fullmatch(name)
    if match is None or match["variant"] not in VARIANTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    hyperparameters = VARIANTS[match["variant"]]
    if match["epochs"]:
        hyperparameters = replace(hyperparameters, num_epochs=int(match["epochs"]))
    if match["iterations"]:
        hyperparameters = replace(hyperparameters, num_iterations_per_epoch=int(match["iterations"]))
    if match["patience"]:
        hyperparameters = replace(hyperparameters, patience=int(match["patience"]))
    return type(name, (MISSUTrainer,), {"__module__": __name__, "hyperparameters": hyperparameters})
