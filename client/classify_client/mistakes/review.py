"""`review.csv`: misses and broken files, for a person to decide about and `classify-train apply` to carry it out."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from classify_client.errors import OutputError
from classify_client.mistakes.issues import Evidence, LabelIssue, find_issues, most_suspicious_first
from classify_client.results.reader import Item, Results
from classify_serving.contract.text import printable
from classify_serving.exchange import earlier_review as earlier_reviews
from classify_serving.exchange.issue_types import DUPLICATE, UNREADABLE, WRONG_LABEL
from classify_serving.exchange.review import REVIEW, ReviewError, ReviewRow, write_review


@dataclass(frozen=True)
class Review:
    """What may be wrong with the misses, and what a person has decided.

    Attributes:
        issues: the issue of each miss, by path.
        rows: the lines of `review.csv`.
        labels: those that an image can be given.
    """

    issues: Mapping[str, LabelIssue] = field(default_factory=dict)
    rows: Sequence[ReviewRow] = ()
    labels: Collection[str] = ()


def update_review(results: Results, evidence: Evidence, folders: Collection[str]) -> Review:
    """Find the issue of each miss, and write `review.csv`; earlier decisions are kept.

    Args:
        results: of the run.
        evidence: what is known about the misses.
        folders: labels of the dataset, which an image can be moved to.

    Raises:
        OutputError: the earlier review cannot be read.
        OSError: the new one cannot be written.
    """
    earlier = earlier_reviews.still_open(earlier_review(results.folder), evidence.confirmed)
    evidence = replace(evidence, confirmed={*evidence.confirmed, *earlier_reviews.kept_labels(earlier)})
    issues = find_issues(results, evidence)
    rows = make_review(results, issues, evidence, earlier, folders)
    if rows:
        write_review(results.folder / REVIEW, rows)
    else:
        (results.folder / REVIEW).unlink(missing_ok=True)
    return Review(issues, rows, folders)


def earlier_review(folder: Path) -> list[ReviewRow]:
    """The rows of the review in an output folder; none if there is no review.

    Raises:
        OutputError: it cannot be read, and may contain decisions.
    """
    try:
        return earlier_reviews.earlier_review(folder)
    except ReviewError as error:
        raise OutputError(str(error)) from error


def make_review(
    results: Results,
    issues: Mapping[str, LabelIssue],
    evidence: Evidence,
    earlier: Sequence[ReviewRow],
    folders: Collection[str],
) -> list[ReviewRow]:
    """The misses to look at, doubted labels first, and broken files; confirmed ones only if they have a decision.

    Decisions of the earlier review are kept, also for images that are no misses now, as long as these exist unchanged.
    Arguments as of `update_review`; a miss that has gone is left out.
    """
    digests, manifest = evidence.digests, evidence.manifest
    items = [item for item in most_suspicious_first(results.misses, issues) if item.row.path in digests]
    new = [_row(item, issues[item.row.path], digests[item.row.path], folders) for item in items]
    new += [_broken(item, digests[item.row.path]) for item in results.unreadable if item.row.path in digests]
    rows = earlier_reviews.keep_decisions(new, earlier)
    if manifest:
        rows = [replace(row, seen=str(manifest.is_seen(row.sha256)).lower()) for row in rows]
    return rows


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


def _broken(item: Item, digest: str) -> ReviewRow:
    return ReviewRow(
        path=item.row.path,
        label=item.row.true_label,
        issue_type=UNREADABLE,
        reason=item.row.error,
        sha256=digest,
        file=printable(str(item.file.absolute())),
    )


def _proposal(predicted: str, issue: LabelIssue, folders: Collection[str]) -> str:
    """The action that is most often right for an issue type; empty where only a person can decide."""
    # A class that others were merged into does not always have a folder.
    label = issue.label or predicted
    is_clear = issue.type in (WRONG_LABEL, DUPLICATE) and not issue.is_conflict
    return f"relabel:{label}" if is_clear and label in folders else ""
