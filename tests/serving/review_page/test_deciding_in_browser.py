"""Deciding about images in a real browser: by keys and by clicks, with and without the server."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium
from review_support import make_row, write_dataset, write_review_folder
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from classify_serving.exchange.review import ReviewRow, read_review
from classify_serving.review_page.review_file import ReviewFile
from classify_serving.review_page.server import ReviewServer


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, downloads: Path) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})
        yield driver


@pytest.fixture
def rows(tmp_path: Path) -> list[ReviewRow]:
    """Three images that are likely labelled wrong, and one that is only confused."""
    data = tmp_path / "data"
    files = write_dataset(data, {"black": (250, 251), "dark grey": (252,), "grey": (128,)})
    *doubted, confused = (make_row(file, data) for file in files)
    return [*doubted, make_row(files[-1], data, issue_type="confusion", proposed="", predicted=confused.predicted)]


@pytest.fixture
def folder(rows: list[ReviewRow], tmp_path: Path) -> Path:
    return write_review_folder(tmp_path / "audited", rows)


@pytest.fixture
def page(browser: Any, folder: Path) -> Iterator[Any]:
    """The page as a file; any message on the browser's console fails the test."""
    browser.get((folder / "report.html").as_uri())
    # Decisions that another test made about the same images.
    browser.execute_script("localStorage.clear()")
    browser.refresh()
    yield browser
    assert browser.get_log("browser") == []


def press(page: Any, *keys: str) -> None:
    ActionChains(page).send_keys(*keys).perform()


def text(page: Any, name: str) -> str:
    found: str = page.find_element("id", f"decide-{name}").text
    return found


def wait(page: Any, condition: Callable[[Any], bool]) -> None:
    WebDriverWait(page, 60).until(condition)


def is_shown(page: Any, path: str) -> bool:
    return bool(path in page.find_element("id", "decide-card").get_attribute("aria-label"))


def marks(page: Any) -> list[str]:
    """The mark of each image in the strip: kept, relabelled, deleted or undecided."""
    return [item.text for item in page.find_elements("css selector", "#decide-strip button")]


def test_one_key_decides_an_image_and_shows_the_next(page: Any) -> None:
    assert text(page, "count").startswith("0 of 3 decided")
    assert is_shown(page, "black/250.png")
    press(page, "k")
    assert is_shown(page, "black/251.png")
    press(page, "3")
    assert is_shown(page, "dark grey/252.png")
    press(page, Keys.ENTER)
    assert text(page, "count") == "Relabel to white. 3 of 3 decided"
    assert marks(page) == ["✓", "→", "→"]
    press(page, "u")
    assert text(page, "count").startswith("Undone. 2 of 3 decided, about a minute left")
    press(page, Keys.ARROW_LEFT, Keys.ARROW_LEFT, "d")
    assert marks(page) == ["×", "→", ""]
    # The second class of the list is the given one.
    press(page, "2")
    assert marks(page) == ["×", "→", "✓"]


def test_another_label_is_found_by_a_part_of_its_name(page: Any) -> None:
    press(page, "r", Keys.ENTER)
    assert text(page, "count").startswith("0 of 3")
    press(page, "grey", Keys.ARROW_DOWN, Keys.ENTER)
    assert text(page, "count").startswith("Relabel to dark grey. 1 of 3")
    press(page, "r", Keys.ESCAPE, "k")
    assert text(page, "count").startswith("Keep the label. 2 of 3")


def test_a_decision_can_be_taken_back_after_a_reload(page: Any) -> None:
    press(page, "k", "3")
    page.refresh()
    press(page, Keys.ARROW_LEFT, Keys.ARROW_LEFT, "k")
    assert marks(page) == ["", "→", ""]
    # Twice by mistake.
    press(page, "k", Keys.ARROW_LEFT, Keys.ARROW_LEFT, "k")
    assert marks(page) == ["✓", "→", ""]


def test_a_class_without_a_folder_has_to_be_chosen_from_the_folders(page: Any) -> None:
    press(page, "4")
    press(page, "white", Keys.ENTER)
    assert text(page, "count").startswith("Relabel to white. 1 of 3")


def test_decisions_outlast_another_run_into_the_same_folder(page: Any, folder: Path, rows: list[ReviewRow]) -> None:
    press(page, "k", "3")
    write_review_folder(folder, rows[1:])
    page.refresh()
    assert marks(page) == ["→", ""]


