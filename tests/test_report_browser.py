"""A report in a real browser, Debian's Chromium, opened from the disk as people do."""

import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labelsync.evaluation.report import report
from tests.reported import CLASSES, Reported

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)

# A browser is no Python package, so tox alone cannot bring it. `.ci/run` installs it, and under CI=true these tests run
# and fail without one; only by hand, where there is none, are they skipped.
pytestmark = pytest.mark.skipif(
    not CHROMIUM and not os.environ.get("CI"), reason="no Chromium here: apt-get install chromium"
)

RULES = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
}


class Watched:
    """A report in a page of the browser: what it said, asked for and popped up."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url = page, url
        self.said: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("dialog", lambda dialog: (self.said.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(url)


Open = Callable[..., Watched]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with every section and hostile names."""
    world = Reported(tmp_path_factory.mktemp("browser"))
    return Path(report(world.evaluation, out=world.root / "report.html", **world.all()).path)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "CI has no Chromium: .ci/run installs it"
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--disable-gpu"])
        yield found
        found.close()


@pytest.fixture
def opened(browser: Any, file: Path) -> Iterator[Open]:
    """`opened(scheme="dark", width=390)`: the report in a window of its own. In the end nothing was said or fetched."""
    windows, pages = [], []

    def go(*, scheme: str = "light", width: int = 1280, script: bool = True) -> Watched:
        windows.append(
            browser.new_context(
                color_scheme=scheme, viewport={"width": width, "height": 900}, java_script_enabled=script
            )
        )
        pages.append(Watched(windows[-1].new_page(), file.as_uri()))
        return pages[-1]

    yield go
    for page in pages:
        assert page.said == []
        assert {r for r in page.requests if not r.startswith("data:")} == {page.url}
    for window in windows:
        window.close()


def test_it_opens_without_a_word_and_fetches_nothing(opened: Open) -> None:
    watched = opened()
    page = watched.page
    page.wait_for_load_state("networkidle")
    assert page.locator("h1").inner_text() == "acme/sidewalk, release v1.0"
    images = page.evaluate("[...document.images].map((image) => [image.complete, image.naturalWidth])")
    assert images
    assert all(complete and width > 0 for complete, width in images)
    assert CLASSES[0] in page.locator("#class-table").inner_text()  # as text, and no dialog came up


def test_a_script_that_got_in_would_not_run_and_an_image_not_be_fetched(opened: Open) -> None:
    watched = opened()
    refused = watched.page.evaluate(
        """async () => {
            const refused = [];
            document.addEventListener("securitypolicyviolation", (event) => refused.push(event.effectiveDirective));
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            const image = new Image();
            const failed = new Promise((resolve) => { image.onerror = resolve; });
            image.src = "http://127.0.0.1:9/x.png";
            document.body.append(script, image);
            await failed;
            await new Promise((resolve) => setTimeout(resolve, 200));
            return [...refused.sort(), window.ran];
        }"""
    )
    assert refused == ["img-src", "script-src-elem", None]
    assert len(watched.said) == 2
    assert all("Content Security Policy" in said for said in watched.said)
    watched.said.clear()
    watched.requests[:] = [r for r in watched.requests if r != "http://127.0.0.1:9/x.png"]  # seen, and not sent


# -------------------------------------------------------------------- tables


def column(page: Any, number: int) -> list[str]:
    return page.locator(f"#class-table tbody tr > :nth-child({number})").all_inner_texts()


def test_a_table_is_sorted_by_its_headings(opened: Open) -> None:
    page = opened().page
    heads = page.locator("#class-table thead th")
    assert heads.evaluate_all("(all) => all.map((th) => th.ariaSort)") == [None] * heads.count()
    names, iou = column(page, 1), [float(value) for value in column(page, 3)]
    assert len(set(iou)) > 1
    page.get_by_role("group", name="Scores per class").get_by_role("button", name="IoU", exact=True).click()
    assert [float(value) for value in column(page, 3)] == sorted(iou, reverse=True)  # the best first
    assert heads.nth(2).get_attribute("aria-sort") == "descending"
    page.keyboard.press("Enter")  # the button has the focus
    assert [float(value) for value in column(page, 3)] == sorted(iou)
    assert heads.nth(2).get_attribute("aria-sort") == "ascending"
    heads.nth(0).get_by_role("button").focus()
    page.keyboard.press("Space")
    assert heads.evaluate_all("(all) => all.filter((th) => th.ariaSort).length") == 1
    assert sorted(column(page, 1)) == sorted(names)
    assert column(page, 1) == page.evaluate("(names) => names.sort((a, b) => a.localeCompare(b))", names)


