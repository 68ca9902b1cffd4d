"""What an audit leaves behind: `review.csv`, for decisions, and `report.html`, the page to decide on."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from markupsafe import Markup

from classify_serving.contract.text import printable
from classify_serving.exchange.earlier_review import earlier_review, keep_decisions, still_open
from classify_serving.exchange.issue_types import ISSUE_TYPES
from classify_serving.exchange.review import REVIEW, ReviewRow, write_review
from classify_serving.files import replace_file
from classify_serving.review_page.page import PageRow, page_data, page_part, page_script, security_policy
from classify_training.audit.audit import Audit
from classify_training.audit.output_folder import opened
from classify_training.audit.review_rows import page_rows, review_rows
from classify_training.audit.similar_images import SimilarImages
from classify_training.html_pages import page_templates

AUDIT_PAGE: Final = "report.html"

_PACKAGE: Final = "classify_training.audit"


def write_audit(audit: Audit, folder: Path, quiet: bool = False) -> Path:
    """Write the review and its page; decisions of an earlier review in the folder are kept.

    Args:
        audit: the result.
        folder: where to write.
        quiet: whether to show no progress.

    Returns:
        The page.

    Raises:
        RunError: the folder cannot be written, another command writes to it, or its review cannot be read.
        Interrupted: a signal arrived.
    """
    with opened(folder):
        dataset = audit.judged.dataset
        earlier = still_open(earlier_review(folder), audit.confirmed)
        rows = keep_decisions(review_rows(dataset, audit.findings), earlier)
        similar = SimilarImages(audit.judged, audit.images)
        shown = list(page_rows(dataset, audit.findings, rows, similar, quiet))
        page = _render(audit, folder, rows, shown)
        write_review(folder / REVIEW, rows)
        replace_file(folder / AUDIT_PAGE, page.encode())
    return folder / AUDIT_PAGE


def _render(audit: Audit, folder: Path, rows: Sequence[ReviewRow], shown: Sequence[PageRow]) -> str:
    environment = page_templates(_PACKAGE)
    environment.filters["percent"] = lambda share: f"{share:.0%}"
    script = page_script()
    style = (Path(__file__).parent / "page" / "audit.css").read_text(encoding="utf-8") + page_part("decide.css")
    return environment.get_template("audit.html.j2").render(
        dataset=printable(str(audit.judged.dataset.root)),
        images=len(audit.judged.dataset.examples),
        labels=len(audit.judged.labels),
        accuracy=audit.judged.scores.accuracy,
        stage=audit.judged.scores.choice.stage,
        test=audit.test,
        weakness=audit.judged.weakness,
        counts=issue_counts(row.issue_type for row in rows),
        names=ISSUE_TYPES,
        rows=[row.row for row in shown],
        more=max(0, len(rows) - len(shown)),
        policy=Markup(security_policy(script)),
        # Our own files, without any text from the dataset; the data cannot end their element.
        style=Markup(style),
        script=Markup(script),
        section=Markup(page_part("decide.html")),
        data=Markup(page_data(shown, audit.judged.labels, folder)),
    )


def issue_counts(issues: Iterable[str]) -> Mapping[str, int]:
    """How often each issue type occurs, without those that do not."""
    counts = Counter(issues)
    return {name: counts[name] for name in ISSUE_TYPES if counts[name]}
