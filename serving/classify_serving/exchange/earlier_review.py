"""The review that a folder already has: its decisions are kept when a new one is written."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from classify_serving.exchange.issue_types import CONFIRMED
from classify_serving.exchange.review import REVIEW, Action, ReviewError, ReviewRow, parse_action, read_review
from classify_serving.files import sha256_of

_NO_LONGER: Final = "decided before; not doubted this time"


def earlier_review(folder: Path) -> list[ReviewRow]:
    """The rows of the review in an output folder; none if there is no review.

    Raises:
        ReviewError: it cannot be read, and may contain decisions.
    """
    path = folder / REVIEW
    if not path.exists():
        return []
    try:
        return read_review(path)
    except ReviewError as error:
        raise ReviewError(f"{error}, or move it: this run would overwrite it") from error


def kept_labels(rows: Sequence[ReviewRow]) -> frozenset[tuple[str, str]]:
    """(SHA-256, label) of the rows whose decision is to keep the label."""
    return frozenset(row.key for row in rows if _is_keep(row.action))


def _is_keep(action: str) -> bool:
    try:
        return parse_action(action) == Action("keep")
    except ReviewError:
        return False


def still_open(rows: Sequence[ReviewRow], confirmed: Collection[tuple[str, str]]) -> list[ReviewRow]:
    """The rows without those whose kept label is confirmed in the dataset, (SHA-256, label): these are carried out."""
    return [row for row in rows if not (row.key in confirmed and _is_keep(row.action))]


def keep_decisions(rows: Iterable[ReviewRow], earlier: Sequence[ReviewRow]) -> list[ReviewRow]:
    """New rows with the decisions of earlier ones; confirmed labels are listed only with a decision.

    Earlier decisions about images that are not among the new rows follow, as long as these exist unchanged. Why they
    were doubted then is left out.
    """
    by_key: dict[tuple[str, str], list[ReviewRow]] = defaultdict(list)
    for row in earlier:
        by_key[row.key].append(row)
    listed: set[int] = set()
    kept: list[ReviewRow] = []
    for row in rows:
        own = _same_file(row, by_key[row.key])
        if own:
            listed.add(id(own))
        decided = replace(row, action=_earlier_action(own, by_key[row.key]))
        if decided.issue_type != CONFIRMED or decided.action:
            kept.append(decided)
    for row in earlier:
        if row.action.strip() and id(row) not in listed and _exists(row):
            kept.append(replace(row, predicted="", probability="", proposed="", reason=_NO_LONGER))
    return kept


def _same_file(row: ReviewRow, earlier: Sequence[ReviewRow]) -> ReviewRow | None:
    """The earlier row of the same file, which has its path or its absolute path."""
    for same in (lambda other: other.path == row.path, lambda other: other.file == row.file):
        if found := next(filter(same, earlier), None):
            return found
    return None


def _earlier_action(own: ReviewRow | None, earlier: Sequence[ReviewRow]) -> str:
    """The earlier decision about a file, which it keeps when it is renamed.

    Args:
        own: its own earlier row, if it had one.
        earlier: the earlier rows with its content and label; a copy does not take the decision of another one.
    """
    if own:
        return own.action
    actions = {row.action for row in earlier if row.action.strip() and not _exists(row)}
    return actions.pop() if len(actions) == 1 else ""


def _exists(row: ReviewRow) -> bool:
    with suppress(OSError, ValueError):
        return sha256_of(Path(row.file)) == row.sha256
    return False
