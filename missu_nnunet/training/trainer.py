"""``MISSUTrainer``: nnU-Net's trainer with MISSU as network and its self-distillation in training."""

import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import distributed, nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel

from missu_nnunet import __version__
from missu_nnunet.architecture.configuration import MISSU_CLASS, missu_arch_kwargs
from missu_nnunet.architecture.missu import MISSU
from missu_nnunet.architecture.transformer import TransformerBottleneck
from missu_nnunet.distillation.losses import SelfDistillationLoss
from missu_nnunet.distillation.self_distillation import SelfDistillation
from missu_nnunet.errors import InputError
from missu_nnunet.hyperparameters import Hyperparameters
from missu_nnunet.nnunet.checkpoint import write_checkpoint
from missu_nnunet.training.logger import LOSS_TERMS, SelfDistillationLogger
from missu_nnunet.training.lr_schedule import WarmupPolyLRScheduler
from missu_nnunet.training.random_state import random_state, restore_random_state, seed_from_environment

MAX_NONFINITE_STEPS = 10
"""So many non-finite losses in a row stop a training."""


class MISSUTrainer(nnUNetTrainer):
    """Trains MISSU on any nnU-Net plan for a U-Net, or on a plan of ``MISSUPlanner``.

    The fusion blocks exist in this class only: what it saves as ``network_weights``, and what nnU-Net builds to
    predict, is the inference network. Variants change :attr:`hyperparameters` and nothing else.
    """

    hyperparameters = Hyperparameters()

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008, nnU-Net's signature, which it replays
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        seed_from_environment(self.local_rank)
        self.resumed_random_state: dict[str, Any] | None = None
        self.nonfinite_steps = 0  # in a row
        hp = self.hyperparameters
        self.initial_lr = hp.initial_lr
        self.weight_decay = hp.weight_decay
        self.num_epochs = hp.num_epochs
        self.num_iterations_per_epoch = hp.num_iterations_per_epoch
        self.num_val_iterations_per_epoch = max(1, hp.num_iterations_per_epoch // 5)
        self.arch_kwargs = self._arch_kwargs(self.configuration_manager)
        self.enable_deep_supervision = self._supports_deep_supervision()
        self.logger.local_logger = SelfDistillationLogger()
        self.logger.update_config({"missu": asdict(hp)})
        self.print_to_log_file(f"MISSU {__version__}: {hp}")

    @classmethod
    def _arch_kwargs(cls, configuration_manager: ConfigurationManager) -> dict[str, Any]:
        """The network's keyword arguments: the plan's, and this trainer's word on the Transformer."""
        kwargs = missu_arch_kwargs(configuration_manager.network_arch_init_kwargs, configuration_manager.patch_size)
        return kwargs if cls.hyperparameters.transformer else kwargs | {"transformer": None}

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> MISSU:
        """The inference network. Called in training and by nnU-Net's predictor."""
        return get_network_from_plans(
            MISSU_CLASS,
            cls._arch_kwargs(configuration_manager),
            configuration_manager.network_arch_init_kwargs_req_import,
            num_input_channels,
            num_output_channels,
            allow_init=True,
            deep_supervision=enable_deep_supervision,
        )

    def _build_training_network(
        self,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """The inference network with the teachers attached."""
        network = type(self).build_network_architecture(
            plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision
        )
        return SelfDistillation(network, num_output_channels, self.label_manager.has_regions, self.hyperparameters)

    def initialize(self) -> None:
        """Build network, optimiser and loss; the teachers are attached before nnU-Net compiles or optimises."""
        if self.hyperparameters.teacher is not None:
            # nnU-Net's initialize() builds through this name; the predictor asks the class, and gets the plain network.
            self.build_network_architecture = self._build_training_network  # type: ignore[method-assign, assignment]
        super().initialize()

    def _supports_deep_supervision(self) -> bool:
        """Whether nnU-Net's deep supervision is defined for the network.

        It gives the coarsest decoder level no weight, which leaves nothing where there is one level, and it rounds the
        target's size down where a stride does not divide the patch.
        """
        strides = self.arch_kwargs["strides"]
        divisible = not np.any(np.array(self.configuration_manager.patch_size) % np.prod(strides, axis=0))
        return len(strides) > 2 and divisible

    def _get_deep_supervision_scales(self) -> list[list[float]] | None:
        """Scales of the network's outputs: the plan's, without those of the stages that gave way to the Transformer."""
        scales = super()._get_deep_supervision_scales()
        return scales and scales[: len(self.arch_kwargs["strides"]) - 1]

    def _build_loss(self) -> nn.Module:
        """nnU-Net's loss as segmentation and auxiliary loss, and the distillation term."""
        loss = super()._build_loss()
        auxiliary_loss = loss.loss if isinstance(loss, DeepSupervisionWrapper) else loss
        hp = self.hyperparameters
        return SelfDistillationLoss(loss, auxiliary_loss, hp.w_aux, hp.w_kd, hp.level_decay)

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, WarmupPolyLRScheduler]:
        """Optimiser over network and teachers, and the learning rate's schedule."""
        hp = self.hyperparameters
        options = {"amsgrad": True} if hp.optimizer == "Adam" else {}
        groups = parameter_groups(self.network, hp.transformer_lr)
        optimizer = getattr(torch.optim, hp.optimizer)(
            groups, lr=self.initial_lr, weight_decay=self.weight_decay, **options
        )
        if self.grad_scaler is None:
            optimizer.register_step_pre_hook(skip_nonfinite_gradients)
        length = (self.num_epochs, hp.warmup * self.num_epochs, self.num_iterations_per_epoch)
        return optimizer, WarmupPolyLRScheduler(optimizer, self.initial_lr, *length)

    def do_split(self) -> tuple[list[str], list[str]]:
        """nnU-Net's training and validation cases of the fold.

        Raises:
            InputError: if there are none of either.
        """
        training, validation = super().do_split()
        for purpose, cases in (("training", training), ("validation", validation)):
            if not len(cases):
                file = Path(self.preprocessed_dataset_folder_base) / "splits_final.json"
                raise InputError(
                    f"{file}: fold {self.fold} has no {purpose} case; correct the file, or remove it and nnU-Net makes "
                    "another"
                )
        return training, validation

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """nnU-Net's training step; also returns the loss terms.

        Raises:
            RuntimeError: after ``MAX_NONFINITE_STEPS`` non-finite losses in a row; checkpoints stay as they are.
        """
        outputs = super().train_step(batch)
        self.nonfinite_steps = 0 if np.isfinite(outputs["loss"]) else self.nonfinite_steps + 1
        if self.nonfinite_steps == MAX_NONFINITE_STEPS:
            raise RuntimeError(
                f"The loss was not finite in {MAX_NONFINITE_STEPS} steps in a row, so training stops; the "
                f"checkpoints in {self.output_folder} are from before. Look for NaN or extreme intensities in the "
                "images, or lower initial_lr, then continue with --c."
            )
        return outputs | {term: value.item() for term, value in self.loss.terms.items()}

    def on_train_epoch_start(self) -> None:
        """nnU-Net's, and the epoch's weight of the distillation term."""
        super().on_train_epoch_start()
        hp = self.hyperparameters
        rise = (self.current_epoch + 1) / (hp.kd_warmup * self.num_epochs) if hp.kd_warmup else 1.0
        self.loss.w_kd = hp.w_kd * min(1.0, rise)

    def on_train_epoch_end(self, train_outputs: list[dict[str, Any]]) -> None:
        """Log the loss and its terms, averaged over the epoch's finite steps and the processes."""
        finite = [outputs for outputs in train_outputs if np.isfinite(outputs["loss"])]
        if len(finite) < len(train_outputs):
            self.print_to_log_file(f"non-finite losses, steps skipped: {len(train_outputs) - len(finite)}")
        train_outputs = finite or train_outputs
        super().on_train_epoch_end(train_outputs)
        means = {term: float(np.mean([outputs[term] for outputs in train_outputs])) for term in LOSS_TERMS}
        if self.is_ddp:
            gathered: list[dict[str, float]] = [{} for _ in range(distributed.get_world_size())]
            distributed.all_gather_object(gathered, means)
            means = {term: float(np.mean([other[term] for other in gathered])) for term in LOSS_TERMS}
        for term, mean in means.items():
            self.logger.log(term, mean, self.current_epoch)
        self.print_to_log_file("loss terms:", ", ".join(f"{LOSS_TERMS[t]} {mean:.4f}" for t, mean in means.items()))

    def _unwrapped_network(self) -> nn.Module:
        """The network under DDP and torch.compile."""
        network = self.network.module if isinstance(self.network, DistributedDataParallel) else self.network
        return network._orig_mod if isinstance(network, OptimizedModule) else network

    def save_checkpoint(self, filename: str) -> None:
        """nnU-Net's checkpoint with an entry ``missu`` beside its own: hyper-parameters, the teachers' weights and
        the random state.

        Written beside and renamed, so that a process killed while it writes leaves the checkpoint before whole.
        """
        buffer = io.BytesIO()
        super().save_checkpoint(buffer)
        if not buffer.tell():  # another process writes, or checkpoints are disabled
            return
        buffer.seek(0)
        checkpoint = torch.load(buffer, map_location="cpu", weights_only=False)
        network = self._unwrapped_network()
        checkpoint["missu"] = {
            "version": __version__,
            "hyperparameters": asdict(self.hyperparameters),
            "random_state": random_state(),
            "teacher_weights": network.teacher_state_dict() if isinstance(network, SelfDistillation) else {},
        }
        write_checkpoint(checkpoint, Path(filename))

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Load nnU-Net's checkpoint, the teachers' weights where distillation goes on, and the random state.

        Raises:
            InputError: if the file is broken, or a checkpoint of another trainer or of another plan's network.
        """
        if not self.was_initialized:
            self.initialize()
        network = self._unwrapped_network()
        state = self._check_fits(network, filename_or_checkpoint)["missu"]
        super().load_checkpoint(filename_or_checkpoint)
        if isinstance(network, SelfDistillation):
            network.load_teacher_state_dict(state["teacher_weights"])
        self.resumed_random_state = state["random_state"]

    def _check_fits(self, network: nn.Module, filename: str) -> dict[str, Any]:
        """The checkpoint, if it is one of this trainer with this plan."""
        remedy = "put the right one there, or move it away and train anew"
        try:
            checkpoint = torch.load(filename, map_location=self.device, weights_only=False)
            weights = checkpoint["network_weights"]
        except Exception as error:  # a broken pickle can raise anything
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise InputError(f"{filename}: cannot be read as a checkpoint ({reason}); {remedy}") from error
        if "missu" not in checkpoint:
            raise InputError(
                f"{filename}: a checkpoint of {checkpoint.get('trainer_name')}, expected one of MISSU; {remedy}, with "
                "-pretrained_weights and what missu weights from-nnunet makes of it"
            )
        found = {key: tuple(weight.shape) for key, weight in weights.items()}
        expected = {key: tuple(weight.shape) for key, weight in network.state_dict().items()}
        for key in sorted(found.keys() | expected.keys()):
            if found.get(key) != expected.get(key):
                raise InputError(
                    f"{filename}: a checkpoint of another plan's network ({key} has the shape {found.get(key)}, "
                    f"expected {expected.get(key)}); {remedy}"
                )
        return checkpoint

    def on_train_start(self) -> None:
        """nnU-Net's, which draws a first batch; then the checkpoint's random state, where training goes on."""
        super().on_train_start()
        if self.resumed_random_state is not None:
            restore_random_state(self.resumed_random_state)


def parameter_groups(network: nn.Module, transformer_lr: float) -> list[dict[str, Any]]:
    """An optimiser's parameter groups: the Transformer's, where there is one, learns at a share of the learning rate.

    Args:
        network: with or without a :class:`TransformerBottleneck` somewhere in it.
        transformer_lr: that share, see :class:`WarmupPolyLRScheduler`.
    """
    bottlenecks = [module for module in network.modules() if isinstance(module, TransformerBottleneck)]
    transformer = {parameter: None for bottleneck in bottlenecks for parameter in bottleneck.parameters()}
    rest = [parameter for parameter in network.parameters() if parameter not in transformer]
    groups: list[dict[str, Any]] = [{"params": rest}]
    if transformer:
        groups.append({"params": list(transformer), "lr_share": transformer_lr})
    return groups


def skip_nonfinite_gradients(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Pre-hook of ``Optimizer.step``: drop all gradients if one is not finite, which makes the step do nothing.

    nnU-Net's gradient scaler does the same under AMP; this serves training without one. Gradients are what the
    processes of a distributed training share, so all of them skip together.
    """
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if gradients and not torch.stack(torch._foreach_norm(gradients)).isfinite().all():
        optimizer.zero_grad(set_to_none=True)
