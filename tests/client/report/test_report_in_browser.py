"""report.html in a real browser: pictures, sorting, filters and links work, and the console stays empty."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium
from client_support import Start
from report_support import make_item, make_results
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait
from support import BrightnessModel, DarkerModel, make_metadata, write_picture

from classify_client.mistakes.issues import Evidence, find_issues
from classify_client.mistakes.review import Review
from classify_client.report.write import Pictures, write_report


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def page(browser: Any, start: Start) -> Iterator[Any]:
    """The report of 13 images, five of them misses; any message on the browser's console fails the test."""
    client = start(BrightnessModel(make_metadata()))
    brightnesses = {"black": (1, 2, 250, 251, 252), "grey": (3, 126, 127, 128), "white": (4, 253, 254, 255)}
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
    assert "5 of 13 predictions are wrong" in texts(page, "h1")[0]
    assert texts(page, ".flat .path")[0] == "black/<b>250.png"
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
    assert texts(page, "#classes tbody td:nth-child(4)") == ["40.0%", "75.0%", "75.0%"]
    assert page.find_element("css selector", "[aria-sort=ascending]").text == "Recall"


def choose(page: Any, select: str, option: str) -> None:
    page.find_element("css selector", f"#{select} option[value='{option}']").click()


def test_filters_hide_other_misses_and_say_how_many_are_shown(page: Any) -> None:
    found = page.find_element("id", "found")
    assert found.get_attribute("aria-live") == "polite"
    assert found.text == "5 shown"
    page.find_element("id", "find").send_keys("251")
    assert texts(page, ".flat .path") == ["black/<b>251.png"]
    assert found.text == "1 of 5 shown"
    click(page, "#show-all")
    choose(page, "pick-class", "1")
    assert texts(page, ".flat .pair") == ["grey → black"]
    assert found.text == "1 of 5 shown"
    click(page, "#show-all")
    choose(page, "pick-issue", "wrong-label")
    assert found.text == f"{len(texts(page, '.flat .path'))} of 5 shown"
    page.find_element("id", "find").send_keys("nowhere")
    assert texts(page, "#nothing") == ["No miss matches these filters."]
    assert found.text == "0 of 5 shown"


def test_a_cell_of_the_confusion_matrix_shows_only_its_misses(page: Any) -> None:
    page.find_element("id", "find").send_keys("nowhere")
    # It links to misses that the filter hides.
    click(page, ".matrix a[href='#pair-0-2']")
    assert texts(page, ".flat .pair") == ["black → white"] * 3
    assert texts(page, "#found") == ["3 of 5 shown"]
    assert page.switch_to.active_element.get_attribute("id") == "misses"
    assert texts(page, "#cell") == ["black → white ×"]
    click(page, "#cell")
    assert texts(page, "#found") == ["5 shown"]
    # The address of a group, as a page without JavaScript uses it.
    page.get(page.current_url.partition("#")[0] + "#pair-2-0")
    assert texts(page, ".flat .pair") == ["white → black"]


@pytest.mark.parametrize(
    ("sort", "first", "last"),
    [
        ("suspicious", "black/1.png", "grey/10.png"),
        ("confident", "black/1.png", "grey/2.png"),
        ("unsure", "grey/2.png", "black/1.png"),
        ("file", "black/1.png", "white/1.png"),
        ("true", "black/1.png", "white/1.png"),
        ("predicted", "white/1.png", "grey/2.png"),
        ("pairs", "grey/10.png", "white/1.png"),
    ],
)
def test_misses_are_sorted_as_chosen_with_the_keyboard(
    browser: Any, tmp_path: Path, sort: str, first: str, last: str
) -> None:
    items = [
        make_item("grey/2.png", "grey", "white", 0.40, 0.35),
        make_item("grey/10.png", "grey", "white", 0.50, 0.49),
        make_item("black/1.png", "black", "white", 0.95, 0.01),
        make_item("black/2.png", "black", "white", 0.60, 0.30),
        make_item("white/1.png", "white", "black", 0.80, 0.20),
        make_item("grey/1.png", "grey", "white", 0.45, 0.30),
    ]
    results = make_results(items, tmp_path, ("black", "grey", "white"))
    write_report(results, Review(find_issues(results, Evidence())))
    browser.get((tmp_path / "report.html").as_uri())
    select = browser.find_element("id", "pick-sort")
    assert select.get_attribute("value") == "suspicious"
    options = [option.get_attribute("value") for option in select.find_elements("tag name", "option")]
    select.send_keys(Keys.ARROW_DOWN * options.index(sort))
    shown = texts(browser, "#misses .path")
    assert (shown[0], shown[-1], len(shown)) == (first, last, 6)
    if sort == "file":
        assert shown[2:5] == ["grey/1.png", "grey/2.png", "grey/10.png"]


