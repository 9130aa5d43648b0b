"""Facts that no other test covers."""

import json
from pathlib import Path

import pytest
from result_folders import write_model

from missu_nnunet.architecture.configuration import transformer_kwargs
from missu_nnunet.report.facts import arm_facts
from missu_nnunet.report.training_curves import TrainingRun


@pytest.mark.parametrize(("transformer", "fact"), [(True, None), (False, "none, the trainer leaves out the plan's")])
def test_an_arm_without_a_transformer_says_so(transformer: bool, fact: str | None, tmp_path: Path) -> None:
    checkpoint = {"parameters": 1000, "missu": {"version": "0.1.0", "hyperparameters": {"transformer": transformer}}}
    run = TrainingRun("0", None, {}, [], checkpoint, [])
    assert arm_facts(tmp_path, [run]).get("Transformer") == fact


def test_a_plan_without_architecture_has_other_facts(tmp_path: Path) -> None:
    model = write_model(tmp_path, "MISSUTrainer", short_by=1)
    plans = json.loads((model / "plans.json").read_text())
    plans["configurations"]["3d_fullres"]["architecture"] = None
    (model / "plans.json").write_text(json.dumps(plans))
    facts = arm_facts(model, [])
    assert "patch" in facts
    assert "network" not in facts


def test_where_the_plan_has_its_transformer(tmp_path: Path) -> None:
    model = write_model(tmp_path, "MISSUTrainer", short_by=1)
    plans = json.loads((model / "plans.json").read_text())
    kwargs = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    kwargs |= {"transformer": transformer_kwargs(64), "stages_below_transformer": 1}
    (model / "plans.json").write_text(json.dumps(plans))
    facts = arm_facts(model, [])
    assert facts["Transformer"] == "embedding_dim 64, depth 4, num_heads 1, mlp_dim 128, dropout 0.0"
    assert facts["stages below the Transformer"] == "1"
