"""Learning-rate schedule of the MISSU trainers."""

from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from torch.optim import Optimizer


class WarmupPolyLRScheduler(PolyLRScheduler):
    """nnU-Net's polynomial schedule with a linear rise before it, for any point of an epoch.

    A training of few epochs needs the steps in between: nnU-Net's learning rate falls once per epoch, and a warm-up of
    less than one would be none.

    Args:
        optimizer: all its parameter groups get the same learning rate.
        initial_lr: learning rate that the warm-up leads to.
        max_steps: epochs of the whole training.
        warmup_steps: epochs of the rise, or part of one.
    """

    def __init__(self, optimizer: Optimizer, initial_lr: float, max_steps: int, warmup_steps: float) -> None:
        self.warmup_steps = warmup_steps
        super().__init__(optimizer, initial_lr, max_steps)

    def step(self, current_step: float | None = None) -> None:
        """Set the learning rate at a time in epochs, 2.5 in the middle of the third; without one, of the next epoch."""
        epoch = self.ctr if current_step is None or current_step == -1 else current_step
        super().step(current_step)
        if epoch < self.warmup_steps:
            for group in self.optimizer.param_groups:
                group["lr"] *= epoch / self.warmup_steps
            self._last_lr = [group["lr"] for group in self.optimizer.param_groups]
