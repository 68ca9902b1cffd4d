"""`review.csv`: each miss with a proposed action, for a person to decide and `classify-train apply` to carry out."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from classify_client.errors import OutputError
from classify_client.mistakes.issues import (
    CONFIRMED,
    CONFUSION,
    OUTLIER,
    Evidence,
    LabelIssue,
    find_issues,
    most_suspicious_first,
)
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


def update_review(results: Results, evidence: Evidence, folders: Collection[str]) -> dict[str, LabelIssue]:
    """Find the issue of each miss, and write `review.csv`; earlier decisions are kept.

    Args:
        results: of the run.
        evidence: what is known about the misses.
        folders: labels of the dataset, which an image can be moved to.

    Returns:
        The issue of each miss, by path.

    Raises:
        OutputError: the earlier review cannot be read.
        OSError: the new one cannot be written.
    """
    earlier = earlier_review(results.folder)
    evidence = replace(evidence, confirmed={*evidence.confirmed, *kept_labels(earlier)})
    issues = find_issues(results, evidence)
    rows = make_review(results, issues, evidence, earlier, folders)
    if rows:
        write_review(results.folder / REVIEW, rows)
    else:
        (results.folder / REVIEW).unlink(missing_ok=True)
    return issues


def earlier_review(folder: Path) -> list[ReviewRow]:
    """The rows of the review in an output folder; none if there is no review.

    Raises:
        OutputError: it cannot be read, and may contain decisions.
    """
    path = folder / REVIEW
    if not path.exists():
        return []
    try:
        return read_review(path)
    except ReviewError as error:
        raise OutputError(f"{error}, or move it: this run would overwrite it") from error


def kept_labels(rows: Sequence[ReviewRow]) -> frozenset[tuple[str, str]]:
    """(SHA-256, label) of the rows whose decision is to keep the label."""
    return frozenset(row.key for row in rows if _is_keep(row.action))


def _is_keep(action: str) -> bool:
    try:
        return parse_action(action) == Action("keep")
    except ReviewError:
        return False


def make_review(
    results: Results,
    issues: Mapping[str, LabelIssue],
    evidence: Evidence,
    earlier: Sequence[ReviewRow],
    folders: Collection[str],
) -> list[ReviewRow]:
    """The misses to look at, doubted labels first; confirmed ones only if they have a decision.

    Decisions of the earlier review are kept, also for images that are no misses now, as long as these exist unchanged.
    Arguments as of `update_review`; a miss that has gone is left out.
    """
    digests, manifest = evidence.digests, evidence.manifest
    by_key: dict[tuple[str, str], list[ReviewRow]] = defaultdict(list)
    for row in earlier:
        by_key[row.key].append(row)
    items = [item for item in most_suspicious_first(results.misses, issues) if item.row.path in digests]
    rows = [_row(item, issues[item.row.path], digests[item.row.path], folders) for item in items]
    own = {row.path: _same_file(row, by_key[row.key]) for row in rows}
    rows = [replace(row, action=_earlier_action(own[row.path], by_key[row.key])) for row in rows]
    rows = [row for row in rows if row.issue_type != CONFIRMED or row.action]
    listed = {id(row) for row in own.values()}
    rows += [row for row in earlier if row.action.strip() and id(row) not in listed and _exists(row)]
    if manifest:
        rows = [replace(row, seen=str(manifest.is_seen(row.sha256)).lower()) for row in rows]
    return rows


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
    with suppress(OSError):
        return sha256_of(Path(row.file)) == row.sha256
    return False


def _row(item: Item, issue: LabelIssue, digest: str, folders: Collection[str]) -> ReviewRow:
    return ReviewRow(
        path=item.row.path,
        label=item.row.true_label,
        predicted=item.row.predicted,
        probability=f"{item.row.probability:.4f}",
        issue_type=issue.type,
        reason=issue.reason,
        proposed=_proposal(item.row.predicted, issue, folders),
        sha256=digest,
        file=printable(str(item.file.absolute())),
    )


def _proposal(predicted: str, issue: LabelIssue, folders: Collection[str]) -> str:
    """The action that is most often right for an issue type; empty where only a person can decide."""
    if issue.is_conflict and issue.type != CONFIRMED:
        return ""
    if issue.type in (CONFUSION, CONFIRMED):
        return "keep"
    # A class that others were merged into does not always have a folder.
    label = issue.label or predicted
    return f"relabel:{label}" if issue.type != OUTLIER and label in folders else ""
