"""report.html as its reader uses it: it opens, sorts, filters and jumps, without a word on the console."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium
from client_support import Start
from support import BrightnessModel, Darker, make_metadata, write_picture


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def page(browser: Any, start: Start) -> Iterator[Any]:
    """The report of nine pictures, five of them misses; whatever it says on the console is an error."""
    made = start(BrightnessModel(make_metadata()))
    wanted = {"black": (1, 2, 250, 251, 252), "grey": (3, 128), "white": (4, 255)}
    for label, values in wanted.items():
        for value in values:
            write_picture(made.images / label / f"<b>{value}.png", value)
    made.run()
    browser.get(made.output.joinpath("report.html").as_uri())
    yield browser
    assert browser.get_log("browser") == []


def texts(page: Any, selector: str) -> list[str]:
    """Texts of the elements that can be seen."""
    found = page.find_elements("css selector", selector)
    return [element.text for element in found if element.is_displayed()]


def click(page: Any, selector: str) -> None:
    page.find_element("css selector", selector).click()


def test_it_shows_the_misses_with_their_pictures(page: Any) -> None:
    assert "5 of 9 predictions are wrong" in texts(page, "h1")[0]
    assert len(texts(page, ".group")) == 3
    assert texts(page, ".group .path")[0] == "black/<b>250.png"
    loaded = "return [...document.images].every(image => image.complete && image.naturalWidth > 0)"
    assert page.execute_script(loaded)
    sideways = "return document.documentElement.scrollWidth - innerWidth"
    for width in (360, 1280):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        assert page.execute_script(sideways) <= 0
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_classes_are_sorted_by_any_column(page: Any) -> None:
    assert texts(page, "#classes tbody th") == ["black", "grey", "white"]
    click(page, "#classes thead th:nth-child(3) button")
    assert texts(page, "#classes tbody td:nth-child(3)") == ["3", "1", "1"]
    click(page, "#classes thead th:nth-child(4) button")
    click(page, "#classes thead th:nth-child(4) button")
    assert texts(page, "#classes tbody td:nth-child(4)") == ["40.0%", "50.0%", "50.0%"]
    assert page.find_element("css selector", "[aria-sort=ascending]").text == "Recall"


def test_a_filter_leaves_what_matches_and_a_jump_lifts_it(page: Any) -> None:
    page.find_element("id", "find").send_keys("251")
    assert texts(page, ".group .path") == ["black/<b>251.png"]
    assert texts(page, "#found") == ["1 of 5"]
    click(page, "#filters button[type=reset]")
    page.find_element("css selector", "#pick-class option[value='1']").click()
    assert texts(page, ".group .name") == ["grey", "black"]
    page.find_element("id", "find").send_keys("nowhere")
    assert texts(page, "#nothing") == ["No miss matches these filters."]
    # The cell of black that were taken for white leads to them, although the filter hides them.
    click(page, ".matrix a[href='#pair-0-2']")
    assert len(texts(page, ".group")) == 3
    assert page.switch_to.active_element.get_attribute("id") == "pair-0-2"
    assert page.current_url.endswith("#pair-0-2")


def test_it_can_be_read_without_its_script(page: Any, tmp_path: Path) -> None:
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    page.refresh()
    assert len(texts(page, ".group")) == 3
    assert texts(page, "#filters") == []
    assert texts(page, "#classes thead th")[0] == "Class"
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_what_another_model_broke_is_a_click_away(browser: Any, start: Start) -> None:
    first = start(BrightnessModel(make_metadata()))
    for name, brightness in {"black/1.png": 250, "grey/1.png": 128, "white/1.png": 250}.items():
        write_picture(first.images / name, brightness)
    first.run()
    second = start(Darker(make_metadata(model_version=2)))
    second.run()
    browser.get(second.output.joinpath("report.html").as_uri())
    assert len(texts(browser, ".group")) == 3
    click(browser, "a[data-show-issue='new']")
    assert texts(browser, ".group .path") == ["grey/1.png", "white/1.png"]
    assert browser.get_log("browser") == []
