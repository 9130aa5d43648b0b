import pytest
import torch

from missu_nnunet.training.lr_schedule import WarmupPolyLRScheduler

EPOCHS, ITERATIONS = 10, 4


def scheduled(warmup_steps: float) -> tuple[torch.optim.Optimizer, WarmupPolyLRScheduler]:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], **share} for share in ({}, {"lr_share": 0.25})]
    optimizer = torch.optim.AdamW(groups, lr=1.0)
    return optimizer, WarmupPolyLRScheduler(optimizer, 1.0, EPOCHS, warmup_steps, ITERATIONS)


def learning_rates(warmup_steps: float, first_epoch: int = 0) -> list[float]:
    """The learning rate of every iteration, as nnU-Net's loop steps."""
    optimizer, scheduler = scheduled(warmup_steps)
    rates = []
    for epoch in range(first_epoch, EPOCHS):
        scheduler.step(epoch)
        for _ in range(ITERATIONS):
            first, second = (group["lr"] for group in optimizer.param_groups)
            assert [first, second] == scheduler.get_last_lr()
            assert second == first / 4  # its share
            rates.append(first)
            optimizer.step()
    return rates


def test_follows_nnunets_schedule_between_the_epochs_too() -> None:
    assert learning_rates(0) == pytest.approx([(1 - step / 40) ** 0.9 for step in range(40)])


@pytest.mark.parametrize("warmup_steps", [3, 0.5])
def test_rises_linearly_before(warmup_steps: float) -> None:
    plain, warm = learning_rates(0), learning_rates(warmup_steps)
    steps = int(warmup_steps * ITERATIONS)
    assert warm[:steps] == pytest.approx([plain[step] * (step + 1) / steps for step in range(steps)])
    assert warm[steps:] == plain[steps:]


def test_resumes_anywhere() -> None:
    assert learning_rates(3, first_epoch=7) == learning_rates(3)[7 * ITERATIONS :]


def test_steps_beyond_the_end_leave_it_at_zero() -> None:
    optimizer, scheduler = scheduled(0)
    scheduler.step(EPOCHS)
    optimizer.step()
    assert scheduler.get_last_lr() == [0.0, 0.0]
