import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from checkpoints import dataset_json, tiny_plans

from missu_nnunet.errors import InputError
from missu_nnunet.nnunet.names import check_names, trust

UNET = "dynamic_network_architectures.architectures.unet.PlainConvUNet"


@pytest.mark.parametrize(
    "network",
    [
        "missu_nnunet.architecture.missu.MISSU",
        UNET,
        "dynamic_network_architectures.architectures.primus.Primus",
        "dynamic_network_architectures.architectures.residual_unet.ResidualEncoderUNet",  # has moved since
        "torch.nn.modules.conv.Conv3d",
    ],
)
def test_networks_of_nnunet_and_missu_pass(network: str) -> None:
    check_names({"network_class_name": network}, "it")


def test_whole_plans_pass() -> None:
    check_names(tiny_plans(), "it")
    for file in files("nnunetv2.experiment_planning.missu").iterdir():
        if file.name.endswith(".json"):
            check_names(json.loads(file.read_text()), file.name)
    looked_up = {
        "label_manager": "LabelManager",
        "image_reader_writer": "SimpleITKIO",
        "preprocessor_name": "DefaultPreprocessor",
        "normalization_schemes": ["ZScoreNormalization", "CTNormalization"],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_torch_fornnunet",
        "resampling_fn_probabilities": "no_resampling_hack",
    }
    check_names({"configurations": {"3d_fullres": looked_up}}, "it")
    check_names(dataset_json() | {"overwrite_image_reader_writer": "None"}, "it")


@pytest.mark.parametrize(
    "network",
    [
        "os.system",
        "canary",
        "canary.Network",
        "canary.PlainConvUNet",
        "torch.hub.load",
        "torch.nn",
        "torch.nn.",
        "torch.nn..Conv3d",
        "torch.nn.Nothing",
        "torch.nn.Parameter",
        "torch.nn.init.trunc_normal_",
        "torch.nn.utils.clip_grad_norm_",
        "torch.nn.parallel.distributed.os.system",
        "dynamic_network_architectures.architectures.unet.nn",
        "dynamic_network_architectures.moved.nn",
        "missu_nnunet.cli.main.main",
        "missu_nnunet_of_a_stranger.Network",
        "",
        3,
        None,
        [UNET],
    ],
)
@pytest.mark.parametrize("place", ["network", "listed", "letters", "keys", "not listed", "deep"])
def test_what_is_not_a_network_is_refused_wherever_nnunet_would_import_it(network: Any, place: str) -> None:
    if network is None and place != "network":
        network = "canary"  # None is what nnU-Net leaves alone there
    plans: dict[str, Any] = {
        "network": {"network_class_name": network},
        "listed": {"arch_kwargs": {"part": network}, "_kw_requires_import": ["part"]},
        "letters": {"arch_kwargs": {"p": network}, "_kw_requires_import": "p"},
        "keys": {"arch_kwargs": {"part": network}, "_kw_requires_import": {"part": 1}},
        "not listed": {"arch_kwargs": {"conv_op": network}},  # nnUNetTrainerBN imports it all the same
        "deep": {"configurations": [{"a": ({"network_class_name": network},)}]},
    }[place]
    with pytest.raises(InputError, match=r"^it: refused, because it would run .*--trust"):
        check_names(plans, "it")


@pytest.mark.parametrize(
    ("key", "name"),
    [
        *((key, name) for key in ("label_manager", "preprocessor_name") for name in ("os", "canary", "", 3, {"a": 1})),
        ("label_manager", "recursive_find_python_class"),
        ("image_reader_writer", "determine_reader_writer_from_file_ending"),
        ("overwrite_image_reader_writer", "np"),
        ("overwrite_image_reader_writer", "BaseReaderWriter"),
        ("normalization_schemes", ["ImageNormalization"]),
        ("normalization_schemes", ["ZScoreNormalization", "np"]),
        ("normalization_schemes", {"0": "os"}),
        ("resampling_fn_data", "map_coordinates"),
        ("resampling_fn_seg", "recursive_find_python_class"),
        ("resampling_fn_probabilities", "torch"),
    ],
)
def test_a_name_that_nnunet_looks_up_fits_its_place(key: str, name: Any) -> None:
    with pytest.raises(InputError, match=f"^it: refused, because {key} is "):
        check_names({"configurations": {"2d": {key: name}}}, "it")


@pytest.fixture(autouse=True)
def nobody_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("missu_nnunet.nnunet.names._trusted", [])


@pytest.fixture
def own_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a network, importing which leaves a file; the folder of it."""
    (tmp_path / "own_networks.py").write_text(
        "from pathlib import Path\nfrom torch import nn\nPath(__file__).with_suffix('.ran').touch()\n"
        "class Network(nn.Module): ...\nclass Other: ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_users_own_network_is_imported_only_when_trusted(own_network: Path) -> None:
    plans = {"network_class_name": "own_networks.Network"}
    trust(["own"])
    with pytest.raises(InputError, match=r"if it is your own network, add --trust own_networks$"):
        check_names(plans, "it")
    assert not (own_network / "own_networks.ran").exists()
    trust(["own_networks"])
    check_names(plans, "it")
    assert (own_network / "own_networks.ran").exists()
    with pytest.raises(InputError, match="refused"):
        check_names({"network_class_name": "own_networks.Other"}, "it")


def test_a_trusted_preprocessor_may_be_missing() -> None:
    plans = {"preprocessor_name": "OwnPreprocessor"}
    with pytest.raises(InputError, match="--trust OwnPreprocessor"):
        check_names(plans, "it")
    trust(["OwnPreprocessor"])
    check_names(plans, "it")