def test_filters_and_order_are_kept_in_the_address(page: Any) -> None:
    click(page, ".matrix a[href='#pair-0-2']")
    choose(page, "pick-sort", "file")
    page.find_element("id", "find").send_keys("25")
    paths = ["black/<b>250.png", "black/<b>251.png", "black/<b>252.png"]
    assert texts(page, ".flat .path") == paths
    address = page.current_url
    page.refresh()
    assert (page.current_url, texts(page, ".flat .path")) == (address, paths)
    assert page.find_element("id", "pick-sort").get_attribute("value") == "file"
    assert texts(page, "#found") == ["3 of 5 shown"]
    # A jump to another section does not lose them.
    click(page, "nav a[href='#classes']")
    WebDriverWait(page, 30).until(lambda page: "#classes&" in page.current_url)
    page.refresh()
    assert texts(page, ".flat .path") == paths
    click(page, "#show-all")
    choose(page, "pick-sort", "suspicious")
    assert page.current_url.endswith("#classes")


def test_the_same_picture_under_two_labels_is_shown_as_a_pair(browser: Any, start: Start) -> None:
    client = start(BrightnessModel(make_metadata()))
    for name, brightness in {"black/1": 250, "black/2": 254, "grey/3": 252, "black/4": 252, "white/5": 1}.items():
        write_picture(client.images / f"{name}.png", brightness)
    client.run()
    browser.get((client.output / "report.html").as_uri())
    assert texts(browser, ".same-picture > p") == ["The same picture under 2 labels"]
    assert sorted(texts(browser, ".same-picture .path")) == ["black/4.png", "grey/3.png"]
    left, right = (card.rect for card in browser.find_elements("css selector", ".same-picture .card"))
    assert left["y"] == right["y"]
    assert right["x"] >= left["x"] + left["width"]
    choose(browser, "pick-class", "0")
    assert texts(browser, ".same-picture > p") == []
    # Where they are in different groups, each names the other.
    click(browser, "#show-all")
    choose(browser, "pick-sort", "true")
    assert texts(browser, ".same") == ["the same picture: grey/3.png", "the same picture: black/4.png"]
    click(browser, ".same")
    assert "grey/3.png" in browser.switch_to.active_element.text
    assert browser.get_log("browser") == []


def test_thousands_of_misses_are_filtered_and_sorted_at_once(browser: Any, tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(20)]
    items = [
        make_item(f"{names[i % 20]}/{i}.png", names[i % 20], names[(i * 7 + 1) % 20], 0.5 + i / 10_000, 0.1)
        for i in range(4400)
        if i % 20 != (i * 7 + 1) % 20
    ]
    results = make_results(items, tmp_path, tuple(names))
    pixel = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    pictures = Pictures({item.row.path: pixel for item in items[:480]})
    write_report(results, Review(find_issues(results, Evidence())), pictures)
    browser.get((tmp_path / "report.html").as_uri())
    seconds = browser.execute_script("""
        const select = document.getElementById("pick-sort"), find = document.getElementById("find");
        const start = performance.now();
        for (const sort of ["file", "true", "confident"]) {
            select.value = sort;
            select.dispatchEvent(new Event("change", {bubbles: true}));
            document.body.offsetHeight;
        }
        for (const text of ["1", "12", "123"]) {
            find.value = text;
            find.dispatchEvent(new Event("input", {bubbles: true}));
            document.body.offsetHeight;
        }
        return (performance.now() - start) / 1000;
    """)
    assert texts(browser, "#found")[0].endswith(f" of {len(items):,} shown")
    # Six changes; on a machine that does nothing else they take about half a second.
    assert seconds < 20


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
    assert len(texts(browser, ".flat .path")) == 3
    click(browser, "a[data-show-issue='new']")
    assert sorted(texts(browser, ".flat .path")) == ["grey/1.png", "white/1.png"]
    assert browser.get_log("browser") == []
