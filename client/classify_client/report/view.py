"""What the page shows, chosen and counted; no HTML here."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from classify_client.mistakes.kinds import Finding
from classify_client.results.reader import Item, Results


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds that keep the page fit for a mail, however large the run.

    Attributes:
        pictures: thumbnails of misses, at most.
        each: of one confusion before the next one gets its own.
        bytes: of all thumbnails together.
        listed: misses that are only named.
    """

    pictures: int = 480
    each: int = 12
    bytes: int = 6_000_000
    listed: int = 4000


@dataclass(frozen=True)
class Card:
    """A file with its picture: data URIs of thumbnail and heat map, empty where there is none."""

    item: Item
    finding: Finding | None
    picture: str = ""
    heat: str = ""

    @property
    def href(self) -> str:
        """Link to the copy in `miss/`, relative to the report; empty without one."""
        return quote(self.item.miss) if self.item.miss else ""


@dataclass(frozen=True)
class Group:
    """All files of class `true` that were taken for `predicted`, worst first.

    Attributes:
        anchor: id of its place in the page.
        true, predicted: the classes.
        true_number, predicted_number: their places among all classes.
        share: of the class's files, 0-1.
        cards: those with a picture.
        listed: those that are named.
        more: number of those that are not even named.
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
        """How many there are."""
        return len(self.cards) + len(self.listed) + self.more


@dataclass(frozen=True)
class Cell:
    """A cell of the confusion matrix: a count, how deep its colour is (0-1), and where it leads."""

    count: int
    depth: float = 0.0
    href: str = ""
    is_right: bool = False


def group_misses(misses: Iterable[Item]) -> dict[tuple[str, str], list[Item]]:
    """Misses by (true, predicted): the largest group first, and in each the surest mistake first."""
    groups: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for item in misses:
        groups[item.true, item.predicted].append(item)
    for group in groups.values():
        group.sort(key=lambda item: (-item.probability, item.path))
    return dict(sorted(groups.items(), key=lambda entry: (-len(entry[1]), -entry[1][0].probability, entry[0])))


def choose_pictures(groups: Mapping[tuple[str, str], Sequence[Item]], limits: Limits) -> list[Item]:
    """The misses that get a thumbnail: the first `each` of every group, then the next ones, as far as they go."""
    ranked = [
        (rank // limits.each, place, rank, item)
        for place, group in enumerate(groups.values())
        for rank, item in enumerate(group)
    ]
    ranked.sort(key=lambda entry: entry[:3])
    return [item for *_, item in ranked[: limits.pictures]]


def make_groups(
    groups: Mapping[tuple[str, str], Sequence[Item]],
    cards: Mapping[str, Card],
    results: Results,
    limits: Limits,
) -> list[Group]:
    """Put the pictures into their groups, and name the others as far as the limits go.

    Args:
        groups: of `group_misses`.
        cards: by path; those without a picture are named.
        results: of the run.
        limits: of the page.
    """
    numbers = class_numbers(results)
    room = limits.listed
    made = []
    for (true, predicted), items in groups.items():
        all_cards = [cards[item.path] for item in items]
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
    """Each class's place in the confusion matrix."""
    return {name: number for number, name in enumerate(results.summary["confusion"]["classes"])}


def confusion_rows(results: Results) -> tuple[list[str], list[tuple[int, str, list[Cell]]]]:
    """The matrix without classes that do not occur: its columns, and (class number, class, cells) of each row."""
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
    # Mistakes are small shares: the root lets them be seen.
    return Cell(count, share**0.5, f"#pair-{true}-{predicted}")


def class_table(results: Results) -> list[dict[str, Any]]:
    """A row for each class that occurs: support, precision, recall, F1, misses, and what it is most taken for."""
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
    """How sure the model is compared with how often it is right."""
    bins = results.reliability.bins
    return {
        "bins": bins,
        "most": max((each.count for each in bins), default=1),
        "calibration_error": results.reliability.calibration_error,
    }
