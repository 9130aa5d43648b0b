"""nnU-Net's training log, line by line and as a whole."""

import pytest

from missu_nnunet.nnunet.log import EPOCH, EPOCH_SECONDS, PSEUDO_DICE, read_epochs, values_of_line


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("Epoch 12 ", {EPOCH: 12}),
        ("Epoch time: 12.3 s ", {EPOCH_SECONDS: 12.3}),
        ("Pseudo dice [np.float32(0.5), np.float32(0.7)] ", {PSEUDO_DICE: 0.6}),
        ("Pseudo dice [np.float32(0.0), np.float32(1.0), np.float32(0.2)] ", {PSEUDO_DICE: 0.4}),
        ("Pseudo dice [0.5, 1e-04] ", {PSEUDO_DICE: 0.25005}),
        ("train_loss -0.5 ", {"train_losses": -0.5}),
        ("Current learning rate: 0.01 ", {"lrs": 0.01}),
        (
            "loss terms: segmentation 0.5, auxiliary heads -0.25, distillation 1e-05",
            {"seg_loss": 0.5, "aux_loss": -0.25, "kd_loss": 1e-5},
        ),
        ("train_loss nothing ", {}),
        (f"Epoch {10**30} ", {}),
        (f"Epoch time: {10**400} s ", {}),
    ],
)
def test_a_line(line: str, values: dict[str, float]) -> None:
    assert values_of_line(f"2026-01-02 03:04:05.678901: {line}\n") == pytest.approx(values)


def test_what_a_continued_training_repeats_counts_as_it_was_in_the_end() -> None:
    lines = ["train_loss 9", "Epoch 0", "train_loss 1", "Epoch 1", "train_loss 2", "Epoch 1", "train_loss 3", "Epoch 2"]
    assert read_epochs(lines) == {0: {"train_losses": 1}, 1: {"train_losses": 3}, 2: {}}
    assert list(read_epochs([*lines, "Epoch 1"])) == [0, 2, 1]
