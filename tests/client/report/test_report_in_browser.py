"""report.html in a real browser: pictures, sorting, filters and links work, and the console stays empty."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium
from client_support import Start
from support import BrightnessModel, DarkerModel, make_metadata, write_picture


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def page(browser: Any, start: Start) -> Iterator[Any]:
    """The report of nine images, five of them misses; any message on the browser's console fails the test."""
    client = start(BrightnessModel(make_metadata()))
    brightnesses = {"black": (1, 2, 250, 251, 252), "grey": (3, 128), "white": (4, 255)}
    for label, values in brightnesses.items():
        for value in values:
            write_picture(client.images / label / f"<b>{value}.png", value)
    client.run()
    browser.get(client.output.joinpath("report.html").as_uri())
    yield browser
    assert browser.get_log("browser") == []


def texts(page: Any, selector: str) -> list[str]:
    """Texts of the visible elements."""
    elements = page.find_elements("css selector", selector)
    return [element.text for element in elements if element.is_displayed()]


def click(page: Any, selector: str) -> None:
    page.find_element("css selector", selector).click()


def test_the_misses_are_shown_with_their_pictures_on_narrow_and_wide_screens(page: Any) -> None:
    assert "5 of 9 predictions are wrong" in texts(page, "h1")[0]
    assert len(texts(page, ".group")) == 3
    assert texts(page, ".group .path")[0] == "black/<b>250.png"
    all_pictures_loaded = "return [...document.images].every(image => image.complete && image.naturalWidth > 0)"
    assert page.execute_script(all_pictures_loaded)
    horizontal_overflow = "return document.documentElement.scrollWidth - innerWidth"
    for width in (360, 1280):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        assert page.execute_script(horizontal_overflow) <= 0
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_class_table_can_be_sorted_by_each_column(page: Any) -> None:
    assert texts(page, "#classes tbody th") == ["black", "grey", "white"]
    click(page, "#classes thead th:nth-child(3) button")
    assert texts(page, "#classes tbody td:nth-child(3)") == ["3", "1", "1"]
    click(page, "#classes thead th:nth-child(4) button")
    click(page, "#classes thead th:nth-child(4) button")
    assert texts(page, "#classes tbody td:nth-child(4)") == ["40.0%", "50.0%", "50.0%"]
    assert page.find_element("css selector", "[aria-sort=ascending]").text == "Recall"


def test_filters_hide_other_misses_and_a_link_to_a_hidden_miss_clears_them(page: Any) -> None:
    page.find_element("id", "find").send_keys("251")
    assert texts(page, ".group .path") == ["black/<b>251.png"]
    assert texts(page, "#found") == ["1 of 5"]
    click(page, "#filters button[type=reset]")
    page.find_element("css selector", "#pick-class option[value='1']").click()
    assert texts(page, ".group .name") == ["grey", "black"]
    page.find_element("id", "find").send_keys("nowhere")
    assert texts(page, "#nothing") == ["No miss matches these filters."]
    # The matrix cell for black images predicted as white links to these misses, although the filter hides them.
    click(page, ".matrix a[href='#pair-0-2']")
    assert len(texts(page, ".group")) == 3
    assert page.switch_to.active_element.get_attribute("id") == "pair-0-2"
    assert page.current_url.endswith("#pair-0-2")


def test_the_report_can_be_read_without_javascript(page: Any, tmp_path: Path) -> None:
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    page.refresh()
    assert len(texts(page, ".group")) == 3
    assert texts(page, "#filters") == []
    assert texts(page, "#classes thead th")[0] == "Class"
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_one_click_shows_the_misses_that_are_new_with_the_new_model(browser: Any, start: Start) -> None:
    first = start(BrightnessModel(make_metadata()))
    for name, brightness in {"black/1.png": 250, "grey/1.png": 128, "white/1.png": 250}.items():
        write_picture(first.images / name, brightness)
    first.run()
    second = start(DarkerModel(make_metadata(model_version=2)))
    second.run()
    browser.get(second.output.joinpath("report.html").as_uri())
    assert len(texts(browser, ".group")) == 3
    click(browser, "a[data-show-issue='new']")
    assert texts(browser, ".group .path") == ["grey/1.png", "white/1.png"]
    assert browser.get_log("browser") == []
