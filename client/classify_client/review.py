"""`review.csv`: each miss with what might be done about it, for a person to decide and `classify-train apply` to do."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from classify_client.errors import OutputError
from classify_client.kinds import CONFIRMED, CONFUSION, UNLIKE, Finding
from classify_client.report.results import Item, Results, places
from classify_serving.folders import printable
from classify_serving.review import REVIEW, ReviewError, ReviewRow, read_review, sha256_of, write_review


def hash_items(folder: Path, items: Iterable[Item]) -> dict[str, str]:
    """SHA-256 of each file's content as hex, by path, on all cores; those that are gone are left out.

    The copy in `miss/` comes first: it is what was classified.
    """
    items = list(items)

    def digest(item: Item) -> str:
        for place in places(folder, item):
            with suppress(OSError):
                return sha256_of(place)
        return ""

    with ThreadPoolExecutor(os.cpu_count() or 1, "hash") as pool:
        digests = zip(items, pool.map(digest, items), strict=True)
        return {item.path: found for item, found in digests if found}


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


def make_review(
    results: Results,
    findings: Mapping[str, Finding],
    digests: Mapping[str, str],
    decided: Mapping[tuple[str, str], str],
    folders: Collection[str],
) -> list[ReviewRow]:
    """The misses to look at, doubtful labels first; settled ones only as far as they carry a decision.

    Args:
        results: of the run.
        findings: the kind of each miss, by path.
        digests: SHA-256 of each miss, by path; a miss without one has gone and is left out.
        decided: actions of an earlier review, by (SHA-256, label).
        folders: labels that the dataset has: what an image can be filed under.
    """
    rows = [
        _row(item, findings[item.path], digests[item.path], folders)
        for item in _in_order(results, findings)
        if item.path in digests
    ]
    rows = [replace(row, action=decided.get(row.key, "")) for row in rows]
    return [row for row in rows if row.kind != CONFIRMED or row.action]


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
        kind=finding.kind,
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
