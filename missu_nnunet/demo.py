"""The demo: nnU-Net's whole chain on a synthetic dataset, with MISSU's trainer and planner.

Every step but the first and the last is one of nnU-Net's own commands, run as a user would run it. A demo lives in one
folder, with nnU-Net's three folders below it, and a file there tells which steps are finished.
"""

import shlex
import shutil
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from pydantic import StrictInt, StrictStr

from missu_nnunet import __version__
from missu_nnunet.datasets.phantom import LABELS
from missu_nnunet.errors import InputError
from missu_nnunet.files import make_folder, write_json
from missu_nnunet.hyperparameters import SEED_VARIABLE
from missu_nnunet.nnunet.command import LoggedCommand, locked_log, nnunet_command
from missu_nnunet.nnunet.dataset import DATASET_FILE
from missu_nnunet.nnunet.fold import Fold
from missu_nnunet.nnunet.folders import VARIABLES, Model
from missu_nnunet.nnunet.summary import SUMMARY_FILE, dice_of_cases
from missu_nnunet.structures import Structure, read_structure
from missu_nnunet.training.tracking import UNTRACKED

EPOCHS = 5
_TRAINER = f"MISSUTrainer_{EPOCHS}epochs_40iters"
_PLANNER = "MISSUPlannerCPU"
_PLANS = "nnUNetMISSUPlansCPU"
_CONFIGURATION = "3d_fullres"
_FOLD = "0"
_DATASET_ID = "900"
_TASK = f"Task{_DATASET_ID}_Phantom"
_DATASET = f"Dataset{_DATASET_ID}_Phantom"
_NUM_TRAINING = 20
_NUM_TEST = 4

_STRUCTURES = {name: (value,) for name, value in LABELS.items() if value != 0}
_MARKER = "missu-demo.json"


class _State(Structure):
    """What the file in a demo's folder tells."""

    seed: StrictInt
    version: StrictStr
    finished: list[StrictStr]


@dataclass(frozen=True)
class Step:
    """A step of the demo: one of nnU-Net's commands.

    Attributes:
        name: name of the step.
        command: command line of the step.
        output: what an interrupted run may leave incomplete; None where the command itself continues.
    """

    name: str
    command: tuple[str, ...]
    output: Path | None


