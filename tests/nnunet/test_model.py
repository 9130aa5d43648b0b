from pathlib import Path

import pytest

from missu_nnunet.errors import InputError
from missu_nnunet.nnunet.dataset import DATASET_FILE
from missu_nnunet.nnunet.model import PLANS_FILE, find_description, folds_of, folds_with, read_model


def test_folds_come_by_number_and_without_all(tmp_path: Path) -> None:
    for name in ("fold_10", "fold_2", "fold_all", "fold_0"):
        (tmp_path / name).mkdir()
    (tmp_path / "fold_3").touch()
    assert [fold.name for fold in folds_of(tmp_path)] == ["0", "2", "10"]


def test_fold_all_predicts_where_no_other_has_the_checkpoint(tmp_path: Path) -> None:
    for name, checkpoint in (("fold_0", "best"), ("fold_1", "best"), ("fold_all", "best"), ("fold_all", "final")):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / checkpoint).touch()
    found = {checkpoint: [fold.name for fold in folds_with(tmp_path, checkpoint)] for checkpoint in ("best", "final")}
    assert found == {"best": ["0", "1"], "final": ["all"]}
    assert not folds_with(tmp_path, "latest")


def test_the_description_of_a_fold_is_the_models(tmp_path: Path) -> None:
    validation = tmp_path / "fold_0" / "validation"
    validation.mkdir(parents=True)
    assert find_description(PLANS_FILE, validation) is None
    (tmp_path / PLANS_FILE).touch()
    assert find_description(PLANS_FILE, validation) == tmp_path.resolve() / PLANS_FILE
    (validation / PLANS_FILE).touch()
    assert find_description(PLANS_FILE, validation) == validation.resolve() / PLANS_FILE


def test_a_folder_that_is_not_a_model_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"plans\.json.*give a trained model's folder"):
        read_model(tmp_path)
    (tmp_path / PLANS_FILE).write_text('{"image_reader_writer": "os.system"}')
    (tmp_path / DATASET_FILE).write_text("{}")
    with pytest.raises(InputError, match=r"plans\.json: refused.*image_reader_writer"):
        read_model(tmp_path)
