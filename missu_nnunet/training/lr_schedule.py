"""Learning-rate schedule of the MISSU trainers."""

from typing import Any

from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from torch.optim import Optimizer


class WarmupPolyLRScheduler(PolyLRScheduler):
    """nnU-Net's polynomial schedule, after a linear rise, and moving with every step of the optimiser.

    nnU-Net's moves once per epoch, and so would end a training of few epochs at a high learning rate and leave it
    without a warm-up.

    Args:
        optimizer: a parameter group may have an entry ``lr_share``, by which its learning rate is multiplied.
        initial_lr: learning rate that the warm-up leads to.
        max_steps: epochs of the whole training.
        warmup_steps: epochs of the rise, or part of one.
        iterations: iterations per epoch.
    """

    def __init__(
        self, optimizer: Optimizer, initial_lr: float, max_steps: int, warmup_steps: float, iterations: int
    ) -> None:
        self.warmup_steps = warmup_steps
        self.iterations = iterations
        super().__init__(optimizer, initial_lr, max_steps)
        optimizer.register_step_post_hook(self._step_within_epoch)

    def step(self, current_step: int | None = None) -> None:
        """Set the learning rate of an epoch's start; without one, of the epoch after the last."""
        self.epoch = self.ctr if current_step is None or current_step == -1 else current_step
        self.iteration = 0
        super().step(current_step)
        self._set_learning_rate()

    def _step_within_epoch(self, *args: Any) -> None:
        self.iteration += 1
        self._set_learning_rate()

    def _set_learning_rate(self) -> None:
        time = self.epoch + self.iteration / self.iterations
        learning_rate = self.initial_lr * max(0.0, 1 - time / self.max_steps) ** self.exponent
        # The first step counts too: from a learning rate of 0 nothing would be learned.
        rise = (time + 1 / self.iterations) / self.warmup_steps if self.warmup_steps else 1.0
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, rise) * group.get("lr_share", 1.0)
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]
