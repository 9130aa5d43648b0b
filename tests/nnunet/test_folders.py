"""nnU-Net's folders and the names in them."""

from pathlib import Path

import pytest
from nnunetv2.utilities.file_path_utilities import convert_trainer_plans_config_to_identifier

from missu_nnunet.errors import InputError
from missu_nnunet.nnunet.folders import Model, folder_if_set, model_folder, nnunet_folder


def test_models_are_named_as_nnunet_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    model = Model("MISSUTrainer", "nnUNetPlans", "3d_fullres")
    assert str(model) == convert_trainer_plans_config_to_identifier("MISSUTrainer", "nnUNetPlans", "3d_fullres")
    folder = model.folder("Dataset004_Hippocampus")
    assert folder == tmp_path / "Dataset004_Hippocampus" / str(model)
    assert Model.of(folder) == model
    assert Model.of(folder.parent) is None


def test_the_model_that_a_folder_lies_in() -> None:
    model = Path("/r/Dataset004_Hippocampus/A__B__C")
    for folder in (model, model / "fold_0", model / "fold_0" / "validation"):
        assert model_folder(folder) == model
    assert model_folder(Path("/r/predictions")) == Path("/r/predictions")


@pytest.mark.parametrize("value", ["", None])
def test_a_variable_that_is_not_set_is_named(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_raw", raising=False)
    if value is not None:
        monkeypatch.setenv("nnUNet_raw", value)
    assert folder_if_set("nnUNet_raw") is None
    with pytest.raises(InputError, match="nnUNet_raw is not set: export nnUNet_raw=FOLDER"):
        nnunet_folder("nnUNet_raw")