def test_every_control_is_reached_by_tab_and_shows_that_it_has_the_focus(opened: Open) -> None:
    page = opened().page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    reached = set()
    for _ in range(150):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            """() => [document.activeElement.tagName + (document.activeElement.type || ""),
                      getComputedStyle(document.activeElement).outlineStyle]"""
        )
        if name == "BODY":
            break
        reached.add(name)
        assert outline != "none", name
    assert {"BUTTONbutton", "INPUTrange", "INPUTradio", "SUMMARY"} <= reached


# -------------------------------------------------------------------- pictures


def shown(page: Any) -> np.ndarray:
    """The first viewer as it is on the screen."""
    data = page.locator("#case-1 .viewer .stack").screenshot()
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def test_the_slider_moves_the_line_by_keyboard(opened: Open) -> None:
    page = opened().page
    slider = page.locator("#case-1 input[type=range]")
    slider.focus()
    page.keyboard.press("Home")
    covered = shown(page)
    page.keyboard.press("End")
    bare = shown(page)
    middle = np.s_[:, 8:-8]  # beside the line itself
    assert np.abs(covered - bare)[middle].mean() > 5
    for _ in range(50):
        page.keyboard.press("ArrowLeft")
    assert slider.input_value() == "50"
    half, width = shown(page), bare.shape[1]
    assert np.abs(half - bare)[:, : width // 2 - 8].mean() < 1  # left of the line the image
    assert np.abs(half - covered)[:, width // 2 + 8 :].mean() < 1  # right of it the layer
    assert slider.get_attribute("aria-valuetext") == "image left of 50 %, prediction right of it"


def test_the_slider_follows_the_pointer_on_the_picture(opened: Open) -> None:
    page = opened().page
    stack = page.locator("#case-1 .viewer .stack")
    stack.scroll_into_view_if_needed()
    box = stack.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 20)
    page.mouse.up()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 20)  # not any more
    assert page.locator("#case-1 input[type=range]").input_value() == "20"


def test_the_layer_is_chosen_by_keyboard(opened: Open) -> None:
    page = opened().page
    page.locator("#case-1 input[type=range]").fill("0")
    pictures = [shown(page)]
    page.locator("#case-1 input[type=radio]").first.focus()
    for _ in range(2):
        page.keyboard.press("ArrowDown")
        pictures.append(shown(page))
    assert page.locator("#case-1 input[type=radio]:checked").input_value() == "label"
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(pictures[i] - pictures[j]).mean() > 2, (i, j)


def test_a_slider_chooses_the_evaluation_of_the_training(opened: Open) -> None:
    page = opened().page
    film = page.locator("[data-film]").first
    assert film.locator(".shot:visible").count() == 1
    assert film.locator("output").inner_text().startswith("step 4")
    film.locator("input[type=range]").focus()
    page.keyboard.press("Home")
    assert film.locator("output").inner_text().startswith("step 2")
    assert "after step 2" in film.locator(".shot:visible img").get_attribute("alt")
    assert film.locator(".shot:visible img").bounding_box()["width"] > 100


def test_without_scripts_everything_is_there_but_the_controls(opened: Open) -> None:
    page = opened(script=False).page
    assert page.locator(".needs-js:visible").count() == 0
    assert page.locator("th button").count() == 0
    shots = page.locator(".shot img")
    assert shots.count() == page.locator(".shot img:visible").count() == 4
    assert page.locator("#case-1 .tiles svg[role=img]:visible").count() == 4


# -------------------------------------------------------------------- for everyone


def test_nothing_is_cut_off_on_paper(opened: Open) -> None:
    """A4 between the margins that browsers give it. There is no scrolling on it."""
    page = opened(width=718).page
    page.emulate_media(media="print")
    wide = page.evaluate(
        "[...document.querySelectorAll('main *')].filter(e => e.checkVisibility()"
        " && !e.closest('svg, .sr') && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML)"
    )
    assert wide == []
    assert page.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_accessibility_checks_find_nothing(opened: Open, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = opened(scheme=scheme).page
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    found = Axe().run(page, options=RULES)
    assert found.violations_count == 0, found.generate_report()
    assert len(found.response["passes"]) > 20


def test_light_and_dark_are_what_they_say_and_a_phone_needs_no_sideways_scrolling(opened: Open, tmp_path: Path) -> None:
    means = {}
    for scheme, width in (("light", 1280), ("dark", 1280), ("light", 360)):
        page = opened(scheme=scheme, width=width).page
        picture = tmp_path / f"{scheme}-{width}.png"
        page.screenshot(path=picture, full_page=True)
        means[scheme, width] = np.asarray(Image.open(picture).convert("L")).mean()
        assert page.evaluate("document.documentElement.scrollWidth") == width
        chart = page.evaluate("document.querySelector('#classes picture img').currentSrc")
        sources = page.evaluate("document.querySelector('#classes picture source').srcset")
        assert (chart == sources) == (scheme == "dark")
    assert means["light", 1280] > 200
    assert means["dark", 1280] < 90
