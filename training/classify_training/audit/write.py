"""What an audit leaves behind: `review.csv`, for decisions, and `report.html`, the page to decide on."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from markupsafe import Markup
from PIL import Image

from classify_serving.contract.images import ImageError
from classify_serving.contract.text import printable
from classify_serving.exchange.earlier_review import earlier_review, keep_decisions
from classify_serving.exchange.issue_types import ISSUE_TYPES
from classify_serving.exchange.review import REVIEW, ReviewRow, write_review
from classify_serving.files import replace_file, sha256_if_readable
from classify_serving.review_page.page import PageRow, SimilarImage, page_data, page_part, page_script, security_policy
from classify_serving.review_page.thumbnails import small, thumbnail
from classify_training.audit.audit import Audit
from classify_training.audit.findings import Finding
from classify_training.audit.output_folder import opened
from classify_training.audit.similar_images import SimilarImages
from classify_training.html_pages import page_templates
from classify_training.progress import track

AUDIT_PAGE: Final = "report.html"

_MOST_BYTES: Final = 8_000_000
"""Of all thumbnails together, so that the page can be sent by mail."""
_MOST_LISTED: Final = 4000
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
        rows = keep_decisions((_row(audit, finding) for finding in audit.findings), earlier_review(folder))
        page = _render(audit, list(_page_rows(audit, rows, quiet)))
        write_review(folder / REVIEW, rows)
        replace_file(folder / AUDIT_PAGE, page.encode())
    return folder / AUDIT_PAGE


def _row(audit: Audit, finding: Finding) -> ReviewRow:
    probability = finding.probability
    return ReviewRow(
        path=audit.judged.dataset.relative_path(finding.file.path),
        label=finding.file.label,
        predicted=finding.suggested,
        probability="" if probability is None else f"{probability:.4f}",
        issue_type=finding.issue,
        reason=finding.reason,
        proposed=f"relabel:{finding.suggested}" if finding.is_proposed else "",
        sha256=finding.digest or sha256_if_readable(finding.file.path),
        file=printable(str(finding.file.path.absolute())),
    )


def _page_rows(audit: Audit, rows: Sequence[ReviewRow], quiet: bool) -> Iterator[PageRow]:
    """The rows with pictures, as many as have room; of an image that is no longer suspicious there is only the row."""
    findings = {
        (audit.judged.dataset.relative_path(finding.file.path), finding.file.label): finding
        for finding in audit.findings
    }
    copies: dict[str, list[str]] = {}
    for row in rows:
        copies.setdefault(row.sha256, []).append(row.path)
    pictures, similar = _Pictures(audit), SimilarImages(audit.judged, audit.images).most_similar
    for row in track(rows[:_MOST_LISTED], min(len(rows), _MOST_LISTED), "Thumbnails", quiet):
        finding = findings.get((row.path, row.label))
        if finding is None or finding.place is None:
            yield PageRow(row=row)
            continue
        nearest = [pictures.similar(place) for place in similar(finding)] if pictures.have_room else []
        yield PageRow(
            row=row,
            picture=pictures.of(finding.place, finding.file.path) if pictures.have_room else "",
            href=finding.file.path.absolute().as_uri(),
            top=finding.top,
            nearest=nearest,
            same=[path for path in copies[row.sha256] if path != row.path],
        )


class _Pictures:
    """Thumbnails of a dataset's images, up to a size of all together."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._bytes = 0

    @property
    def have_room(self) -> bool:
        """Whether another one may be made."""
        return self._bytes < _MOST_BYTES

    def of(self, place: int, path: Path) -> str:
        """The thumbnail of one image as data URI."""
        try:
            with path.open("rb") as file:
                made = thumbnail(file)
        except (OSError, ImageError):
            # It was deleted meanwhile: what was judged is still there.
            made = small(Image.fromarray(self._audit.judged.dataset.pixels(np.array([place]))[0]))
        self._bytes += len(made)
        return made

    def similar(self, place: int) -> SimilarImage:
        """An image to compare with."""
        file = self._audit.judged.dataset.examples[place].file
        return SimilarImage(self.of(place, file.path), self._audit.judged.dataset.relative_path(file.path), file.label)


def _render(audit: Audit, rows: Sequence[PageRow]) -> str:
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
        counts=issue_counts(audit.findings),
        names=ISSUE_TYPES,
        rows=[row.row for row in rows],
        more=max(0, len(audit.findings) - len(rows)),
        policy=Markup(security_policy(script)),
        # Our own files, without any text from the dataset; the data cannot end their element.
        style=Markup(style),
        script=Markup(script),
        section=Markup(page_part("decide.html")),
        data=Markup(page_data(rows, audit.judged.labels)),
    )


def issue_counts(findings: Sequence[Finding]) -> Mapping[str, int]:
    """Number of findings of each issue type that occurs."""
    counts: Counter[str] = Counter(finding.issue for finding in findings)
    return {name: counts[name] for name in ISSUE_TYPES if counts[name]}
