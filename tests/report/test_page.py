"""The page in a real browser."""

import json
import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from result_folders import CASES, write_dataset_json, write_image, write_model, write_raw

REGIONS = {"background": 0, "whole": [1, 2], "tail": [2]}


class Watched:
    """A page in the browser, with a record of its errors and requests."""

    def __init__(self, browser: Any, file: Path, **context: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1366, "height": 850}, **context)
        self.context.set_default_timeout(180_000)  # a busy machine draws slowly
        self.page = self.context.new_page()
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("console", self._console)
        self.page.on("request", self._request)
        self.file = file
        self.page.goto(file.as_uri())
        self.until("document.querySelector('#viewer-overlay').options.length > 0")
        self.until("document.querySelector('.plane canvas').height > 10")

    def _console(self, message: Any) -> None:
        # Plotly's own about how it reads text back from a canvas
        if "willReadFrequently" not in message.text:
            self.faults.append(f"{message.type}: {message.text}")

    def _request(self, request: Any) -> None:
        if request.url != self.file.as_uri() and not request.url.startswith(("data:", "blob:")):
            self.faults.append(f"request: {request.url[:100]}")

    def until(self, condition: str) -> None:
        """Wait; Playwright's own waiting evaluates strings, which the page's policy forbids."""
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"never: {condition}")

    def slices(self) -> list[str]:
        return self.page.eval_on_selector_all(
            ".plane[data-axis]:not([hidden]) canvas", "all => all.map(canvas => canvas.toDataURL())"
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results")
    write_raw(root)
    return root


@pytest.fixture(scope="module")
def images(folder: Path) -> Path:
    (found,) = folder.glob("nnUNet_raw/*/imagesTr")
    return found


@pytest.fixture(scope="module")
def models(folder: Path) -> list[Path]:
    return [write_model(folder, "MISSUTrainer", 1), write_model(folder, "nnUNetTrainer", 3)]


@pytest.fixture(scope="module")
def file(report: Any, models: list[Path], images: Path) -> Path:
    return report(models, [images], ["dice", "hd95"])


@pytest.fixture(scope="module")
def watched(browser: Any, file: Path) -> Iterator[Watched]:
    shown = Watched(browser, file)
    yield shown
    shown.context.close()


def test_nothing_fails_and_nothing_leaves_the_page(watched: Watched) -> None:
    watched.page.evaluate("scrollTo(0, document.body.scrollHeight)")
    watched.page.wait_for_timeout(300)
    assert watched.faults == []


def test_every_chart_is_drawn(watched: Watched) -> None:
    marks = watched.page.eval_on_selector_all(
        ".plot", "all => all.map(plot => plot.querySelectorAll('.trace path, .boxlayer path').length)"
    )
    # differences and distributions of two metrics, two paired charts, four of the training
    assert len(marks) == 2 + 2 + 2 + 4
    assert all(marks)


def test_sliders_keys_and_clicks_move_through_the_slices(watched: Watched) -> None:
    page, before = watched.page, watched.slices()
    assert len(set(before)) == 3
    slider = page.locator(".plane[data-axis='0'] input")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    moved = watched.slices()
    assert moved[0] != before[0]
    page.keyboard.press("ArrowRight")
    assert watched.slices() == before
    page.locator(".plane[data-axis='0'] canvas").click(position={"x": 15, "y": 15})
    clicked = watched.slices()
    assert clicked[1] != before[1]
    assert clicked[2] != before[2]
    assert page.locator(".plane[data-axis='2'] output").inner_text() != "21 of 40"


def test_the_wheel_turns_the_slices_over_and_the_last_one_lets_the_page_scroll(watched: Watched) -> None:
    page, output = watched.page, watched.page.locator(".plane[data-axis='1'] output")
    page.locator(".plane[data-axis='1'] canvas").hover()
    before, scrolled = output.inner_text(), page.evaluate("scrollY")
    page.mouse.wheel(0, 120)
    watched.until(f"document.querySelector(\".plane[data-axis='1'] output\").innerText !== {json.dumps(before)}")
    assert page.evaluate("scrollY") == scrolled
    page.mouse.wheel(0, -120)
    watched.until(f"document.querySelector(\".plane[data-axis='1'] output\").innerText === {json.dumps(before)}")


def test_level_and_window_are_those_of_the_image(watched: Watched) -> None:
    page, before = watched.page, watched.slices()
    low, high = map(int, page.locator("#viewer-window").inner_text().split(" to "))
    page.fill("#viewer-width", "50")
    narrow = [int(end) for end in page.locator("#viewer-window").inner_text().split(" to ")]
    assert narrow == [pytest.approx(low + (high - low) / 4, abs=1), pytest.approx(high - (high - low) / 4, abs=1)]
    assert watched.slices() != before
    canvas = page.locator(".plane[data-axis='0'] canvas")
    canvas.hover()  # which scrolls it into sight
    corner = canvas.bounding_box()
    page.mouse.move(corner["x"] + 30, corner["y"] + 30)
    page.mouse.down(button="right")
    page.mouse.move(corner["x"] + 60, corner["y"] + 60, steps=5)
    page.mouse.up(button="right")
    dragged = " to ".join(map(str, narrow))
    watched.until(f"document.getElementById('viewer-window').innerText !== {json.dumps(dragged)}")
    page.locator("#viewer-window-reset").click()
    assert watched.slices() == before


def test_overlays_and_opacity(watched: Watched) -> None:
    page = watched.page
    values = page.eval_on_selector_all("#viewer-overlay option", "all => all.map(option => option.value)")
    assert values == ["none", "labels:0", "labels:1", "labels:2", "difference:1", "difference:2"]
    pictures = set()
    for value in values:
        page.select_option("#viewer-overlay", value)
        pictures.add(tuple(watched.slices()))
    assert len(pictures) > 4
    page.fill("#viewer-opacity", "0")
    transparent = watched.slices()
    page.select_option("#viewer-overlay", "none")
    assert watched.slices() == transparent
    page.fill("#viewer-opacity", "45")
    page.select_option("#viewer-overlay", "labels:1")


def test_surfaces_are_drawn_and_turn(watched: Watched) -> None:
    page, surface = watched.page, watched.page.locator("#viewer-surface")
    surface.scroll_into_view_if_needed()
    page.wait_for_selector("#viewer-surface canvas")
    page.wait_for_timeout(1000)
    if page.locator("#viewer-surface :text('WebGL')").count():
        pytest.skip("this browser has no WebGL")
    before = surface.screenshot()
    assert len(before) > 5000  # an empty one is all of one colour
    page.fill("#viewer-turn", "90")
    page.wait_for_timeout(1000)
    assert surface.screenshot() != before


def test_another_case(watched: Watched) -> None:
    page, before = watched.page, watched.slices()
    page.select_option("#viewer-case", "2")
    page.wait_for_timeout(500)
    assert watched.slices() != before
    assert watched.faults == []


def test_links_pictures_headings_and_landmarks(watched: Watched) -> None:
    page = watched.page
    targets = page.eval_on_selector_all("a", "all => all.map(link => link.getAttribute('href'))")
    assert len(targets) == 8
    for target in targets:
        assert page.locator(target).count() == 1, target
    page.locator("nav a[href='#plans']").click()
    watched.until("Math.abs(document.querySelector('#plans').getBoundingClientRect().top) < innerHeight")
    pictures = page.eval_on_selector_all("img", "all => all.map(image => [image.alt, image.naturalWidth])")
    assert len(pictures) % (3 * 6) == 0
    assert all(alternative and width > 20 for alternative, width in pictures)
    assert len({alternative for alternative, _ in pictures}) == len(pictures)
    levels = page.eval_on_selector_all("h1, h2, h3", "all => all.map(heading => Number(heading.tagName[1]))")
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert [page.locator(name).count() for name in ("main", "nav", "header", "footer")] == [1, 1, 1, 1]
    unnamed = page.eval_on_selector_all(
        "input, select, [role=img], [role=region]",
        "all => all.filter(e => !(e.ariaLabel || e.labels?.[0]?.textContent.trim())).map(e => e.outerHTML)",
    )
    assert unnamed == []


def test_dark_light_and_paper(browser: Any, file: Path) -> None:
    shown = Watched(browser, file, color_scheme="dark")
    page = shown.page
    fill = "getComputedStyle(document.querySelector('.plot text')).fill"
    colours = f"[getComputedStyle(document.body).backgroundColor, {fill}]"
    dark = page.evaluate(colours)
    assert contrast(*dark) > 7
    page.emulate_media(color_scheme="light")
    shown.until(f"{fill} !== {json.dumps(dark[1])}")
    light = page.evaluate(colours)
    assert contrast(*light) > 7
    assert luminance(dark[0]) < 0.05 < 0.8 < luminance(light[0])
    page.emulate_media(color_scheme="dark", media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    shown.until(f"{fill} === 'rgb(0, 0, 0)'")
    assert page.evaluate(colours)[0] == "rgb(255, 255, 255)"
    assert contrast(*page.evaluate(colours)) > 7
    assert not page.locator("nav").is_visible()
    assert not page.locator("#viewer-body").is_visible()
    assert max(page.eval_on_selector_all(".plot .main-svg", "all => all.map(svg => svg.clientWidth)")) <= 700
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.pdf().startswith(b"%PDF")
    assert shown.faults == []
    shown.context.close()


def test_a_telephone(browser: Any, file: Path) -> None:
    """Nothing is wider than the screen, what scrolls fades out, and no toolbar covers the charts."""
    shown = Watched(browser, file, has_touch=True, is_mobile=True)
    for width in (390, 800):
        shown.page.set_viewport_size({"width": width, "height": 800})
        shown.until(f"document.documentElement.scrollWidth <= {width}")
        if width == 390:
            shown.until("document.querySelectorAll('.scroll.more-right').length > 3")
    assert shown.page.locator(".modebar-btn").count() == 0
    assert shown.faults == []
    shown.context.close()


def test_colours_contrast(file: Path) -> None:
    """Text by WCAG's 4.5, marks by its 3, on the light and on the dark page."""
    from missu_nnunet.report.charts import ARM_COLOURS

    themes = re.findall(r":root[^{]*\{([^}]*)\}", file.read_text())
    for theme in themes[:2]:
        named = dict(re.findall(r"--([\w-]+): (#\w{6})", theme))
        for text, background in (
            ("text", "page"),
            ("text", "card"),
            ("minor", "page"),
            ("minor", "card"),
            ("accent", "card"),
            ("good", "good-page"),
            ("open", "open-page"),
            ("text", "note-page"),
        ):
            assert contrast(named[text], named[background]) >= 4.5, (text, background)
        for colour in ARM_COLOURS:
            assert contrast(colour, named["card"]) >= 3, colour


def test_one_arm_alone_whose_images_are_gone(browser: Any, report: Any, models: list[Path]) -> None:
    shown = Watched(browser, report(models[:1]))
    text = shown.page.inner_text("body")
    assert "One arm: nothing to compare it with" in text
    assert "No image of this case was found" in text
    assert shown.page.locator("#paired").count() == 0
    assert len(set(shown.slices())) == 3
    assert "fold 1 has no checkpoint: its curves are those of its training log." in text
    assert shown.faults == []
    shown.context.close()


def test_regions_with_an_ignore_label_and_predictions_without_training(
    browser: Any, report: Any, tmp_path: Path
) -> None:
    write_raw(tmp_path)
    model = write_model(tmp_path, "MISSUTrainer", 2, REGIONS | {"ignore": 3})
    predictions = tmp_path / "predictions"
    for file in model.glob("fold_*/validation/*"):
        predictions.mkdir(exist_ok=True)
        file.rename(predictions / file.name)
    (model / "dataset.json").rename(predictions / "dataset.json")
    shown = Watched(browser, report([predictions], list(tmp_path.glob("nnUNet_raw/*/imagesTr"))))
    text = shown.page.inner_text("body")
    assert "No training beside these results" in text
    assert "ignored" in text
    assert "whole" in text
    assert shown.faults == []
    shown.context.close()


def test_2d_images(browser: Any, report: Any, tmp_path: Path) -> None:
    write_raw(tmp_path, (12, 40), ".png")
    model = write_model(tmp_path, "MISSUTrainer", 2, shape=(12, 40), ending=".png")
    shown = Watched(browser, report([model], list(tmp_path.glob("nnUNet_raw/*/imagesTr"))))
    assert len(shown.slices()) == 1
    assert not shown.page.locator("#viewer-surface-figure").is_visible()
    assert shown.faults == []
    shown.context.close()


def test_names_from_strangers_are_text(report: Any, models: list[Path], images: Path, tmp_path: Path) -> None:
    """Whatever folders and classes are called, nothing of it becomes an element or ends a script."""
    arm = tmp_path / "<img src=x onerror=alert(1)>"
    arm.mkdir()
    for source in models[0].glob("fold_*/validation/*"):
        (arm / source.name).write_bytes(source.read_bytes())
    write_dataset_json(arm, {"background": 0, "</script><img src=x>": 1, "<b>": 2})
    content = report([arm], [images]).read_text()

    class Elements(HTMLParser):
        images = 0
        scripts = 0

        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            self.images += tag == "img" and dict(attributes).get("src") == "x"
            self.scripts += tag == "script"

    elements = Elements()
    elements.feed(content)
    assert (elements.images, elements.scripts) == (0, 4)


def test_an_image_on_another_grid_is_named(report: Any, models: list[Path], tmp_path: Path) -> None:
    from missu_nnunet.errors import InputError

    for case in CASES:
        write_image(np.zeros((3, 4, 5), np.uint8), tmp_path / f"{case}_0000.nii.gz")
    with pytest.raises(InputError, match=r"_0000\.nii\.gz: shape .* of image and reference differ.*--images"):
        report(models, [tmp_path])


def test_the_viewers_data_are_the_files_voxels(file: Path) -> None:
    import base64
    import gzip

    content = re.search(r'id="viewer-data">(.*?)</script>', file.read_text())
    assert content
    case = json.loads(content[1])["cases"][0]
    data = gzip.decompress(base64.b64decode(case["segmentations"][0]["data"]))
    volume = np.frombuffer(data, "<u2").reshape(case["shape"])
    assert case["spacing"] == [1, 1, 1]
    assert [int((volume == label).sum()) for label in (1, 2)] == [4 * 6 * 10, 4 * 6 * 20]


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)] if colour[0] == "#" else re.findall(r"\d+", colour)[:3]
    linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in (int(part) / 255 for part in parts)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    """WCAG's contrast ratio of two colours."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)
