"""``missu crossval``."""

from __future__ import annotations

from contextlib import closing
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from missu_nnunet.cli.examples import examples
from missu_nnunet.cli.options import AsJson, Trusted
from missu_nnunet.errors import InputError
from missu_nnunet.terminal import literal, print_json, say, show, table, waiting
from missu_nnunet.text import counted

if TYPE_CHECKING:
    from missu_nnunet.experiments.experiment import Experiment
    from missu_nnunet.experiments.launcher import Estimate, Launcher


class _RunUnlessStatus(TyperGroup):
    """``missu crossval DATASET …`` is ``missu crossval run DATASET …``, and so is its help."""

    def parse_args(self, ctx, args):  # type: ignore[no-untyped-def]  # click's
        # What looks like a mistyped command is left to the group, which says which one is meant.
        if args and args[0] not in self.commands and not get_close_matches(args[0], self.commands):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunUnlessStatus,
    help="Train every fold of every arm with nnU-Net's own commands: missu crossval DATASET CONFIGURATION …; "
    "missu crossval status shows how far they are.",
    no_args_is_help=True,
)


@app.callback()
def _root() -> None:
    from missu_nnunet.nnunet.command import require_posix

    require_posix()


@app.command(
    epilog=examples(
        "missu crossval 4 3d_fullres --trainers MISSUTrainer,MISSUTrainerNoTransformer --plans nnUNetMISSUPlans",
        "missu crossval 4 3d_fullres --trainers MISSUTrainer --plans nnUNetMISSUPlans --folds 0,1 --dry-run",
        "missu crossval 4 3d_fullres --plans nnUNetMISSUPlans,nnUNetPlans --seeds 0-2",
        "missu crossval 4 3d_fullres --plans nnUNetMISSUPlans,nnUNetPlans --launcher slurm --sbatch partition=gpu",
        "missu crossval status 4",
    )
)
def run(
    dataset: Annotated[str, typer.Argument(help="Name or ID of the dataset, planned and preprocessed by nnU-Net.")],
    configuration: Annotated[str, typer.Argument(help="Configuration of the plans, such as 3d_fullres.")],
    trainers: Annotated[
        str, typer.Option(help="Comma-separated: what nnUNetv2_train -tr takes.")
    ] = "MISSUTrainer,nnUNetTrainer",
    plans: Annotated[
        str,
        typer.Option(
            help="What nnUNetv2_train -p takes: one for all trainers, or comma-separated, one for each, such as "
            "nnUNetMISSUPlans,nnUNetPlans."
        ),
    ] = "nnUNetPlans",
    folds: Annotated[str, typer.Option(help="Such as 0-4 or 0,2.")] = "0-4",
    seeds: Annotated[
        str | None,
        typer.Option(
            help="Such as 0-2: train every fold once with each, its results in $nnUNet_results/seed_0 and so on. "
            "Otherwise once."
        ),
    ] = None,
    launcher: Annotated[str, typer.Option(help="Where the trainings run: local or slurm.")] = "local",
    gpus_per_job: Annotated[
        int | None,
        typer.Option(min=0, help="GPUs of each training; 0 is the CPU. Otherwise 1, or 0 if local has none."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(help="Continue broken trainings from their checkpoint, or begin them anew. Finished ones stay."),
    ] = True,
    estimate: Annotated[
        bool,
        typer.Option(help="Time a few iterations of each arm first, and say what time, memory and disk it all takes."),
    ] = True,
    hours: Annotated[
        float, typer.Option(min=0.02, help="slurm: time limit of a job; there it is requeued, and continues.")
    ] = 24,
    sbatch: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OPTION=VALUE", help="slurm: further options of sbatch, such as partition=gpu. Repeat it."
        ),
    ] = None,
    trust: Trusted = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and stop before it does.")] = False,
) -> None:
    """Train every fold of every arm, then let nnU-Net accumulate each arm's cross-validation.

    An arm is a trainer with its plans. Finished folds are skipped; run the same command again after any interruption,
    and it completes the rest. Exits with 1 if something is left unfinished.
    """
    from missu_nnunet.experiments.experiment import define_experiment
    from missu_nnunet.experiments.launcher import Options, find_launcher

    launched_by = find_launcher(launcher)(Options(gpus_per_job, hours, _sbatch_options(sbatch or [])))
    experiment = define_experiment(
        dataset, configuration, _names(trainers), _names(plans), folds, launched_by.gpus, seeds
    )
    if not dry_run:
        experiment.ensure_splits()
    if estimate:
        with waiting("timing a few iterations"):
            estimated = launched_by.estimate(experiment, resume, say)
        _print_costs(experiment, estimated)
    if dry_run:
        return _print_commands(experiment, resume)
    experiment.save()
    _run(experiment, launched_by, resume)


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise InputError(f"'{text}': expected names, comma-separated")
    return names


