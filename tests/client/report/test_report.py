"""report.html: its content, that it works offline, and that names in it are escaped."""

import re
from collections import Counter
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest
from client_support import Client, Start
from hypothesis import given
from hypothesis import strategies as st
from report_support import make_item, make_results
from scipy.stats import binomtest
from support import BrightnessModel, make_metadata, write_picture

from classify_client.mistakes.compare import mcnemar
from classify_client.mistakes.issues import Evidence, find_issues
from classify_client.mistakes.review import Review
from classify_client.report.view import Limits, choose_pictures, group_misses
from classify_client.report.write import Pictures, write_report
from classify_client.results.calibration import Reliability
from classify_client.results.reader import Item, read_results
from classify_client.results.rows import Row
from classify_serving.exchange.review import ReviewRow
from classify_serving.review_page.thumbnails import thumbnail


class Page(HTMLParser):
    """The number of elements of each tag in an HTML page, their attributes, and all text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, name: str) -> list[str]:
        """The values of an attribute."""
        return [value for attribute, value in self.attributes if attribute == name]


def test_the_report_needs_no_network_and_all_its_links_work(client: Client) -> None:
    (client.images / "white/broken.png").write_bytes(b"no image")
    client.run()
    page = Page(client.output / "report.html")
    assert "2 of 5 predictions are wrong" in page.text
    assert "60.0%" in page.text
    assert "white/broken.png" in page.text
    addresses = page.values("src") + page.values("href")
    assert all(address.startswith(("data:image/webp;base64,", "#", "miss/")) for address in addresses)
    pictures = [address for address in addresses if address.startswith("data:")]
    assert len(pictures) == 2
    for link in (address for address in addresses if address.startswith("#")):
        assert link[1:] in page.values("id"), link
    for link in (address for address in addresses if address.startswith("miss/")):
        assert (client.output / link).is_file()
    assert not re.search(r"url\(|@import|https?:", (client.output / "report.html").read_text())


def test_the_report_of_a_run_without_labels_says_so(client: Client) -> None:
    client.run("--labels", "none")
    page = Page(client.output / "report.html")
    assert "without labels to compare them with" in page.text
    assert "miss" not in page.values("id")


def test_the_report_of_an_interrupted_run_says_so(client: Client) -> None:
    client.run()
    results = read_results(client.output)
    results.summary = {**results.summary, "complete": False}
    write_report(results, Review(find_issues(results, Evidence())))
    assert "interrupted after" in Page(client.output / "report.html").text


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "a' onclick='x",
        "line\nbreak",
        "{{ 7777*7777 }}",
        "\udcff",
    ],
)
def test_names_in_the_report_are_escaped(tmp_path: Path, name: str) -> None:
    items = [
        make_item(f"{name}/{name}.png", name, "b", 0.9),
        make_item("b/1.png", "b", name, 0.8),
        make_item("c", "b", "b", 0.5),
    ]
    results = make_results([*items, Item(Row(path=name, error=name), Path(name))], tmp_path, ("b", name))
    row = ReviewRow(path=f"{name}/{name}.png", label=name, predicted="b", issue_type="confusion", sha256="0" * 64)
    write_report(results, Review(find_issues(results, Evidence()), [row], [name, "b"]))
    page = Page(tmp_path / "report.html")
    assert page.tags["script"] == 3
    assert page.tags["img"] == 0
    assert not [attribute for attribute, _ in page.attributes if attribute.startswith("on")]
    escaped = name.encode(errors="backslashreplace").decode()
    assert f"{escaped}/{escaped}.png" in page.text
    assert "60481729" not in page.text


def test_pictures_are_divided_among_the_pairs_and_other_misses_are_listed(start: Start) -> None:
    client = start(BrightnessModel(make_metadata()))
    for number in range(9):
        write_picture(client.images / f"black/{number}.png", 240 + number)
    for number in range(2):
        write_picture(client.images / f"grey/{number}.png", number)
    client.run()
    results = read_results(client.output)
    limits = Limits(pictures=6, each=3, listed=4)
    groups = group_misses(results.misses)
    assert [(pair, len(group)) for pair, group in groups.items()] == [(("black", "white"), 9), (("grey", "black"), 2)]
    chosen = [miss.row.path for miss in choose_pictures(groups, limits)]
    assert chosen == ["black/0.png", "black/1.png", "black/2.png", "grey/0.png", "grey/1.png", "black/3.png"]
    pictures = Pictures(
        {item.row.path: thumbnail(BytesIO(item.file.read_bytes())) for item in choose_pictures(groups, limits)}
    )
    write_report(results, Review(find_issues(results, Evidence())), pictures, limits=limits)
    page = Page(client.output / "report.html")
    assert page.tags["img"] == 6
    assert "black/7.png" in page.text
    assert "black/8.png" not in page.text
    assert "1 more: see the results file" in page.text
    write_report(results, Review(find_issues(results, Evidence())), pictures, limits=Limits(bytes=1))
    assert Page(client.output / "report.html").tags["img"] == 0


def test_a_label_is_doubted_if_the_model_is_at_least_as_sure_as_usual(tmp_path: Path) -> None:
    correct = [make_item(f"dog/{number}.png", "dog", "dog", 0.8) for number in range(9)]
    sure, unsure, close = (
        make_item("cat/1.png", "cat", "dog", 0.9, 0.05),
        make_item("cat/2.png", "cat", "dog", 0.7, 0.05),
        make_item("cat/3.png", "cat", "dog", 0.85, 0.4),
    )
    issues = find_issues(make_results([*correct, sure, unsure, close], tmp_path, ("cat", "dog")), Evidence())
    assert {path: issue.type for path, issue in issues.items()} == {
        "cat/1.png": "wrong-label",
        "cat/2.png": "confusion",
        "cat/3.png": "confusion",
    }
    assert issues["cat/1.png"].reason == "dog: 90.0%, cat: 5.0%; images labelled dog get 80.0% on average"
    # Right on four of seven images.
    weak = make_results([*correct[:4], sure, unsure, close], tmp_path, ("cat", "dog"))
    assert {issue.type for issue in find_issues(weak, Evidence()).values()} == {"confusion"}


@given(st.integers(0, 400), st.integers(0, 400))
def test_the_p_value_equals_that_of_the_binomial_test(fixed: int, broken: int) -> None:
    expected = binomtest(broken, fixed + broken, 0.5).pvalue if fixed + broken else 1.0
    assert mcnemar(fixed, broken) == pytest.approx(expected)


def test_predictions_of_similar_probability_are_in_one_bin() -> None:
    reliability = Reliability()
    for probability, is_right in ((0.0, False), (0.95, True), (1.0, True), (0.91, False), (0.9, True)):
        reliability.add(probability, is_right)
    low, high = reliability.bins
    assert (low.count, low.accuracy, high.low, high.count, high.accuracy) == (1, 0.0, 0.9, 4, 0.75)
    assert high.confidence == pytest.approx(0.94)
    assert reliability.calibration_error == pytest.approx(0.8 * 0.19)