class Demo:
    """A demo in its folder.

    Args:
        folder: folder of the demo, which is made if it does not exist.
        seed: seed of the phantoms and of the training.

    Raises:
        InputError: if ``folder`` holds something else, or a demo of another seed or version.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.seed = seed
        found = self._read_marker()
        self._finished = found or []
        if found is None:
            make_folder(folder)
            self._write_marker()

    @property
    def phantoms(self) -> Path:
        """The synthetic dataset in Decathlon format, with the held-out references in ``labelsTs``."""
        return self.folder / _TASK

    @property
    def raw(self) -> Path:
        """The dataset in nnU-Net's format."""
        return self.folder / "nnUNet_raw" / _DATASET

    @property
    def fold(self) -> Fold:
        """The trained fold: checkpoints, logs, ``progress.png``."""
        model = Model(_TRAINER, _PLANS, _CONFIGURATION)
        return Fold.of(self.folder / "nnUNet_results" / _DATASET / str(model), _FOLD)

    @property
    def predictions(self) -> Path:
        """The segmentations of the held-out cases, and nnU-Net's ``summary.json`` of their scores."""
        return self.folder / "predictions"

    @property
    def overlays(self) -> Path:
        """The folder of the pictures of the held-out cases."""
        return self.folder / "overlays"

    @property
    def report(self) -> Path:
        """The report of the trained model."""
        return self.folder / "report.html"

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that keep nnU-Net inside the folder and within a small machine's means."""
        folders: dict[str, str] = {name: str((self.folder / name).resolve()) for name in VARIABLES}
        processes = {"nnUNet_n_proc_DA": "0", "nnUNet_def_n_proc": "1", "nnUNet_npp": "1", "nnUNet_nps": "1"}
        # OpenMP threads that wait busily slow a training several times when something else runs on the machine.
        others = {"OMP_WAIT_POLICY": "PASSIVE", SEED_VARIABLE: str(self.seed)}
        return folders | processes | others | UNTRACKED

    def log(self, step: Step) -> Path:
        """Return the log of a step, which holds the output of all its runs."""
        return self.folder / "logs" / f"{step.name}.log"

    def write_phantoms(self) -> None:
        """Write the dataset, unless it is there already."""
        from missu_nnunet.datasets.phantom import write_phantom_dataset

        if self.is_finished("phantoms"):
            return
        self._begin("phantoms")
        _remove(self.phantoms)
        write_phantom_dataset(self.phantoms, self.seed, _NUM_TRAINING, _NUM_TEST)
        self._finish("phantoms")

    def steps(self) -> list[Step]:
        """List nnU-Net's commands in their order.

        Raises:
            InputError: if nnU-Net's commands are not beside the Python that runs this.
        """
        preprocessed = self.folder / "nnUNet_preprocessed" / _DATASET
        planned = ("-d", _DATASET_ID, "-c", _CONFIGURATION)
        planner = ("-pl", _PLANNER, "--verify_dataset_integrity", "-npfp", "1", "-np", "1")
        trained = ("-tr", _TRAINER, "-p", _PLANS, "-device", "cpu")
        resume = ("--c",) if self.fold.folder.exists() else ()
        cases = ("-i", self.raw / "imagesTs", "-o", self.predictions)
        references = self.phantoms / "labelsTs"
        settings = ("-djfile", self.raw / DATASET_FILE, "-pfile", preprocessed / f"{_PLANS}.json")
        return [
            _step("convert", ("nnUNetv2_convert_MSD_dataset", "-i", self.phantoms), self.raw),
            _step("plan", ("nnUNetv2_plan_and_preprocess", *planned, *planner), preprocessed),
            _step("train", ("nnUNetv2_train", _DATASET_ID, _CONFIGURATION, _FOLD, *trained, *resume), None),
            _step("predict", ("nnUNetv2_predict", *cases, *planned, "-f", _FOLD, *trained), self.predictions),
            _step(
                "evaluate",
                ("nnUNetv2_evaluate_folder", references, self.predictions, *settings),
                self.predictions / SUMMARY_FILE,
            ),
        ]

    def is_finished(self, name: str) -> bool:
        """Whether the step of this name is finished, and its files are still there."""
        return name in self._finished and all(path.exists() for path in self._made(name))

    def _made(self, name: str) -> list[Path]:
        """List the files that a finished step leaves."""
        preprocessed = self.folder / "nnUNet_preprocessed" / _DATASET
        references = self.phantoms / "labelsTs"
        return {
            "phantoms": [self.phantoms / DATASET_FILE, references],
            "convert": [self.raw / DATASET_FILE, self.raw / "imagesTs"],
            "plan": [preprocessed / f"{_PLANS}.json", preprocessed / f"{_PLANS}_{_CONFIGURATION}"],
            "train": [self.fold.final_checkpoint],
            "predict": [self.predictions / file.name for file in references.glob("*.nii.gz")],
            "evaluate": [self.predictions / SUMMARY_FILE],
        }.get(name, [])

    def run(self, step: Step) -> Generator[str, None, None]:
        """Run a step and yield the lines that its command prints, as they come.

        Raises:
            InputError: if the command fails.
        """
        self._begin(step.name)
        if step.output is not None:
            _remove(step.output)
        log = self.log(step)
        with locked_log(log) as file:
            command = LoggedCommand(step.command, file, self.environment)
        yield from command.lines()
        if code := command.wait():
            raise InputError(
                f"demo step '{step.name}' failed (exit code {code}): {shlex.join(step.command)};"
                f" what it printed is in {log}; 'missu doctor' checks the installation"
            )
        self._finish(step.name)

    def draw_overlays(self) -> None:
        """Draw each held-out case with its reference and prediction."""
        from missu_nnunet.datasets.images import read_image
        from missu_nnunet.datasets.phantom import CHANNELS
        from missu_nnunet.pictures.comparisons import save_comparison

        self.overlays.mkdir(exist_ok=True)
        for case, dice in self.dice().items():
            save_comparison(
                f"{case}: mean foreground Dice {sum(dice.values()) / len(dice):.3f}",
                {
                    name: read_image(self.raw / "imagesTs" / f"{case}_{channel:04d}.nii.gz")
                    for channel, name in enumerate(CHANNELS)
                },
                read_image(self.phantoms / "labelsTs" / f"{case}.nii.gz"),
                read_image(self.predictions / f"{case}.nii.gz"),
                _STRUCTURES,
                {name: f"(Dice {value:.3f})" for name, value in dice.items()},
                self.overlays / f"{case}.png",
            )

    def write_report(self) -> None:
        """Write the report of the trained model: its curves, and the pictures and scores of its validation cases."""
        from missu_nnunet.evaluation.protocols import NNUNET
        from missu_nnunet.evaluation.results import gather_results
        from missu_nnunet.report.page import write_report

        model, images = self.fold.folder.parent, self.raw / "imagesTr"
        command = ("missu", "report", model, "--images", images, "--output", self.report)
        write_report(
            gather_results([model], NNUNET),
            self.report,
            level=0.05,
            images=[images],
            cases=[],
            command=shlex.join(map(str, command)),
        )

    def dice(self) -> dict[str, dict[str, float]]:
        """Read the Dice of each structure in each held-out case from nnU-Net's evaluation: case → structure → Dice."""
        return dice_of_cases(self.predictions / SUMMARY_FILE, _STRUCTURES)

    def _read_marker(self) -> list[str] | None:
        """Read the finished steps; None where the folder is new or empty."""
        marker = self.folder / _MARKER
        if not marker.is_file():
            if self.folder.exists() and not (self.folder.is_dir() and not any(self.folder.iterdir())):
                raise InputError(
                    f"--out {self.folder}: exists and is not a demo's folder (it has no {_MARKER});"
                    " give a new or empty folder"
                )
            return None
        remedy = f"it is not a demo's state; give another --out, or delete {self.folder}"
        found = read_structure(marker, _State, remedy)
        settings = {"seed": found.seed, "version": found.version}
        if settings != self._settings():
            raise InputError(
                f"--out {self.folder}: holds the demo of seed {settings['seed']} by version {settings['version']},"
                f" not of seed {self.seed} by version {__version__};"
                " give another --out, or delete the folder"
            )
        return found.finished

    def _settings(self) -> dict[str, int | str]:
        return {"seed": self.seed, "version": __version__}

    def _begin(self, name: str) -> None:
        """Mark the step, and all that follow it, as not finished."""
        if name in self._finished:
            self._finished = self._finished[: self._finished.index(name)]
            self._write_marker()

    def _finish(self, name: str) -> None:
        self._finished.append(name)
        self._write_marker()

    def _write_marker(self) -> None:
        # A demo stopped here leaves the old state, never half a one.
        write_json(self._settings() | {"finished": self._finished}, self.folder / _MARKER)


def _step(name: str, command: tuple[str | Path, ...], output: Path | None) -> Step:
    program, *arguments = map(str, command)
    return Step(name, (nnunet_command(program), *arguments), output)


def _remove(output: Path) -> None:
    if output.is_dir():
        shutil.rmtree(output)
    else:
        output.unlink(missing_ok=True)