def test_decisions_outlast_a_reload_and_are_downloaded(page: Any, downloads: Path, rows: list[ReviewRow]) -> None:
    press(page, "k", "3")
    page.refresh()
    assert marks(page) == ["✓", "→", ""]
    assert is_shown(page, "dark grey/252.png")
    page.find_element("id", "decide-download").click()
    wait(page, lambda _: (downloads / "review.csv").exists())
    found = read_review(downloads / "review.csv")
    assert [row.action for row in found] == ["keep", "relabel:grey", "", ""]
    assert [row.key for row in found] == [row.key for row in rows]
    assert found[0].file == rows[0].file


def test_filters_show_one_issue_or_one_pair_of_classes(page: Any) -> None:
    for select, shown in (("decide-issue", "1"), ("decide-issue", "4"), ("decide-pair", "2")):
        options = {"1": "confusion", "4": "", "2": "black → white"}
        page.find_element("css selector", f"#{select} option[value='{options[shown]}']").click()
        assert text(page, "count").startswith(f"0 of {shown} decided")


def test_the_pictures_are_shown_in_full_size_and_fit_a_phone(page: Any) -> None:
    wait(page, lambda _: page.execute_script("return document.querySelector('.frame img').src.startsWith('file:')"))
    for width in (360, 1280):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        assert page.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_everything_that_can_be_used_has_a_name_for_screen_readers(page: Any) -> None:
    press(page, "r")
    tree = page.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    used = {"button", "combobox", "textbox", "option", "checkbox", "progressbar", "listbox", "image"}
    found = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]]
    assert not [role for role, name in found if role in used and not name]
    assert {role for role, _ in found} >= used - {"textbox"}
    assert "Image 1 of 3: black/250.png, labelled black, looks like white. Not decided" in [name for _, name in found]


@pytest.fixture
def served(browser: Any, folder: Path) -> Iterator[ReviewServer]:
    """The page sent by the server."""
    review = ReviewFile(folder / "review.csv")
    applied: list[bool] = []

    def apply(is_dry_run: bool) -> tuple[str, bool]:
        applied.append(is_dry_run)
        return ("would move one file" if is_dry_run else f"applied: {applied}"), True

    with ReviewServer((folder / "report.html").read_bytes(), review, apply) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        browser.get(server.url)
        yield server
        browser.get("about:blank")
        server.shutdown()
        thread.join()


def wait_for_actions(page: Any, server: ReviewServer, *actions: str) -> None:
    wait(page, lambda _: [row.action for row in read_review(server.review.path)] == list(actions))


def test_the_server_writes_decisions_and_applies_them_after_a_look(browser: Any, served: ReviewServer) -> None:
    wait(browser, lambda _: text(browser, "count").startswith("0 of 3"))
    image = f"image/{served.review.rows[0].sha256}"
    wait(browser, lambda _: image in browser.execute_script("return document.querySelector('.frame img').src"))
    press(browser, "k", "1")
    wait_for_actions(browser, served, "keep", "relabel:white", "", "")
    wait(browser, lambda _: text(browser, "saved") == "Saved in review.csv")
    browser.find_element("id", "decide-apply").click()
    wait(browser, lambda _: "would move one file" in text(browser, "plan"))
    browser.find_element("id", "decide-do").click()
    wait(browser, lambda _: "applied: [True, True, False]" in text(browser, "plan"))
    assert browser.get_log("browser") == []


def test_two_windows_see_each_others_decisions(browser: Any, served: ReviewServer, rows: list[ReviewRow]) -> None:
    wait(browser, lambda _: text(browser, "count").startswith("0 of 3"))
    served.review.decide([((rows[2].sha256, rows[2].label, rows[2].path), "delete")], -1)
    wait(browser, lambda _: text(browser, "count").startswith("1 of 3"))
    press(browser, "k")
    wait_for_actions(browser, served, "keep", "", "delete", "")


def test_decisions_made_while_the_server_is_gone_are_sent_when_it_is_back(
    browser: Any, folder: Path, rows: list[ReviewRow]
) -> None:
    def start(port: int = 0, token: str = "") -> tuple[ReviewServer, threading.Thread]:
        server = ReviewServer(
            (folder / "report.html").read_bytes(), ReviewFile(folder / "review.csv"), lambda _: ("", False), port
        )
        server.token = token or server.token
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        return server, thread

    def stop(server: ReviewServer, thread: threading.Thread) -> None:
        server.shutdown()
        thread.join()
        server.server_close()

    server, thread = start()
    browser.get(server.url)
    wait(browser, lambda _: text(browser, "count").startswith("0 of 3"))
    stop(server, thread)
    press(browser, "k")
    wait(browser, lambda _: "Not saved" in text(browser, "saved"))
    assert [row.action for row in read_review(folder / "review.csv")] == [""] * 4
    server, thread = start(server.server_port, server.token)
    wait_for_actions(browser, server, "keep", "", "", "")
    browser.get("about:blank")
    stop(server, thread)
    browser.get_log("browser")
