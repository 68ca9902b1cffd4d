"""`review.csv`: the images a client found doubtful, what its user decides, and what training does about it.

A decision is about a content and its label: rows are identified by SHA-256 and label, so that neither a renamed file
nor a second run loses a decision.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Final, Literal

from classify_serving.contract.text import error_reason
from classify_serving.exchange.csv_cells import escape_formula, unescape_formula
from classify_serving.files import replacing

REVIEW: Final = "review.csv"
CONFIRMED: Final = ".review/confirmed.csv"
"""Below a dataset: content and label of the images whose label a person has confirmed."""

Verb = Literal["keep", "relabel", "delete"]


class ReviewError(Exception):
    """A review that cannot be read or makes no sense; the message names the file, the line and the remedy."""


@dataclass(frozen=True)
class Action:
    """What to do with an image: `keep` its label, `relabel` it as `label`, or `delete` it."""

    verb: Verb
    label: str = ""

    def __str__(self) -> str:
        return f"{self.verb}:{self.label}" if self.label else self.verb


@dataclass(frozen=True, kw_only=True)
class ReviewRow:
    """A line of `review.csv`, every value as it stands there.

    Attributes:
        path: the file's name in the results.
        label: the label that its folder gives it.
        predicted: the predicted class, with its probability in 0-1.
        issue_type: what may be wrong: `wrong-label`, `duplicate`, `outlier`, `confusion` or `confirmed`.
        reason: why it has this type, in a few words.
        seen: `true` if the model was trained on this content, `false` if not, empty if that is not known.
        proposed: the proposed action; empty where only a person can decide.
        action: the user's decision: `keep`, `relabel:<label>`, `delete`, or empty while undecided.
        sha256: of the content, as hex.
        file: the file's absolute path.
    """

    path: str
    label: str
    predicted: str = ""
    probability: str = ""
    issue_type: str = ""
    reason: str = ""
    seen: str = ""
    proposed: str = ""
    action: str = ""
    sha256: str
    file: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Content and label, which identify a decision."""
        return self.sha256, self.label


_COLUMNS: Final = tuple(field.name for field in fields(ReviewRow))
_REQUIRED: Final = frozenset(("label", "action", "sha256"))
_OLD_COLUMNS: Final[Mapping[str, str]] = {"issue_type": "kind"}
_OLD_ISSUE_TYPES: Final[Mapping[str, str]] = {"unlike": "outlier"}
"""Names in reviews of release 0.1."""


def parse_action(text: str) -> Action | None:
    """Read a cell of the column `action`; None if nothing is decided.

    Raises:
        ReviewError: it is none of the actions.
    """
    verb, colon, label = (part.strip() for part in text.strip().partition(":"))
    match verb.lower(), bool(colon), bool(label):
        case "", False, _:
            return None
        case "keep", False, _:
            return Action("keep")
        case "delete", False, _:
            return Action("delete")
        case "relabel", True, True:
            return Action("relabel", label)
    raise ReviewError(f"{text.strip()} is no action: write keep, relabel:<class> or delete")


def read_review(path: Path) -> list[ReviewRow]:
    """Read a review, also one that a spreadsheet has saved with semicolons or tabs.

    Raises:
        ReviewError: no such file, or it is not a review.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            reader = csv.DictReader(file, delimiter=max(",;\t", key=head.count), restval="")
            if not set(reader.fieldnames or ()) >= _REQUIRED:
                raise ReviewError(f"{path} is not a review: give the {REVIEW} of a run of classify-client")
            return [_row(line) for line in reader]
    except OSError as error:
        raise ReviewError(f"cannot read {path}: {error_reason(error)}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ReviewError(f"{path} is not a review ({error}): save it as CSV in UTF-8") from error


def current_issue_type(name: str) -> str:
    """Today's name of an issue type that may be written as in release 0.1."""
    return _OLD_ISSUE_TYPES.get(name, name)


def _row(line: Mapping[str, str]) -> ReviewRow:
    cells = {name: line.get(name) or line.get(_OLD_COLUMNS.get(name, name)) or "" for name in _COLUMNS}
    row = ReviewRow(**{name: unescape_formula(cell) for name, cell in cells.items()})
    return replace(row, issue_type=current_issue_type(row.issue_type))


def write_review(path: Path, rows: Iterable[ReviewRow]) -> None:
    """Write a review, whole or not at all."""
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        table = csv.DictWriter(file, _COLUMNS)
        table.writeheader()
        table.writerows({name: escape_formula(cell) for name, cell in asdict(row).items()} for row in rows)


def read_confirmed(path: Path) -> frozenset[tuple[str, str]]:
    """The (SHA-256, label) pairs that were confirmed; none if there is no such file.

    Raises:
        ReviewError: it cannot be read.
    """
    if not path.is_file():
        return frozenset()
    return frozenset(_read_pairs(path))


def _read_pairs(path: Path) -> Iterator[tuple[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                yield line["sha256"], line["label"]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise ReviewError(f"{path} cannot be read as a list of confirmed labels: remove it, or mend it") from error
