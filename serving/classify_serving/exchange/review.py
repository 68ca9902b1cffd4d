"""`review.csv`: what a client found doubtful, what its user decides, and what training does about it.

A file and its label are one decision: rows are known by the SHA-256 of the content and the label, so that neither a
rename nor a second run loses what was decided.
"""

import csv
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final, Literal

from classify_serving.exchange.csv_cells import defuse, fuse

REVIEW: Final = "review.csv"
CONFIRMED: Final = ".review/confirmed.csv"
"""Below a dataset: content and label of what a person has looked at and found right."""

Verb = Literal["keep", "relabel", "delete"]


class ReviewError(Exception):
    """A review that cannot be read or means nothing; the message names file, line and remedy."""


@dataclass(frozen=True)
class Action:
    """What shall become of an image: `keep` its label, `relabel` it as `label`, or `delete` it."""

    verb: Verb
    label: str = ""

    def __str__(self) -> str:
        return f"{self.verb}:{self.label}" if self.label else self.verb


@dataclass(frozen=True, kw_only=True)
class ReviewRow:
    """A line of `review.csv`, every value as it stands there.

    Attributes:
        path: what the results call the file.
        label: that its folder gives it.
        predicted: what the model says, with its probability in 0-1.
        kind: of miss.
        reason: for that kind.
        seen: `true` if the model was trained on this content, `false` if not, empty if that is not known.
        proposed: an action, or empty where only a person can tell.
        action: the user's: `keep`, `relabel:<label>`, `delete`, or empty while undecided.
        sha256: of the content, as hex.
        file: where it is.
    """

    path: str
    label: str
    predicted: str = ""
    probability: str = ""
    kind: str = ""
    reason: str = ""
    seen: str = ""
    proposed: str = ""
    action: str = ""
    sha256: str
    file: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What decisions are remembered by."""
        return self.sha256, self.label


_COLUMNS: Final = tuple(field.name for field in fields(ReviewRow))
_NEEDED: Final = frozenset(("label", "action", "sha256"))


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
            if not set(reader.fieldnames or ()) >= _NEEDED:
                raise ReviewError(f"{path} is not a review: give the {REVIEW} of a run of classify-client")
            return [ReviewRow(**{name: fuse(line.get(name) or "") for name in _COLUMNS}) for line in reader]
    except OSError as error:
        raise ReviewError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ReviewError(f"{path} is not a review ({error}): save it as CSV in UTF-8") from error


def write_review(path: Path, rows: Iterable[ReviewRow]) -> None:
    """Write a review whole; until then the one that was there stays."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        table = csv.DictWriter(file, _COLUMNS)
        table.writeheader()
        table.writerows({name: defuse(cell) for name, cell in asdict(row).items()} for row in rows)
    os.replace(temporary, path)


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


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, as hex.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
