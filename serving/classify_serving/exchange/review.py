"""`review.csv`: images whose label may be wrong, and the user's decision about each.

The client writes it, the user fills in the column `action`, and `classify-train apply` carries the actions out. A row
is about the files with the SHA-256 of the image's content and with its label, so that decisions survive renamed files
and new runs; of several such files, it is about the one with its path.
"""

import csv
import itertools
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Final, Literal

from classify_serving.contract.folders import folder_label
from classify_serving.contract.text import error_reason
from classify_serving.exchange.csv_cells import escape_formula, unescape_formula
from classify_serving.exchange.csv_columns import ColumnsError, read_columns
from classify_serving.exchange.issue_types import current_issue_type
from classify_serving.files import replacing

REVIEW: Final = "review.csv"
CONFIRMED: Final = ".review/confirmed.csv"
"""In a dataset's folder: SHA-256 and label of each image whose label the user has confirmed."""

Verb = Literal["keep", "relabel", "delete"]


class ReviewError(Exception):
    """A review cannot be read or contains an invalid action; the message says what to do."""


@dataclass(frozen=True)
class Action:
    """What to do with an image: `keep` its label, `relabel` it to `label`, or `delete` it from the dataset."""

    verb: Verb
    label: str = ""

    def __str__(self) -> str:
        return f"{self.verb}:{self.label}" if self.label else self.verb


@dataclass(frozen=True, kw_only=True)
class ReviewRow:
    """One line of `review.csv`; every value is the text in the file.

    Attributes:
        path: the image's path in the results, relative to the input folder.
        label: its label: the name of its folder.
        predicted: the predicted class.
        probability: probability of the predicted class, 0-1.
        issue_type: what may be wrong, one of `issue_types.ISSUE_TYPES`.
        reason: why the image has this issue type, in a few words.
        seen: `true` if the model was trained on this content, `false` if not, empty if unknown.
        proposed: the proposed action; empty if there is no proposal.
        action: the user's decision: `keep`, `relabel:<label>` or `delete`; empty if undecided.
        sha256: SHA-256 of the image's content, 64 hexadecimal digits.
        file: the file's absolute path when it was classified.
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
        """SHA-256 and label, which identify the image, whatever its path is now."""
        return self.sha256, self.label


_COLUMNS: Final = tuple(field.name for field in fields(ReviewRow))
_REQUIRED: Final = frozenset(("label", "action", "sha256"))
_OLD_COLUMNS: Final[Mapping[str, str]] = {"issue_type": "kind"}
"""Names in reviews of release 0.1."""


def parse_action(text: str, classes: Collection[str] = ()) -> Action | None:
    """Parse a cell of the column `action`; None if it is empty.

    Args:
        text: the cell.
        classes: labels of the dataset. Spaces at the ends of a label are left out, unless one of these has them.

    Raises:
        ReviewError: the text is not an action.
    """
    verb, colon, label = text.partition(":")
    if folder_label(label) not in classes:
        label = label.strip()
    match verb.strip().lower(), bool(colon), bool(label):
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
    """Read a review; commas, semicolons and tabs, which some spreadsheets write, are accepted as separators.

    Column and issue type names of release 0.1 are read too.

    Raises:
        ReviewError: the file is missing or is not a review.
    """
    return read_table(path).rows


@dataclass(frozen=True)
class ReviewTable:
    """A review as it is in its file, with the columns of its user and the separator of a spreadsheet.

    Attributes:
        delimiter: the separator.
        lines: the cells of each line, the header first.
        rows: what the lines below the header mean.
    """

    delimiter: str
    lines: Sequence[Sequence[str]]
    rows: list[ReviewRow]

    def with_actions(self, actions: Mapping[int, str]) -> "ReviewTable":
        """The same table with other actions.

        Args:
            actions: number of a row, from 0 -> its action.
        """
        place = self.lines[0].index("action")
        lines, rows = list(self.lines), list(self.rows)
        for number, action in actions.items():
            line = [*lines[number + 1], *[""] * (place + 1 - len(lines[number + 1]))]
            line[place] = escape_formula(action)
            lines[number + 1], rows[number] = line, replace(rows[number], action=action)
        return ReviewTable(self.delimiter, lines, rows)

    def write(self, path: Path) -> None:
        """Write the table, replacing an existing file atomically; a link to a file stays one.

        Raises:
            OSError: the file cannot be written.
        """
        _write_lines(path.resolve(), self.lines, self.delimiter)


def read_table(path: Path) -> ReviewTable:
    """Read a review with all that is in its file; else as `read_review`."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            delimiter = max(",;\t", key=head.count)
            lines = [line for line in csv.reader(file, delimiter=delimiter) if line]
    except OSError as error:
        raise ReviewError(f"cannot read {path}: {error_reason(error)}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ReviewError(f"{path} is not a review ({error}): save it as CSV in UTF-8") from error
    if not lines or not set(lines[0]) >= _REQUIRED:
        raise ReviewError(f"{path} is not a review: use the {REVIEW} of an audit, a training or a run of the client")
    header = lines[0]
    if len(lines[-1]) < len(header) and not _ends_with_line(path):
        raise ReviewError(f"{path} ends in the middle of a line: put back the whole file, or remove it")
    return ReviewTable(delimiter, lines, [_row(dict(zip(header, line, strict=False))) for line in lines[1:]])


def _ends_with_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() in b"\r\n"


def _row(line: Mapping[str, str]) -> ReviewRow:
    cells = {name: line.get(name) or line.get(_OLD_COLUMNS.get(name, name)) or "" for name in _COLUMNS}
    row = ReviewRow(**{name: unescape_formula(cell) for name, cell in cells.items()})
    return replace(row, issue_type=current_issue_type(row.issue_type))


def write_review(path: Path, rows: Iterable[ReviewRow]) -> None:
    """Write a review, replacing an existing file atomically.

    Raises:
        OSError: the file cannot be written.
    """
    cells = ([escape_formula(cell) for cell in astuple(row)] for row in rows)
    _write_lines(path, itertools.chain([_COLUMNS], cells), ",")


def _write_lines(path: Path, lines: Iterable[Sequence[str]], delimiter: str) -> None:
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        csv.writer(file, delimiter=delimiter).writerows(lines)


def read_confirmed(path: Path) -> frozenset[tuple[str, str]]:
    """Read the confirmed labels as pairs (SHA-256, label); empty if the file does not exist.

    Raises:
        ReviewError: the file cannot be read.
    """
    if not path.is_file():
        return frozenset()
    try:
        return frozenset((digest, label) for digest, label in read_columns(path, ("sha256", "label")))
    except (OSError, ColumnsError) as error:
        raise ReviewError(
            f"cannot read the confirmed labels in {path} ({error_reason(error)}): correct or remove the file"
        ) from error