def _sbatch_options(texts: list[str]) -> dict[str, str]:
    options = dict(text.lstrip("-").partition("=")[::2] for text in texts)
    if not all(name and value for name, value in options.items()):
        raise InputError(f"--sbatch {' '.join(texts)}: expected OPTION=VALUE, such as partition=gpu")
    return options


def _print_costs(experiment: Experiment, estimate: Estimate) -> None:
    from missu_nnunet.experiments.cost import check_disk, check_memory, timing_log, total

    known = [cost for cost in estimate.costs if cost is not None]
    for cost in known:
        for line in cost.lines():
            say(line)
    if failed := len(estimate.costs) - len(known):
        say(f"the timed iterations of {counted(failed, 'arm')} FAILED, see {timing_log(experiment)}")
    if known:
        say(total(experiment, known, estimate.parallel))
        check_disk(experiment, known)
        if estimate.here:
            check_memory(known, estimate.parallel)


def _print_commands(experiment: Experiment, resume: bool) -> None:
    for training in experiment.trainings():
        line = "finished earlier" if training.is_finished() else training.line(resume)
        say(f"{training.name}: {line}")


def _run(experiment: Experiment, launcher: Launcher, resume: bool) -> None:
    left = 0
    try:
        # Closed at the end, whatever it is: that kills the trainings that run.
        with closing(launcher.run(experiment, resume)) as events, waiting("") as running:
            for event in events:
                if event is None:
                    running.update(literal(_running(experiment)))
                    continue
                say(f"{event.name}: {event.text}")
                left += event.kind == "failed"
    except KeyboardInterrupt:
        say("interrupted, and what ran here is killed; the same command goes on from there")
        raise
    if left:
        raise typer.Exit(1)


@app.command(epilog=examples("missu crossval status", "missu crossval status Dataset004_Hippocampus --json"))
def status(
    dataset: Annotated[str | None, typer.Argument(help="Name or ID; otherwise all that have an experiment.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show how far each training is, of the latest experiments and of all others there."""
    from missu_nnunet.experiments.experiment import read_experiments
    from missu_nnunet.experiments.launcher import states_elsewhere
    from missu_nnunet.experiments.status import training_status

    found = []
    for experiment in read_experiments(dataset):
        states = states_elsewhere(experiment)
        shown = [*experiment.trainings(), *experiment.other_trainings()]
        with_seeds = any(training.seed is not None for training in shown)
        trainings = table(("trainer", "plans", *(["seed"] if with_seeds else []), "fold", "state", ""))
        for training in shown:
            state, details = training_status(training, states)
            seed = ["" if training.seed is None else training.seed] if with_seeds else []
            trainings.add_row(training.trainer, training.plans, *seed, training.fold, state, details)
            found.append(
                {
                    **{"dataset": training.dataset, "configuration": training.configuration},
                    **{"trainer": training.trainer, "plans": training.plans},
                    **{"seed": training.seed, "fold": training.fold},
                    **{"state": state, "details": details, "dice": training.results.validation_dice()},
                }
            )
        if not as_json:
            show(trainings, f"{experiment.dataset} {experiment.configuration}")
    if as_json:
        print_json(found)


def _running(experiment: Experiment) -> str:
    """A line of what runs now."""
    from missu_nnunet.experiments.status import progress_text

    running = (training for training in experiment.trainings() if training.is_running())
    return "; ".join(f"{training.name}: {progress_text(training) or 'starting'}" for training in running)
