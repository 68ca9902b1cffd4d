"""`review.csv`: each miss with what might be done about it, for a person to decide and `classify-train apply` to do."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from classify_client.errors import OutputError
from classify_client.mistakes.kinds import CONFIRMED, CONFUSION, UNLIKE, Finding
from classify_client.results.reader import Item, Results
from classify_serving.contract.text import printable
from classify_serving.exchange.review import (
    REVIEW,
    Action,
    ReviewError,
    ReviewRow,
    parse_action,
    read_review,
    write_review,
)
from classify_serving.files import sha256_of


def earlier_review(folder: Path) -> list[ReviewRow]:
    """The rows of the review in an output folder; none if there is none.

    Raises:
        OutputError: it cannot be read, and might hold decisions.
    """
    path = folder / REVIEW
    if not path.exists():
        return []
    try:
        return read_review(path)
    except ReviewError as error:
        raise OutputError(f"{error}, or move it: it would be overwritten") from error


def kept(rows: Sequence[ReviewRow]) -> frozenset[tuple[str, str]]:
    """(SHA-256, label) of the rows that keep the label."""
    return frozenset(row.key for row in rows if _is_keep(row.action))


def _is_keep(action: str) -> bool:
    try:
        return parse_action(action) == Action("keep")
    except ReviewError:
        return False


def make_review(
    results: Results,
    findings: Mapping[str, Finding],
    digests: Mapping[str, str],
    earlier: Sequence[ReviewRow],
    folders: Collection[str],
) -> list[ReviewRow]:
    """The misses to look at, doubtful labels first; settled ones only as far as they carry a decision.

    Args:
        results: of the run.
        findings: the kind of each miss, by path.
        digests: SHA-256 of each miss, by path; a miss without one has gone and is left out.
        earlier: rows of an earlier review. What was decided there stays, also about files that are no misses now, as
            long as they are where they were.
        folders: labels that the dataset has: what an image can be filed under.
    """
    decided = {row.key: row for row in earlier if row.action.strip()}
    items = [item for item in _in_order(results, findings) if item.path in digests]
    rows = [_row(item, findings[item.path], digests[item.path], folders) for item in items]
    rows = [replace(row, action=decided[row.key].action if row.key in decided else "") for row in rows]
    rows = [row for row in rows if row.issue_type != CONFIRMED or row.action]
    listed = {row.key for row in rows}
    return rows + [row for row in decided.values() if row.key not in listed and _is_there(row)]


def _is_there(row: ReviewRow) -> bool:
    with suppress(OSError):
        return sha256_of(Path(row.file)) == row.sha256
    return False


def _in_order(results: Results, findings: Mapping[str, Finding]) -> Sequence[Item]:
    def doubt(item: Item) -> tuple[int, float, str]:
        kind = findings[item.path].kind
        rank = {CONFUSION: 2, UNLIKE: 1, CONFIRMED: 3}.get(kind, 0)
        return rank, item.probability_of(item.true) - item.probability, item.path

    return sorted(results.misses, key=doubt)


def _row(item: Item, finding: Finding, digest: str, folders: Collection[str]) -> ReviewRow:
    return ReviewRow(
        path=item.path,
        label=item.label,
        predicted=item.predicted,
        probability=f"{item.probability:.4f}",
        issue_type=finding.kind,
        reason=finding.reason,
        proposed=_proposal(item, finding, folders),
        sha256=digest,
        file=printable(str(item.file.absolute())),
    )


def _proposal(item: Item, finding: Finding, folders: Collection[str]) -> str:
    """What is most often right for a kind; nothing where only a person can tell."""
    if finding.kind in (CONFUSION, CONFIRMED):
        return "keep"
    # A class that others were merged into need not have a folder of its own.
    label = finding.label or item.predicted
    return f"relabel:{label}" if finding.kind != UNLIKE and label in folders else ""


def store_review(folder: Path, rows: Sequence[ReviewRow]) -> None:
    """Write `review.csv`, or remove one that has nothing more to say."""
    if rows:
        write_review(folder / REVIEW, rows)
    else:
        (folder / REVIEW).unlink(missing_ok=True)
