"""The random generators that a training draws from: Python's, NumPy's and torch's."""

import os
import random
from typing import Any

import numpy as np
import torch

from missu_nnunet.errors import InputError
from missu_nnunet.hyperparameters import SEED_VARIABLE


def seed_from_environment(rank: int) -> None:
    """Seed every generator from ``MISSU_SEED`` where it is set; each process of a distributed training differently.

    Raises:
        InputError: if the variable is not a whole number of at least 0.
    """
    value = os.environ.get(SEED_VARIABLE)
    if value is None:
        return
    if not value.isdecimal():
        raise InputError(f"{SEED_VARIABLE}={value!r}: expected a whole number of at least 0; set one or unset it")
    _seed(int(value) + rank)


def _seed(seed: int) -> None:
    random.seed(seed % 2**32)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed % 2**32)


def random_state() -> dict[str, Any]:
    """State of every generator, in types that torch loads safely."""
    numpy_state = np.random.get_state(legacy=False)
    return {
        "python": random.getstate(),
        "numpy": numpy_state | {"state": {k: np.asarray(v).tolist() for k, v in numpy_state["state"].items()}},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: dict[str, Any], rank: int = 0) -> None:
    """Set every generator to a state of ``random_state``; CUDA's only on as many devices as it was taken on.

    Args:
        state: the state of the first process of a training.
        rank: number of this process; others than the first are seeded from that state, so that each draws differently.
    """
    random.setstate(state["python"])
    numpy_state = state["numpy"]["state"]
    key = np.array(numpy_state["key"], dtype=np.uint32)
    np.random.set_state(state["numpy"] | {"state": numpy_state | {"key": key}})
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([device_state.cpu() for device_state in state["cuda"]])
    if rank:
        _seed(random.randrange(2**32) + rank)
