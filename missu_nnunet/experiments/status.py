"""The state of each training of an experiment, in words."""

from __future__ import annotations

import re
from collections.abc import Mapping

from missu_nnunet.experiments.fold_training import FoldTraining, dice_text
from missu_nnunet.text import duration


def training_status(training: FoldTraining, cluster_states: Mapping[str, str]) -> tuple[str, str]:
    """The state in a word or two, and its details.

    Args:
        training: the training whose state is asked for.
        cluster_states: name of a training → the state of its job on the cluster, such as PENDING.
    """
    if training.is_finished():
        ended = training.results.early_end()
        return "finished", dice_text(training) + (f", ended after {ended}" if ended else "")
    if training.is_running():
        return "running", progress_text(training)
    if training.name in cluster_states:
        return cluster_states[training.name].lower(), progress_text(training)
    if not training.folder.exists():
        return "not started", ""
    code = _last_exit_code(training)
    if not code:  # it was killed and could not say, or its scores have been removed since
        return "interrupted", progress_text(training)
    return "failed", f"exit code {code}, see {training.log}"


def progress_text(training: FoldTraining) -> str:
    """Epochs done and the time left for the others; empty before the first epoch."""
    if training.results.is_trained():
        return "trained, validation to do"
    found = training.results.progress()
    if found is None:
        return ""
    if found.epochs is None or found.epoch_seconds is None:
        return f"{found.done} epochs done"
    left = duration((found.epochs - found.done) * found.epoch_seconds)
    return f"{found.done} of {found.epochs} epochs done, {left} and the validation left"


def _last_exit_code(training: FoldTraining) -> int | None:
    """Exit code of the latest command; None if it was killed and could not say."""
    if not training.log.is_file():
        return None
    lines = training.log.read_text(errors="replace").splitlines()
    match = re.fullmatch(r"exit code (\d{1,9})", lines[-1]) if lines else None
    return int(match[1]) if match else None
