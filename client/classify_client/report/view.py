"""The content of the report, chosen and counted; no HTML here."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from classify_client.mistakes.issues import LabelIssue
from classify_client.results.reader import Item, Results
from classify_client.results.rows import Row
from classify_serving.exchange.misses import MISS


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits that keep the page small enough for a mail, however large the run is.

    Attributes:
        pictures: maximum number of thumbnails of misses.
        each: thumbnails of one confusion before another confusion gets more.
        bytes: maximum size of all thumbnails together.
        listed: maximum number of misses that are listed by name only.
    """

    pictures: int = 480
    each: int = 12
    bytes: int = 6_000_000
    listed: int = 4000


DEFAULT: Final = Limits()


@dataclass(frozen=True)
class Card:
    """An image in the report.

    Attributes:
        row: its row of the results.
        issue: of a miss.
        picture, heat: data URIs of thumbnail and heat map; empty where there is none.
        rank: place of a miss among all, from 0 for the most suspicious one.
        same: (rank, path) of the misses with the same content under other labels, and its own, in their order.
    """

    row: Row
    issue: LabelIssue | None
    picture: str = ""
    heat: str = ""
    rank: int = 0
    same: Sequence[tuple[int, str]] = ()

    @property
    def href(self) -> str:
        """Link to the copy in `miss/`, relative to the report; empty without one."""
        return quote(f"{MISS}/{self.row.miss}") if self.row.miss else ""


@dataclass(frozen=True)
class Group:
    """All images of class `true` that were predicted as `predicted`, most probable first.

    Attributes:
        anchor: id of the group in the page.
        true, predicted: the classes.
        true_number, predicted_number: their numbers in the confusion matrix.
        share: of the class's images, 0-1.
        cards: images with a picture.
        listed: images that are listed by name only.
        more: number of images that are not listed.
    """

    anchor: str
    true: str
    predicted: str
    true_number: int
    predicted_number: int
    share: float
    cards: Sequence[Card]
    listed: Sequence[Card]
    more: int

    @property
    def count(self) -> int:
        """Number of images in the group."""
        return len(self.cards) + len(self.listed) + self.more


@dataclass(frozen=True)
class Cell:
    """A cell of the confusion matrix: its count, the strength of its colour (0-1), and its link."""

    count: int
    depth: float = 0.0
    href: str = ""
    is_right: bool = False


def group_misses(misses: Iterable[Item]) -> dict[tuple[str, str], list[Item]]:
    """Misses by (true, predicted): the largest group first, and in each the most probable prediction first."""
    groups: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for item in misses:
        groups[item.row.true_class, item.row.predicted].append(item)
    for group in groups.values():
        group.sort(key=lambda item: (-item.row.probability, item.row.path))
    return dict(sorted(groups.items(), key=lambda entry: (-len(entry[1]), -entry[1][0].row.probability, entry[0])))


def choose_pictures(groups: Mapping[tuple[str, str], Sequence[Item]], limits: Limits) -> list[Item]:
    """The misses that get a thumbnail: the first `each` of every group, then the next ones, up to the limit."""
    ranked = [
        (rank // limits.each, place, rank, item)
        for place, group in enumerate(groups.values())
        for rank, item in enumerate(group)
    ]
    ranked.sort(key=lambda entry: entry[:3])
    return [item for *_, item in ranked[: limits.pictures]]


def pictured(results: Results, limits: Limits = DEFAULT) -> list[Item]:
    """The images that get a thumbnail, in the order of their importance."""
    return [*choose_pictures(group_misses(results.misses), limits), *results.uncertain]


def make_groups(
    groups: Mapping[tuple[str, str], Sequence[Item]],
    cards: Mapping[str, Card],
    results: Results,
    limits: Limits,
) -> list[Group]:
    """Sort the cards into their groups.

    Args:
        groups: as from `group_misses`.
        cards: by path; those without a picture are listed by name, up to the limit.
        results: of the run.
        limits: of the page.
    """
    numbers = class_numbers(results)
    room = limits.listed
    made = []
    for (true, predicted), items in groups.items():
        all_cards = [cards[item.row.path] for item in items]
        listed = [card for card in all_cards if not card.picture]
        shown, room = listed[:room], max(0, room - len(listed))
        made.append(
            Group(
                anchor=f"pair-{numbers[true]}-{numbers.get(predicted, predicted)}",
                true=true,
                predicted=predicted,
                true_number=numbers[true],
                predicted_number=numbers.get(predicted, len(numbers)),
                share=len(items) / max(1, results.summary["classes"][true]["support"]),
                cards=[card for card in all_cards if card.picture],
                listed=shown,
                more=len(listed) - len(shown),
            )
        )
    return made


def class_numbers(results: Results) -> dict[str, int]:
    """The number of each class in the confusion matrix."""
    return {name: number for number, name in enumerate(results.summary["confusion"]["classes"])}


def confusion_rows(results: Results) -> tuple[list[str], list[tuple[int, str, list[Cell]]]]:
    """The confusion matrix without classes that do not occur: its columns, and (number, class, cells) of each row."""
    names, matrix = results.summary["confusion"]["classes"], results.summary["confusion"]["matrix"]
    columns = [sum(row[place] for row in matrix) for place in range(len(names))]
    present = [place for place, row in enumerate(matrix) if sum(row) or columns[place]]
    rows = [(true, names[true], [_cell(true, predicted, matrix[true]) for predicted in present]) for true in present]
    return [names[place] for place in present], rows


def _cell(true: int, predicted: int, row: Sequence[int]) -> Cell:
    count = row[predicted]
    if not count:
        return Cell(0)
    share = count / sum(row)
    if true == predicted:
        return Cell(count, share, f"#class-{true}", is_right=True)
    # The square root makes small shares visible.
    return Cell(count, share**0.5, f"#pair-{true}-{predicted}")


def class_table(results: Results) -> list[dict[str, Any]]:
    """A row for each class that occurs: support, precision, recall, F1, misses, and its most frequent confusion."""
    summary = results.summary
    names, matrix = summary["confusion"]["classes"], summary["confusion"]["matrix"]
    predicted = [sum(row[place] for row in matrix) for place in range(len(names))]
    rows = []
    for number, (name, row) in enumerate(zip(names, matrix, strict=True)):
        if not sum(row) and not predicted[number]:
            continue
        others = [0 if place == number else count for place, count in enumerate(row)]
        worst = max(range(len(names)), key=others.__getitem__)
        rows.append(
            {
                "number": number,
                "name": name,
                **summary["classes"][name],
                "predicted": predicted[number],
                "misses": sum(others),
                "worst": names[worst] if others[worst] else "",
                "worst_href": f"#pair-{number}-{worst}",
            }
        )
    return rows


def calibration(results: Results) -> dict[str, Any]:
    """Probabilities compared with the share of right answers."""
    bins = results.reliability.bins
    return {
        "bins": bins,
        "most": max((each.count for each in bins), default=1),
        "calibration_error": results.reliability.calibration_error,
    }
