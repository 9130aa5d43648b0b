import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from missu_nnunet.training import variants
from missu_nnunet.training.trainer import MISSUTrainer

NAMES = ["MISSUTrainer" + variant for variant in variants.VARIANTS]
TRAINERS = Path(__file__).parents[2] / "trainers"


@pytest.mark.parametrize("suffix", ["", "_5epochs", "_10iters", "_20epochs_50iters"])
@pytest.mark.parametrize("name", NAMES)
def test_nnunet_finds_every_variant_in_every_length(name: str, suffix: str) -> None:
    trainer = recursive_find_trainer_class_by_name(name + suffix)
    assert trainer.__name__ == name + suffix
    assert issubclass(trainer, MISSUTrainer)


@given(st.sampled_from(sorted(variants.VARIANTS)), st.integers(1, 10**6), st.integers(1, 10**6))
def test_name_sets_the_length_and_nothing_else(variant: str, epochs: int, iterations: int) -> None:
    hp = getattr(variants, f"MISSUTrainer{variant}_{epochs}epochs_{iterations}iters").hyperparameters
    assert (hp.num_epochs, hp.num_iterations_per_epoch) == (epochs, iterations)
    base = variants.VARIANTS[variant]
    changed = {key for key, value in vars(hp).items() if value != getattr(base, key)}
    assert changed <= {"num_epochs", "num_iterations_per_epoch"}


def test_ablations_change_one_thing() -> None:
    default = vars(variants.VARIANTS[""])
    changes = {
        name: {key: value for key, value in vars(hp).items() if value != default[key]}
        for name, hp in variants.VARIANTS.items()
    }
    assert changes["NoDistillation"] == {"teacher": None}
    assert changes["NoTransformer"] == {"transformer": False}
    assert changes["Fusion"] == {"teacher": "fusion"}
    assert changes["NoFusion"] == {"teacher": "skip"}


@pytest.mark.parametrize(
    "name",
    [
        "MISSUTrainerTypo",
        "MISSUTrainer_epochs",
        "MISSUTrainer_0epochs",
        "MISSUTrainer_5iters_5epochs",
    ],
)
def test_a_wrong_name_gets_nnunets_usual_error(name: str) -> None:
    with pytest.raises(RuntimeError, match=f"Could not find requested nnunet trainer {name}"):
        recursive_find_trainer_class_by_name(name)


def test_classes_are_made_once_and_pickle() -> None:
    trainer = variants.MISSUTrainerNoFusion_3epochs
    assert variants.MISSUTrainerNoFusion_3epochs is trainer
    assert pickle.loads(pickle.dumps(trainer)) is trainer


def test_other_trainers_are_found_as_before() -> None:
    assert recursive_find_trainer_class_by_name("nnUNetTrainer") is nnUNetTrainer
    assert recursive_find_trainer_class_by_name("nnUNetTrainer_5epochs").__module__.startswith("nnunetv2.")


def test_shim_costs_nothing_when_another_trainer_is_sought() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import missu_trainers; "
        "assert not hasattr(missu_trainers, 'nnUNetTrainer_5epochs'); "
        "sys.exit(any(name.split('.')[0] in ('missu_nnunet', 'torch', 'nnunetv2') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code, str(TRAINERS)], check=True)


def test_checkout_serves_as_external_trainer_folder() -> None:
    """nnU-Net's search of ``nnUNet_extTrainer``, which it begins where its own folders hold no such trainer."""
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

    trainer = recursive_find_python_class(
        str(TRAINERS), "MISSUTrainer_7epochs", None, base_folder=str(TRAINERS), cleanup_imports_from_base_folder=True
    )
    assert trainer is variants.MISSUTrainer_7epochs
