"""A few timed iterations of nnU-Net's training, in a process and a results folder of their own.

``python -m missu_nnunet.experiments.timing DATASET CONFIGURATION TRAINER PLANS GPUS FILE`` writes a ``Timing``.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from missu_nnunet.files import write_json
from missu_nnunet.nnunet.fold import FINAL_CHECKPOINT
from missu_nnunet.nnunet.folders import nnunet_folder
from missu_nnunet.nnunet.splits import find_splits
from missu_nnunet.structures import read_structure
from missu_nnunet.training.tracking import UNTRACKED

_STARTED = time.perf_counter()  # before torch is imported
_STEPS = 5


@dataclass(frozen=True)
class Timing:
    """How long one training's parts take, and how large its files are.

    Attributes:
        start_seconds: until the first step is done.
        step_seconds: one training step on a batch that is there.
        batch_seconds: until the next batch is there, while nothing else is done.
        workers: processes that make batches beside the training; 0 makes them in between.
        validation_seconds: one iteration of an epoch's validation, with its batch.
        case_seconds: prediction of one case in the final validation, without resampling and export.
        iterations: training steps of an epoch.
        validation_iterations: validation iterations per epoch.
        epochs: epochs of the whole training.
        checkpoint_bytes: size of a checkpoint.
        memory_bytes: memory of the training and its loaders at its peak, without the final validation.
    """

    start_seconds: float
    step_seconds: float
    batch_seconds: float
    workers: int
    validation_seconds: float
    case_seconds: float
    iterations: int
    validation_iterations: int
    epochs: int
    checkpoint_bytes: int
    memory_bytes: int

    @property
    def iteration_seconds(self) -> float:
        """Duration of one training iteration: batches are made beside the steps, or in between."""
        if self.workers:
            return max(self.step_seconds, self.batch_seconds)
        return self.step_seconds + self.batch_seconds

    @property
    def waiting(self) -> float:
        """The share of an iteration in which the device waits for data."""
        return 1 - self.step_seconds / self.iteration_seconds

    @property
    def epoch_seconds(self) -> float:
        """Duration of one epoch in seconds."""
        return self.iterations * self.iteration_seconds + self.validation_iterations * self.validation_seconds


def measure(dataset: str, configuration: str, trainer_name: str, plans: str, gpus: int) -> Timing:
    """Train a few iterations of fold 0 as nnU-Net would, in the environment's results folder.

    With several GPUs, one of them times its share of the batch; what they tell one another is not counted.
    """
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args
    from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

    torch.set_num_threads(1 if gpus else multiprocessing.cpu_count())  # as nnUNetv2_train does
    torch.backends.cudnn.benchmark = True
    device = torch.device("cuda" if gpus else "cpu")
    trainer = get_trainer_from_args(dataset, configuration, 0, trainer_name, plans, device=device)
    batch_size = trainer.configuration_manager.batch_size
    trainer.configuration_manager.configuration["batch_size"] = math.ceil(batch_size / max(gpus, 1))
    # A trainer would write the splits where there are none, also for a dry run.
    folder = Path(trainer.preprocessed_dataset_folder)
    split = find_splits(folder.parent, folder.name)[0]
    trainer.do_split = lambda: (split["train"], split["val"])
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    batch = next(trainer.dataloader_train)
    trainer.train_step(batch)  # compiles, and chooses kernels
    start = time.perf_counter() - _STARTED
    step = _median_seconds(lambda: trainer.train_step(batch))

    workers = get_allowed_n_proc_DA()
    if workers:
        for _ in range(max(6, workers // 2) + workers):  # made meanwhile, and waiting in nnU-Net's queues
            next(trainer.dataloader_train)
    started = time.perf_counter()
    draws = max(_STEPS, 2 * workers)
    for _ in range(draws):
        next(trainer.dataloader_train)
    batch_seconds = (time.perf_counter() - started) / draws

    trainer.on_validation_epoch_start()
    with torch.no_grad():
        trainer.validation_step(next(trainer.dataloader_val))
        validation = _median_seconds(lambda: trainer.validation_step(next(trainer.dataloader_val)))
        trainer.set_deep_supervision_enabled(False)  # as in prediction
        patch = batch["data"][:1].to(device)
        with torch.autocast(device.type, enabled=gpus > 0):
            trainer.network(patch)
            forward = _median_seconds(lambda: trainer.network(patch).sum().item())
    memory = _peak_memory()
    trainer.on_train_end()  # ends the loaders, writes the checkpoint
    return Timing(
        start,
        step,
        batch_seconds,
        workers,
        validation,
        forward * _forwards_per_case(trainer),
        trainer.num_iterations_per_epoch,
        trainer.num_val_iterations_per_epoch,
        trainer.num_epochs,
        (Path(trainer.output_folder) / FINAL_CHECKPOINT).stat().st_size,
        memory,
    )


def _peak_memory() -> int:
    """The most that this process has had, and what each loader has now beside what it shares with this one (Linux)."""
    import resource  # which Windows lacks

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    maps = (Path(f"/proc/{process.pid}/smaps_rollup") for process in multiprocessing.active_children())
    lines = (line.split() for file in maps if file.exists() for line in file.read_text().splitlines())
    return peak + sum(int(line[1]) * 1024 for line in lines if line[0].startswith("Private_"))


def _median_seconds(function: Callable[[], object]) -> float:
    seconds = []
    for _ in range(_STEPS):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _forwards_per_case(trainer: Any) -> float:
    """Tiles of a validation case, the mean of a few, times their mirrored forms."""
    from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window

    patch = trainer.configuration_manager.patch_size
    _, cases = trainer.do_split()
    dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder, cases[:5])
    tiles = []
    for case in dataset.identifiers:
        shape = dataset.load_case(case)[0].shape[1:]
        size = [max(axis, tile) for axis, tile in zip(shape[-len(patch) :], patch, strict=True)]
        steps = compute_steps_for_sliding_window(size, patch, 0.5)
        slices = math.prod(shape[: len(shape) - len(patch)])  # of a 2D configuration
        tiles.append(slices * math.prod(map(len, steps)))
    return statistics.mean(tiles) * 2 ** len(trainer.inference_allowed_mirroring_axes or ())


def read_timing(file: Path) -> Timing:
    """Read the file that ``python -m missu_nnunet.experiments.timing`` has written."""
    return read_structure(file, Timing, "time the iterations again")


def _link_previous_stages(models: Path, temporary: Path) -> None:
    """Let a cascade find the predictions of its first stage."""
    for folder in models.glob("*/predicted_next_stage"):
        link = temporary / folder.relative_to(models)
        link.parent.mkdir(parents=True)
        link.symlink_to(folder.resolve())


def main() -> None:
    """Measure what the command line says."""
    dataset, configuration, trainer, plans, gpus, file = sys.argv[1:]
    with tempfile.TemporaryDirectory() as results:
        _link_previous_stages(nnunet_folder("nnUNet_results") / dataset, Path(results) / dataset)
        os.environ.update(UNTRACKED, nnUNet_results=results)
        timing = measure(dataset, configuration, trainer, plans, int(gpus))
    write_json(asdict(timing), Path(file))


if __name__ == "__main__":
    main()
