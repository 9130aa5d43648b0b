import io
import random

import numpy as np
import pytest
import torch

from missu_nnunet.errors import InputError
from missu_nnunet.training.random_state import random_state, restore_random_state, seed_from_environment


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.normal()), torch.rand(()).item()


def test_generators_go_on_where_the_state_was_taken() -> None:
    np.random.normal()  # leaves NumPy's second Gaussian waiting
    state = random_state()
    drawn = [draw() for _ in range(3)]
    restore_random_state(state)
    assert [draw() for _ in range(3)] == drawn


def test_state_travels_through_a_file_that_is_loaded_safely() -> None:
    file = io.BytesIO()
    torch.save(random_state(), file)
    drawn = draw()
    file.seek(0)
    restore_random_state(torch.load(file, weights_only=True))
    assert draw() == drawn


def test_seed_makes_trainings_alike_and_processes_different(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(seed: str, rank: int) -> tuple[float, float, float]:
        monkeypatch.setenv("MISSU_SEED", seed)
        seed_from_environment(rank)
        return draw()

    assert drawn("3", 0) == drawn("3", 0)
    assert drawn("3", 0) != drawn("3", 1)
    assert drawn("3", 0) != drawn("4", 0)


def test_without_a_seed_nothing_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MISSU_SEED", raising=False)
    state = torch.get_rng_state()
    seed_from_environment(0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("value", ["", "-1", "1.5", "seven"])
def test_bad_seed_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISSU_SEED", value)
    with pytest.raises(InputError, match="expected a whole number"):
        seed_from_environment(0)


def test_other_processes_go_on_differently() -> None:
    state, drawn = random_state(), []
    for rank in (0, 1, 2, 1):
        restore_random_state(state, rank)
        drawn.append((random.random(), np.random.random(), torch.rand(1).item()))
    assert drawn[1] == drawn[3]
    assert all(len(set(numbers)) == 3 for numbers in zip(*drawn, strict=True))
