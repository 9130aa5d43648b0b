"""``MISSUTrainer``: nnU-Net's trainer with MISSU as network and its self-distillation in training."""

import io
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import distributed, nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel

from missu_nnunet import __version__
from missu_nnunet.architecture.configuration import MISSU_CLASS
from missu_nnunet.architecture.former_configuration import former_arch_kwargs
from missu_nnunet.architecture.missu import MISSU
from missu_nnunet.distillation.losses import SelfDistillationLoss, finest
from missu_nnunet.distillation.moving_average import MovingAverage, mixed_patches
from missu_nnunet.distillation.skip_distillation import SkipDistillation
from missu_nnunet.errors import InputError
from missu_nnunet.hyperparameters import SEED_VARIABLE, Hyperparameters
from missu_nnunet.nnunet.checkpoint import write_checkpoint
from missu_nnunet.nnunet.fold import LATEST_CHECKPOINT
from missu_nnunet.nnunet.folders import Model
from missu_nnunet.nnunet.labels import output_names
from missu_nnunet.nnunet.log import ENDED_EARLY
from missu_nnunet.nnunet.model import PLANS_FILE, read_model_plans
from missu_nnunet.nnunet.plans import find_configuration, malformed_plan_named
from missu_nnunet.nnunet.preprocessed import has_ignored_voxels, unlabelled_cases
from missu_nnunet.nnunet.splits import SPLITS_FILE, check_preprocessed, ensure_splits
from missu_nnunet.planning.network import with_missu_network
from missu_nnunet.training.absent_classes import ABSENT_EPOCHS, absent_classes
from missu_nnunet.training.early_end import (
    STOP_FILE,
    EarlyEnd,
    Termination,
    epochs_without_improvement,
    stop_file_found,
    termination_noted,
)
from missu_nnunet.training.logger import LOSS_TERMS, SelfDistillationLogger
from missu_nnunet.training.lr_schedule import WarmupPolyLRScheduler
from missu_nnunet.training.missing_labels import balanced, unlabelled_last
from missu_nnunet.training.optimizer import parameter_groups, skip_nonfinite_gradients
from missu_nnunet.training.random_state import random_state, restore_random_state, seed_from_environment
from missu_nnunet.training.tracking import trackers

MAX_NONFINITE_STEPS = 10
"""So many non-finite losses in a row stop a training."""


