"""classify-train map: what is alike lies together, in a picture and in a page that needs nothing else."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import chromium
from click.testing import CliRunner, Result
from PIL import Image
from support import write_picture

from classify_serving.exchange.embeddings import COLUMNS, EmbeddedImage
from classify_serving.exchange.review import read_review
from classify_serving.files import sha256_of
from classify_training.cli.main import main
from classify_training.embedding_map.layout import choose, lay_out
from classify_training.embedding_map.render import class_styles

HOSTILE = "</script><b>$x_{"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Three clear groups of twelve; one image of the first is filed under the second, and one file is gone."""
    random = np.random.default_rng(1)
    folder = tmp_path / "classified"
    folder.mkdir()
    names, vectors, lines = ("black", "white", HOSTILE), [], []
    for number in range(36):
        group = number % 3
        centre = np.zeros(512)
        centre[group] = 10
        vectors.append(centre + random.normal(0, 0.3, 512))
        picture = write_picture(tmp_path / "images" / f"{number}.png", 100 * group)
        lines.append((f"{number}.png", names[1 if number == 0 else group], names[group], "0.9", str(picture)))
    (tmp_path / "images/5.png").unlink()
    np.save(folder / "embeddings.npy", np.array(vectors, np.float32))
    with (folder / "embeddings.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *lines])
    return folder


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["map", *map(str, arguments)])


def test_what_is_alike_lies_together() -> None:
    random = np.random.default_rng(2)
    centres = np.repeat(np.eye(3, 64), 20, axis=0) * 10
    places = lay_out((centres + random.normal(0, 0.3, centres.shape)).astype(np.float32), seed=1)
    assert places.min() == 0
    assert places.max() == 1
    groups = places.reshape(3, 20, 2)
    spread = max(float(np.ptp(group, axis=0).max()) for group in groups)
    middles = groups.mean(axis=1)
    assert min(np.linalg.norm(middles[a] - middles[b]) for a, b in ((0, 1), (0, 2), (1, 2))) > spread


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_few_images_and_images_that_are_all_alike_have_places(count: int) -> None:
    assert np.isfinite(lay_out(np.ones((count, 512), np.float32), seed=1)).all()
    assert np.isfinite(lay_out(np.zeros((count, 512), np.float32), seed=1)).all()


def test_misses_come_first_when_not_all_fit() -> None:
    index = [EmbeddedImage(str(n), "a", "b" if n % 10 == 0 else "a", 0.5, Path()) for n in range(100)]
    chosen = choose(index, 15, seed=1)
    assert len(set(chosen.tolist())) == 15
    assert sum(index[place].is_miss for place in chosen) == 10


def test_no_two_classes_look_the_same() -> None:
    for count in (3, 8, 40):
        names = [f"class {number}" for number in range(count)]
        assert len(set(class_styles(names).values())) == count


def test_the_map_is_drawn(results: Path) -> None:
    result = run(results)
    assert result.exit_code == 0, result.output
    assert "Drew 36 images" in result.stdout
    with Image.open(results / "map.png") as picture:
        assert picture.width > 900
    page = (results / "map.html").read_text()
    assert "36 images, 1 of them misses" in page
    assert HOSTILE not in page
    assert page.count("<script") == 2
    assert "http:" not in page.replace("http-equiv", "")


def test_no_embeddings(results: Path, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        result = run(folder)
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1
        assert "--embed first" in result.stderr
    (results / "embeddings.npy").write_bytes(b"x")
    assert "--embed again" in run(results).stderr


@pytest.fixture
def page(results: Path, tmp_path: Path) -> Iterator[Any]:
    run(results)
    with chromium(tmp_path / "profile") as driver:
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
        driver.get((results / "map.html").as_uri())
        yield driver
        # Chromium has advice about how the test reads pixels back.
        assert [entry for entry in driver.get_log("browser") if entry["source"] != "rendering"] == []


def test_the_page_shows_zooms_and_hides(page: Any) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    inked = """
        const canvas = document.getElementById("map");
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        let count = 0;
        for (let i = 3; i < pixels.length; i += 4) count += pixels[i] > 0;
        return count;"""

    def painted(condition: Any) -> int:
        return int(
            WebDriverWait(page, 20).until(lambda driver: condition(count := driver.execute_script(inked)) and count)
        )

    everything = painted(lambda count: count > 0)
    page.find_element("id", "misses").click()
    one = painted(lambda count: 0 < count < everything / 4)
    page.find_element("id", "misses").click()
    painted(lambda count: count == everything)
    page.find_element("css selector", "[data-class='0']").click()
    painted(lambda count: one < count < everything)
    page.find_element("css selector", "[data-class='0']").click()
    page.find_element("id", "out").click()
    painted(lambda count: count < everything)
    page.find_element("id", "all").click()
    painted(lambda count: count == everything)


def test_a_region_is_selected_and_downloaded_as_a_review(page: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.support.wait import WebDriverWait

    def selected() -> str:
        return str(page.find_element("id", "selected").text)

    def draw_around(*corners: tuple[float, float]) -> None:
        canvas = page.find_element("id", "map")
        width, height = canvas.size["width"], canvas.size["height"]
        moves = ActionChains(page)
        for number, (x, y) in enumerate(corners):
            moves.move_to_element_with_offset(canvas, round(x * width / 2), round(y * height / 2))
            if number == 0:
                moves.click_and_hold()
        moves.release().perform()

    page.find_element("id", "select").click()
    # All around; the image whose file is gone cannot be reviewed.
    draw_around((-0.98, -0.95), (0.6, -0.95), (0.6, 0.95), (-0.98, 0.95))
    assert selected().startswith("35 selected: ")
    page.find_element("id", "none").click()
    assert not page.find_element("id", "selection").is_displayed()
    # A region without images selects none.
    draw_around((-0.98, -0.97), (-0.97, -0.97), (-0.97, -0.96))
    assert not page.find_element("id", "selection").is_displayed()
    for name in ("black", HOSTILE):
        page.find_element("css selector", f"[data-class='{sorted(('black', 'white', HOSTILE)).index(name)}']").click()
    page.find_element("id", "visible").click()
    assert selected().startswith("13 selected: ")
    page.find_element("css selector", "#action option[value='relabel:white']").click()
    page.find_element("id", "save").click()
    WebDriverWait(page, 60).until(lambda _: (tmp_path / "review.csv").exists())
    rows = read_review(tmp_path / "review.csv")
    assert {row.action for row in rows} == {"keep"}
    assert {row.sha256 for row in rows} == {sha256_of(Path(row.file)) for row in rows}
    assert len(rows) == 13
