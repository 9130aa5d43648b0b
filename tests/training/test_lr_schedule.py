import pytest
import torch

from missu_nnunet.training.lr_schedule import WarmupPolyLRScheduler


def learning_rates(warmup_steps: float, epochs: int = 10, steps: int = 1) -> list[float]:
    optimizer = torch.optim.AdamW([{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)], lr=1.0)
    scheduler = WarmupPolyLRScheduler(optimizer, 1.0, epochs, warmup_steps)
    rates = []
    for step in range(epochs * steps):
        scheduler.step(step / steps)
        first, second = (group["lr"] for group in optimizer.param_groups)
        assert first == second == scheduler.get_last_lr()[0]
        rates.append(first)
    return rates


def test_rises_then_falls_as_nnunets_schedule_does() -> None:
    plain, warm = learning_rates(0), learning_rates(3)
    assert plain == pytest.approx([(1 - epoch / 10) ** 0.9 for epoch in range(10)])
    assert warm[3:] == plain[3:]
    assert warm[:3] == pytest.approx([rate * share for rate, share in zip(plain, [0, 1 / 3, 2 / 3], strict=False)])


def test_moves_between_epochs_too() -> None:
    rates = learning_rates(0.5, epochs=2, steps=4)
    assert rates[:3] == pytest.approx([0, 0.5 * 0.875**0.9, 0.75**0.9])
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert len(set(rates)) == len(rates)


def test_resumes_anywhere() -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = WarmupPolyLRScheduler(optimizer, 1.0, 10, 3)
    scheduler.step(7)
    assert optimizer.param_groups[0]["lr"] == learning_rates(3)[7]