class MISSUTrainer(nnUNetTrainer):
    """Trains MISSU on any nnU-Net plan for a U-Net, or on a plan of ``MISSUPlanner``.

    Where training cases have voxels of an ignore label, the network's moving average teaches it: it labels the patches
    of a batch, and the network must give the same labels where patches have boxes of others pasted in. Teachers exist
    in this class only: what it saves as ``network_weights``, and what nnU-Net builds to predict, is the inference
    network. Variants change ``hyperparameters`` and nothing else.
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
        if not self._trained_with_former_network():
            with malformed_plan_named(Path(f"{self.preprocessed_dataset_folder_base}/{plans['plans_name']}.json")):
                plans = with_missu_network(plans, configuration)
            # What the model's folder and the checkpoints hold.
            self.my_init_kwargs["plans"], self.plans_manager = plans, PlansManager(plans)
            self.configuration_manager = self.plans_manager.get_configuration(configuration)
        seed_from_environment(self.local_rank)
        self.resumed_random_state: dict[str, Any] | None = None
        self.beginning: Path | None = None  # weights of another training, where a checkpoint of this one would be
        self.nonfinite_steps = 0  # in a row
        self.moving_average: MovingAverage | None = None
        self.unlabelled: set[str] = set()  # training cases
        self.fully_labelled = False  # unless the training cases turn out to be
        self.continued = False  # from a checkpoint
        self.termination = Termination()
        self.ended: str | None = None  # why, before the last epoch
        hp = self.hyperparameters
        self.initial_lr = hp.initial_lr
        self.weight_decay = hp.weight_decay
        self.oversample_foreground_percent = hp.foreground
        self.num_epochs = hp.num_epochs
        self.num_iterations_per_epoch = hp.num_iterations_per_epoch
        self.num_val_iterations_per_epoch = max(1, hp.num_iterations_per_epoch // 5)
        self.arch_kwargs = self._arch_kwargs(self.configuration_manager)
        self.enable_deep_supervision = self._supports_deep_supervision()
        self.logger.local_logger = SelfDistillationLogger()
        self.print_to_log_file(f"MISSU {__version__}: {hp}")

    def _trained_with_former_network(self) -> bool:
        """Whether a training in the model's folder had ``former_arch_kwargs``: folds of one model have one network."""
        if "transformer" in self.configuration_manager.network_arch_init_kwargs:
            return False
        file = Path(self.output_folder_base) / PLANS_FILE
        try:
            plans = PlansManager(read_model_plans(file.parent))
            found = find_configuration(plans, self.configuration_name, file).network_arch_init_kwargs
        except InputError:  # none yet, or one that nnU-Net writes anew
            return False
        former = "transformer" not in found
        if former:
            self.print_to_log_file(f"{file}: trained with MISSU's former network for such plans, which stays")
        return former

    @classmethod
    def _arch_kwargs(cls, configuration_manager: ConfigurationManager) -> dict[str, Any]:
        """The network's keyword arguments: the plan's, and whether this trainer has a Transformer."""
        kwargs = configuration_manager.network_arch_init_kwargs
        if "transformer" not in kwargs:
            kwargs = former_arch_kwargs(kwargs, configuration_manager.patch_size)
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
        """The inference network with the teachers of its skip connections attached."""
        network = type(self).build_network_architecture(
            plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision
        )
        return SkipDistillation(network, num_output_channels, fusion=self.hyperparameters.teacher == "fusion")

    def initialize(self) -> None:
        """Build network, optimiser and loss; the skips' teachers are attached before nnU-Net compiles or optimises.

        Trackers begin here, where it is known whether the training is continued.
        """
        self._track()
        if self.hyperparameters.teacher in ("fusion", "skip"):
            # nnU-Net's initialize() builds through this name; the predictor asks the class, and gets the plain network.
            self.build_network_architecture = self._build_training_network  # type: ignore[method-assign, assignment]
        super().initialize()
        self.patches_with_target: int = self.batch_size  # the plan's, or this process's share

    def _track(self) -> None:
        """Send values and settings to the trackers that the environment asks for."""
        if self.local_rank == 0:
            plans = self.plans_manager
            model = Model(type(self).__name__, plans.plans_name, self.configuration_name)
            name = f"{plans.dataset_name} {model} fold {self.fold}"
            if SEED_VARIABLE in os.environ:
                name += f" seed {os.environ[SEED_VARIABLE]}"
            self.logger.loggers.extend(trackers(Path(self.output_folder), name, self.continued))
        self.logger.update_config({"missu": asdict(self.hyperparameters)})

    def _supports_deep_supervision(self) -> bool:
        """Whether nnU-Net's deep supervision is defined for the network.

        It gives the coarsest decoder level no weight, which leaves nothing where there is one level, and it rounds the
        target's size down where a stride does not divide the patch.
        """
        strides = self.arch_kwargs["strides"]
        divisible = not np.any(np.array(self.configuration_manager.patch_size) % np.prod(strides, axis=0))
        return len(strides) > 2 and divisible

    def _get_deep_supervision_scales(self) -> list[list[float]] | None:
        """Scales of the network's outputs: the plan's, without those of stages that ``former_arch_kwargs`` drops."""
        scales = super()._get_deep_supervision_scales()
        return scales and scales[: len(self.arch_kwargs["strides"]) - 1]

    def _build_loss(self) -> nn.Module:
        """nnU-Net's loss as segmentation and auxiliary loss, and the distillation term.

        Raises:
            InputError: if the class weights are not one for every class.
        """
        loss = super()._build_loss()
        auxiliary_loss = loss.loss if isinstance(loss, DeepSupervisionWrapper) else loss
        self._weigh_classes(auxiliary_loss)
        hp, regions = self.hyperparameters, self.label_manager.has_regions
        return SelfDistillationLoss(loss, auxiliary_loss, regions, hp.w_kd, hp.w_aux, hp.level_decay)

    def _weigh_classes(self, loss: nn.Module) -> None:
        """Give nnU-Net's cross-entropy the hyper-parameters' class weights."""
        weights = self.hyperparameters.class_weights
        if weights is None:
            return
        heads = self.label_manager.num_segmentation_heads
        if len(weights) != heads:
            raise InputError(
                f"{type(self).__name__}: {len(weights)} class_weights, expected {heads}, in this order for "
                f"{', '.join(output_names(self.label_manager))}"
            )
        tensor = torch.tensor(weights, device=self.device)
        if self.label_manager.has_regions:
            axes = len(self.configuration_manager.patch_size)
            cast(nn.BCEWithLogitsLoss, loss.ce).pos_weight = tensor.reshape(-1, *[1] * axes)
        else:
            cast(nn.CrossEntropyLoss, loss.ce).weight = tensor

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, WarmupPolyLRScheduler]:
        """Optimiser over network and teachers, and the learning rate's schedule."""
        hp = self.hyperparameters
        options = {"amsgrad": True} if hp.optimizer == "Adam" else {}
        groups = parameter_groups(self.network, hp.transformer_lr, self.weight_decay)
        optimizer = getattr(torch.optim, hp.optimizer)(groups, lr=self.initial_lr, **options)
        if self.grad_scaler is None:
            optimizer.register_step_pre_hook(skip_nonfinite_gradients)
        length = (self.num_epochs, hp.warmup * self.num_epochs, self.num_iterations_per_epoch)
        return optimizer, WarmupPolyLRScheduler(optimizer, self.initial_lr, *length)

    @property
    def _labels_can_be_missing(self) -> bool:
        return self.label_manager.has_ignore_label and not self.fully_labelled

    @property
    def teaches_missing_labels(self) -> bool:
        """Whether the moving average teaches: only where labels are missing has it anything to say."""
        return self.hyperparameters.teacher == "average" and self._labels_can_be_missing

    def _unlabelled(self, cases: Sequence[str]) -> set[str]:
        """The cases that nobody labelled, among those given."""
        folder = Path(self.preprocessed_dataset_folder)
        return set(unlabelled_cases(folder, cases)) if self.label_manager.has_ignore_label else set()

    def do_split(self) -> tuple[list[str], list[str]]:
        """nnU-Net's training and validation cases of the fold; cases that nobody labelled are training cases.

        Where nnU-Net would make the folds, labelled cases alone are distributed over them.

        Raises:
            InputError: if there are no labelled cases of either, too few to make folds, or some are not preprocessed.
        """
        file = Path(self.preprocessed_dataset_folder_base) / SPLITS_FILE
        dataset_class = infer_dataset_class(self.preprocessed_dataset_folder)
        cases = dataset_class.get_identifiers(self.preprocessed_dataset_folder)
        unlabelled = self._unlabelled(cases)
        if unlabelled and self.fold != "all":
            if self.local_rank == 0:
                ensure_splits(file.parent, self.configuration_manager.data_identifier)
            if self.is_ddp:
                distributed.barrier()
        training, validation = super().do_split()
        check_preprocessed([{"train": training, "val": validation}], Path(self.preprocessed_dataset_folder))
        sets = {
            "training": [*training, *sorted(unlabelled.intersection(validation).difference(training))],
            "validation": [case for case in validation if case not in unlabelled],
        }
        for purpose, chosen in sets.items():
            if not unlabelled.issuperset(chosen):
                continue
            raise InputError(
                f"{file}: fold {self.fold} has no {'labelled ' if unlabelled else ''}{purpose} case; correct the file, "
                "or remove it and another is made"
            )
        return sets["training"], sets["validation"]

    def get_tr_and_val_datasets(self) -> tuple[Any, Any]:
        """nnU-Net's datasets; patches of cases that nobody labelled come beyond the plan's batch, and are mixed alone.

        They have no loss of their own, and are left out where there is no teacher for them, and in the second stage of
        a cascade, since the first one predicts validation cases alone.
        """
        training, validation = super().get_tr_and_val_datasets()
        cases = training.identifiers
        self.unlabelled = self._unlabelled(cases)
        if self.unlabelled:
            self.print_to_log_file(f"{len(self.unlabelled)} of {len(cases)} training cases have no label")
            if self.teaches_missing_labels and not self.is_cascaded:
                training.identifiers = balanced(cases, self.unlabelled)
                self.batch_size = self.patches_with_target + mixed_patches(self.patches_with_target)
                return training, validation
            training.identifiers = [case for case in cases if case not in self.unlabelled]
        if self.teaches_missing_labels and not has_ignored_voxels(training, self.label_manager.ignore_label):
            self.print_to_log_file("no training case has a voxel of the ignore label, so that there is no teacher")
            self.fully_labelled, self.moving_average = True, None
        return training, validation

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """nnU-Net's training step; also returns the loss terms.

        Raises:
            RuntimeError: after ``MAX_NONFINITE_STEPS`` non-finite losses in a row; checkpoints stay as they are.
        """
        if self.teaches_missing_labels:
            if self.moving_average is None:  # not before: pre-trained weights are loaded after initialize()
                self.moving_average = self._new_moving_average()
            batch = self._taught(batch, self.moving_average)
        outputs = super().train_step(batch)
        self.loss.posterior = None
        if self.moving_average is not None:
            self.moving_average.update_parameters(self._unwrapped_network())
        self.nonfinite_steps = 0 if np.isfinite(outputs["loss"]) else self.nonfinite_steps + 1
        if self.nonfinite_steps == MAX_NONFINITE_STEPS:
            raise RuntimeError(
                f"The loss was not finite in {MAX_NONFINITE_STEPS} steps in a row, so training stops; the "
                f"checkpoints in {self.output_folder} are from before. Look for NaN or extreme intensities in the "
                "images and continue with --c, or train anew with a lower initial_lr."
            )
        return outputs | {term: value.item() for term, value in self.loss.terms.items()}

    def _taught(self, batch: dict[str, Any], teacher: MovingAverage) -> dict[str, Any]:
        """The batch followed by mixed patches; the loss gets the teacher's labels of the latter."""
        if self.unlabelled:
            batch = unlabelled_last(batch, self.unlabelled, self.patches_with_target)
        data, with_target = batch["data"].to(self.device, non_blocking=True), len(finest(batch["target"]))
        with torch.autocast(self.device.type, enabled=self.device.type == "cuda"):
            data, self.loss.posterior = teacher.teach(data, with_target, self.label_manager.has_regions)
        return batch | {"data": data}

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

    def run_training(self) -> None:
        """nnU-Net's training, which may end early: in order, with its final checkpoint and the validation to follow.

        After a SIGTERM, which announces the end of the process, the epoch is finished and saved to be continued. Not in
        a distributed training, whose processes end with the one that has started them.
        """
        with termination_noted() as termination:
            self.termination = termination
            try:
                super().run_training()
            except EarlyEnd as end:
                self.ended = str(end)
                self.print_to_log_file(f"{ENDED_EARLY} {self.current_epoch} of {self.num_epochs} epochs: {end}")
                self.on_train_end()

    def on_epoch_end(self) -> None:
        """nnU-Net's; warns of classes that are not learned, and ends the training where that was asked for.

        Raises:
            EarlyEnd: if the training is to end here, see ``run_training``.
            SystemExit: after a SIGTERM.
        """
        super().on_epoch_end()
        self._warn_of_absent_classes()
        terminated, stopped = self._agreed(self.termination.requested, stop_file_found(Path(self.output_folder)))
        if terminated:
            self.current_epoch -= 1  # nnU-Net's has counted on, and the checkpoint would again
            self.save_checkpoint(str(Path(self.output_folder) / LATEST_CHECKPOINT))
            self.current_epoch += 1
            self.print_to_log_file(f"SIGTERM: saved after {self.current_epoch} epochs; continue with --c")
            sys.exit(128 + signal.SIGTERM)
        if stopped:
            raise EarlyEnd(f"the file {STOP_FILE} was there")
        patience = self.hyperparameters.patience
        if patience and epochs_without_improvement(self.logger.get_value("ema_fg_dice", step=None)) >= patience:
            raise EarlyEnd(f"{patience} epochs without a better moving pseudo-Dice")

    def _agreed(self, *found: bool) -> list[bool]:
        """What any process of a distributed training found, so that all end together."""
        if not self.is_ddp:
            return list(found)
        gathered: list[tuple[bool, ...]] = [found] * distributed.get_world_size()
        distributed.all_gather_object(gathered, found)
        return [any(each) for each in zip(*gathered, strict=True)]

    def _warn_of_absent_classes(self) -> None:
        names = output_names(self.label_manager)
        scored = names if self.label_manager.has_regions else names[1:]  # nnU-Net does not score the background
        for index in absent_classes(self.logger.get_value("dice_per_class_or_region", step=None)):
            self.print_to_log_file(
                f"WARNING: no voxel of {scored[index]} was rightly predicted in the last {ABSENT_EPOCHS} "
                "epochs or more. Check its labels (missu dataset verify); if it is rare, raise the hyper-parameters "
                "foreground and class_weights."
            )

    def _warn_of_masked_normalisation(self) -> None:
        if self._labels_can_be_missing and any(self.configuration_manager.use_mask_for_norm):
            self.print_to_log_file(
                "WARNING: the plans have use_mask_for_norm, and nnU-Net takes ignored voxels for inside of the mask: "
                "training images are normalised otherwise than those to predict. Plan with MISSUPlanner, or set "
                "use_mask_for_norm to false in the plans, then preprocess again."
            )

    def _unwrapped_network(self) -> nn.Module:
        """The network under DDP and torch.compile."""
        network = self.network.module if isinstance(self.network, DistributedDataParallel) else self.network
        return network._orig_mod if isinstance(network, OptimizedModule) else network

    def _new_moving_average(self) -> MovingAverage:
        return MovingAverage(cast(MISSU, self._unwrapped_network()), self.hyperparameters.average_decay)

    def save_checkpoint(self, filename: str) -> None:
        """nnU-Net's checkpoint with an entry ``missu`` beside its own: hyper-parameters, the teachers and the random
        state.

        Written beside and renamed, so that a process killed while it writes leaves the checkpoint before whole.
        """
        buffer = io.BytesIO()
        super().save_checkpoint(buffer)
        if not buffer.tell():  # another process writes, or checkpoints are disabled
            return
        buffer.seek(0)
        checkpoint = torch.load(buffer, map_location="cpu", weights_only=False)
        network = self._unwrapped_network()
        teacher = network.fusion if isinstance(network, SkipDistillation) else self.moving_average
        checkpoint["missu"] = {
            "version": __version__,
            "hyperparameters": asdict(self.hyperparameters),
            "random_state": random_state(),
            "ended": self.ended,
            "teacher_weights": {} if teacher is None else teacher.state_dict(),
        }
        write_checkpoint(checkpoint, Path(filename))
        if self.beginning and self.beginning != Path(filename):  # --c would take it first, and begin again
            self.beginning.unlink(missing_ok=True)
        self.beginning = None

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Load nnU-Net's checkpoint, the teachers' weights where distillation goes on, and the random state.

        What ``missu weights adapt`` and ``from-nnunet`` make is the beginning of a training: weights and nothing else.
        It goes when the training has a checkpoint of its own.

        Raises:
            InputError: if the file is broken, or a checkpoint of another trainer, of another plan's network or of a
                version of MISSU with another optimiser.
        """
        self.continued = True
        if not self.was_initialized:
            self.initialize()
        network = self._unwrapped_network()
        checkpoint = self._check_fits(network, filename_or_checkpoint)
        if "optimizer_state" not in checkpoint:
            network.load_state_dict(checkpoint["network_weights"])
            self.print_to_log_file(f"training begins with the weights of {filename_or_checkpoint}")
            file = Path(filename_or_checkpoint)
            self.beginning = file if file.parent == Path(self.output_folder) else None
            return
        state = checkpoint["missu"]
        super().load_checkpoint(filename_or_checkpoint)
        if isinstance(network, SkipDistillation):
            network.fusion.load_state_dict(state["teacher_weights"])
        if self.teaches_missing_labels and state.get("teacher_weights"):  # none where the dataset had no ignore label
            self.moving_average = self._new_moving_average()
            self.moving_average.load_state_dict(state["teacher_weights"])
        self.resumed_random_state = state.get("random_state")
        self.ended = state.get("ended")
        if self.ended:  # the validation is left
            self.num_epochs = self.current_epoch

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
        if "optimizer_state" in checkpoint:
            states = (checkpoint["optimizer_state"], self.optimizer.state_dict())
            theirs, ours = ([group["params"] for group in state["param_groups"]] for state in states)
            if theirs != ours:
                raise InputError(
                    f"{filename}: a checkpoint of another version of MISSU, whose optimiser differs; "
                    "continue with that version, or train anew with -pretrained_weights and this file"
                )
        return checkpoint

    def on_train_start(self) -> None:
        """nnU-Net's, which draws a first batch; then the checkpoint's random state, where training goes on."""
        if stop_file_found(Path(self.output_folder)):
            self.print_to_log_file(f"a file {STOP_FILE} was there from before this training: removed, and not heeded")
        super().on_train_start()
        self._warn_of_masked_normalisation()
        if self.resumed_random_state is not None:
            restore_random_state(self.resumed_random_state, self.local_rank)
