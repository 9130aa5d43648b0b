import pytest
import torch

from missu_nnunet.training.lr_schedule import WarmupPolyLRScheduler


def learning_rates(warmup_steps: int, epochs: int = 10) -> list[float]:
    optimizer = torch.optim.AdamW([{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)], lr=1.0)
    scheduler = WarmupPolyLRScheduler(optimizer, 1.0, epochs, warmup_steps)
    rates = []
    for epoch in range(epochs):
        scheduler.step(epoch)
        first, second = (group["lr"] for group in optimizer.param_groups)
        assert first == second == scheduler.get_last_lr()[0]
        rates.append(first)
    return rates


def test_rises_then_falls_as_nnunets_schedule_does() -> None:
    plain, warm = learning_rates(0), learning_rates(3)
    assert plain == pytest.approx([(1 - epoch / 10) ** 0.9 for epoch in range(10)])
    assert warm[3:] == plain[3:]
    assert warm[:3] == pytest.approx([rate * share for rate, share in zip(plain, [0.25, 0.5, 0.75], strict=False)])


def test_resumes_anywhere() -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = WarmupPolyLRScheduler(optimizer, 1.0, 10, 3)
    scheduler.step(7)
    assert optimizer.param_groups[0]["lr"] == learning_rates(3)[7]
