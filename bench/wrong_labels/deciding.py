"""How many keys and how much time 50 decisions need: `make bench-deciding`, with a real browser.

Labels are made wrong at random in a copy of a dataset, which is then audited; a script decides the first images of the
page as a person would who knows the truth: the key of the true class in the list, or K. Time is that of the page and
its server alone; a person looks at each image for as long as it takes.
"""

import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.keys import Keys

from bench.wrong_labels.noisy_dataset import TRAIN, network_options, plant, run
from classify_serving.exchange.review import read_review

_LONGEST = 60.0


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--weights", required=True, help="Weights of VGG16(include_top=False).")
@click.option("--image-size", default=32)
@click.option("--flip/--no-flip", default=True)
@click.option("--share", default=0.05, help="Of labels made wrong.")
@click.option("--cards", default=50)
def main(dataset: Path, weights: str, image_size: int, flip: bool, share: float, cards: int) -> None:
    """Decide the first cards of an audit of DATASET, with wrong labels."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        noisy, audited = folder / "noisy", folder / "audited"
        shutil.copytree(dataset, noisy)
        planted = plant(noisy, share, 1)
        run(TRAIN, "audit", noisy, "-o", audited, "--quiet", *network_options(weights, image_size, flip))
        with subprocess.Popen(
            [TRAIN, "review", str(audited), "--no-open"], stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdout is not None
            address = server.stdout.readline().split()[-1]
            try:
                _decide(address, audited / "review.csv", planted, cards, folder / "profile")
            finally:
                server.terminate()


def _decide(address: str, review: Path, planted: Mapping[str, str], cards: int, profile: Path) -> None:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver") or ""))
    try:
        browser.get(address)
        browser.find_element("css selector", "#decide-issue [value='']").click()
        rows = {row.path: row for row in read_review(review)}
        keys, seconds = [], []
        for _ in range(min(cards, len(rows))):
            path = _shown(browser)
            row = next(row for row in rows.values() if path in (row.file, row.path))
            start = time.monotonic()
            keys.append(_press(browser, row.label, planted.get(row.sha256, row.label)))
            _wait_until_saved(review, row.path)
            seconds.append(time.monotonic() - start)
        wrong = [row for row in read_review(review) if row.action.startswith("relabel:")]
        right = sum(row.action == f"relabel:{planted.get(row.sha256)}" for row in wrong)
        print(f"{len(keys)} images decided, {len(wrong)} of them relabelled, {right} of these to the true label")
        print(f"key presses an image: {statistics.mean(keys):.2f}, with one: {keys.count(1)} of {len(keys)}")
        print(f"from the key to the decision in review.csv: median {1000 * statistics.median(seconds):.0f} ms,")
        print(f"longest {1000 * max(seconds):.0f} ms; all: {sum(seconds):.1f} s")
    finally:
        browser.quit()


def _shown(browser: Any) -> str:
    return str(browser.find_element("id", "decide-path").text)


def _press(browser: Any, label: str, true_label: str) -> int:
    """Decide the image that is shown; gives the number of keys."""
    card = browser.find_element("id", "decide-card")
    if label == true_label:
        card.send_keys("k")
        return 1
    script = "return [...document.querySelectorAll('#decide-top .name')].map(name => name.textContent)"
    names: list[str] = browser.execute_script(script)
    if true_label in names:
        card.send_keys(str(names.index(true_label) + 1))
        return 1
    card.send_keys("r")
    browser.switch_to.active_element.send_keys(true_label, Keys.ENTER)
    return 2 + len(true_label)


def _wait_until_saved(review: Path, path: str) -> None:
    deadline = time.monotonic() + _LONGEST
    while time.monotonic() < deadline:
        if any(row.path == path and row.action for row in read_review(review)):
            return
        time.sleep(0.005)
    raise SystemExit(f"the decision about {path} was not saved")


if __name__ == "__main__":
    main()
