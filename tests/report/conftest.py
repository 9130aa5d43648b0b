"""A browser, and reports of every kind of result."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from missu_nnunet.evaluation.protocols import NNUNET
from missu_nnunet.evaluation.results import gather_results
from missu_nnunet.report.page import write_report

Report = Callable[..., Path]


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Writes a report of arms."""

    def write(arms: Sequence[Path], images: Sequence[Path] = (), metrics: Sequence[str] = ()) -> Path:
        output = tmp_path_factory.mktemp("page") / "report.html"
        results = gather_results(arms, NNUNET, metrics=metrics)
        write_report(results, output, level=0.05, images=images, cases=[], command="missu report <script>")
        return output

    return write


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """A headless Chromium: the system's, or Playwright's own."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright to drive a browser with")
    system = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    # Software rendering, where there is no GPU; root, as in a container, may not use the sandbox.
    options = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    options += ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(executable_path=system, args=options)
        except sync_api.Error as error:
            pytest.skip(f"no headless Chromium: {str(error).splitlines()[0]}")
        yield chromium
        chromium.close()
