"""After a run: make what it got wrong easy to see and to mend."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from classify_client.errors import InputError
from classify_client.kinds import CONFIRMED, Finding, find_kinds
from classify_client.progress import waiting
from classify_client.report.results import Results, read_results
from classify_client.report.write import write_report
from classify_client.review import earlier_review, hash_items, make_review, store_review
from classify_serving.contract import ModelMetadata
from classify_serving.review import CONFIRMED as CONFIRMED_FILE
from classify_serving.review import ReviewError, parse_action, read_confirmed


def look_at_mistakes(folder: Path, metadata: ModelMetadata, quiet: bool) -> None:
    """Write `review.csv` and `report.html` from what a run left in its output folder.

    Raises:
        OutputError: an earlier review cannot be read.
        InputError: a list of confirmed labels cannot be read.
    """
    with waiting("Writing the report", quiet):
        results = read_results(folder)
        digests = hash_items(folder, results.misses)
        decided = {row.key: row.action for row in earlier_review(folder) if row.action.strip()}
        findings = _settle(results, find_kinds(results), digests, decided)
        store_review(folder, make_review(results, findings, digests, decided, metadata.train_counts_before))
        write_report(results, findings)


def _settle(
    results: Results,
    findings: Mapping[str, Finding],
    digests: Mapping[str, str],
    decided: Mapping[tuple[str, str], str],
) -> dict[str, Finding]:
    """Flag nothing again that a person has looked at and kept."""
    kept = {key for key, action in decided.items() if _is_keep(action)}
    confirmed = kept | _confirmed(results.summary["arguments"]["inputs"])
    labels = {item.path: item.label for item in results.misses}
    return {
        path: Finding(CONFIRMED, finding.reason) if (digests.get(path), labels[path]) in confirmed else finding
        for path, finding in findings.items()
    }


def _is_keep(action: str) -> bool:
    try:
        parsed = parse_action(action)
    except ReviewError:
        return False
    return parsed is not None and parsed.verb == "keep"


def _confirmed(inputs: Sequence[str]) -> frozenset[tuple[str, str]]:
    try:
        return frozenset().union(*(read_confirmed(Path(given) / CONFIRMED_FILE) for given in inputs))
    except ReviewError as error:
        raise InputError(str(error)) from error
