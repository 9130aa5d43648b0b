"""The pages that the documentation generates from the code."""

from dataclasses import fields

import pytest

from missu_nnunet.hyperparameters import Hyperparameters

generated = pytest.importorskip("generated", reason="needs the extra 'docs'", exc_type=ImportError)


def test_every_command_has_a_section() -> None:
    page = generated.commands().splitlines()
    for command in ("demo", "predict", "dataset chaos", "crossval run", "crossval status", "weights adapt"):
        assert any(line.lstrip("#") == f" `missu {command}`" for line in page), command
    assert not [line for line in page if line.endswith("...") and line.startswith("* `")], "a sentence is cut short"


def test_every_hyperparameter_has_its_type_default_and_meaning() -> None:
    rows = [
        line.strip("| ").split(" | ") for line in generated.hyperparameters().splitlines() if line.startswith("| `")
    ]
    assert [row[0].strip("`") for row in rows] == [field.name for field in fields(Hyperparameters)]
    assert all(len(row) == 4 and all(row) for row in rows)
    defaults = {row[0].strip("`"): row[2].strip("`") for row in rows}
    assert float(defaults["initial_lr"]) == Hyperparameters.initial_lr


def test_readme_becomes_a_page_whose_links_lead_to_pages_and_files_of_the_repository() -> None:
    text = "[a](docs/a.md#b) ![c](docs/c.svg) [d](CHANGELOG.md) [e](examples/e.py) [f](https://f.org) [g](#g)"
    page = "[a](a.md#b) ![c](c.svg) [d](changelog.md) [e](../examples/e.py) [f](https://f.org) [g](#g)"
    assert generated._as_page(text) == page
