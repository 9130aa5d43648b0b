"""Tables and charts as files: the page's numbers, in formats that papers take."""

import csv
import os
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from result_folders import CASES, write_model, write_raw

from missu_nnunet.evaluation.protocols import NNUNET
from missu_nnunet.evaluation.results import Results, gather_results
from missu_nnunet.report.charts import Chart, Key
from missu_nnunet.report.page import write_report
from missu_nnunet.report.paper import write_charts


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    root = tmp_path_factory.mktemp("results")
    write_raw(root)
    arms = [write_model(root, "MISSUTrainer", 1), write_model(root, "nnUNetTrainer", 3)]
    return gather_results(arms, NNUNET, metrics=["dice", "hd95"])


@pytest.fixture(scope="module")
def paper(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paper")
    write(results, folder)
    return folder / "paper"


def write(results: Results, folder: Path) -> None:
    command = os.fsdecode(b"missu report -o r\xff.html")
    options: dict[str, Any] = {"level": 0.05, "images": [], "cases": [], "command": command}
    write_report(results, folder / "report.html", paper=folder / "paper", **options)


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as content:
        return list(csv.DictReader(content))


def test_tables_hold_every_score(results: Results, paper: Path) -> None:
    scores = rows(paper / "scores.csv")
    assert len(scores) == 2 * len(CASES) * 2 * 2  # arms, cases, classes, metrics
    one = scores[0]
    assert float(one["value"]) == results.mean_cases(one["arm"])[one["case"]][one["class"]][one["metric"]]
    summary = {(row["metric"], row["arm"], row["class"]): row for row in rows(paper / "summary.csv")}
    mean = results.summary()["dice"]["MISSUTrainer"]["mean of classes"]["mean"]
    assert float(summary["dice", "MISSUTrainer", "mean of classes"]["mean"]) == mean
    assert {row["shown"] for row in rows(paper / "comparisons.csv")} == {"True", "False"}
    assert [row["rank"] for row in rows(paper / "ranking.csv") if row["metric"] == "dice"] == ["1", "2"]


def test_latex_is_plain(paper: Path) -> None:
    """Only what every LaTeX with booktabs sets, whatever arms are called."""
    for name in ("summary.tex", "comparisons.tex"):
        text = (paper / name).read_text()
        assert text.isascii()
        assert r"\toprule" in text
        columns = text.split(r"\begin{tabular}{")[1].split("}")[0]
        lines = [line for line in text.splitlines() if line.endswith(r"\\")]
        assert {line.replace(r"\&", "").count("&") for line in lines} == {len(columns) - 1}
    assert r"95 \% interval" in text
    assert r"MISSUTrainer $-$ nnUNetTrainer" in text


def test_every_chart_is_drawn_as_pdf_and_svg(paper: Path) -> None:
    charts = {file.stem for file in paper.glob("*.svg")}
    assert charts == {file.stem for file in paper.glob("*.pdf")}
    assert len(charts) == 2 + 2 + 2 + 4  # as on the page
    assert all(file.read_bytes().startswith(b"%PDF") for file in paper.glob("*.pdf"))
    boxes = (paper / "dice.svg").read_text()
    assert all(f">{text}<" in boxes for text in ("dice", "head", "tail", "MISSUTrainer", "nnUNetTrainer"))


def test_charts_of_long_and_similar_titles_have_names_of_their_own(tmp_path: Path) -> None:
    titles = ["dice: a/p", "dice: a.p", "Dice: A_p", "é" * 150, "é" * 151]
    charts = [Chart(title, "", go.Figure(layout={"height": 100}), ()) for title in titles]
    names = [file.stem for file in write_charts(charts, tmp_path) if file.suffix == ".pdf"]
    assert names == ["dice_a_p", "dice_a_p_2", "dice_a_p_3", "é" * 50, "é" * 50 + "_2"]
    assert len(list(tmp_path.iterdir())) == 2 * len(titles)


def test_names_with_dollars_are_no_formulas(tmp_path: Path) -> None:
    key = Key("$arm$^", "#3B7DD8", "solid")
    figure = go.Figure(go.Box(x=["$core", "a$_{"], y=[0.1, 0.2], line={"color": key.colour}))
    figure.update_layout(height=300, xaxis_title="$x$_", yaxis_title="$y$^")
    (_, svg) = write_charts([Chart("$of$^", "", figure, [key])], tmp_path)
    text = svg.read_text()
    assert all(f">{name}<" in text for name in ("$of$^", "$arm$^", "$core", "a$_{", "$x$_", "$y$^"))


def test_the_same_results_write_the_same_files(results: Results, paper: Path, tmp_path: Path) -> None:
    write(results, tmp_path)
    for file in paper.iterdir():
        assert (tmp_path / "paper" / file.name).read_bytes() == file.read_bytes(), file.name
