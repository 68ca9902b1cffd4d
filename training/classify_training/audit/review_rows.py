"""Findings as lines of `review.csv`, and as images on a page to decide about."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from classify_serving.contract.images import ImageError
from classify_serving.contract.text import printable
from classify_serving.exchange.review import ReviewRow
from classify_serving.files import sha256_if_readable
from classify_serving.review_page.page import PageRow, SimilarImage
from classify_serving.review_page.thumbnails import small, thumbnail
from classify_training.audit.findings import Finding
from classify_training.audit.similar_images import SimilarImages
from classify_training.data.dataset import Dataset
from classify_training.progress import track

_MOST_BYTES: Final = 8_000_000
"""Of all thumbnails together, so that the page can be sent by mail."""
_MOST_LISTED: Final = 4000


def review_rows(dataset: Dataset, findings: Iterable[Finding]) -> Iterator[ReviewRow]:
    """The lines of a review, without decisions.

    Args:
        dataset: the dataset that the findings are about.
        findings: the most suspicious first.
    """
    for finding in findings:
        probability = finding.probability
        yield ReviewRow(
            path=dataset.relative_path(finding.file.path),
            label=finding.file.label,
            predicted=finding.suggested,
            probability="" if probability is None else f"{probability:.4f}",
            issue_type=finding.issue,
            reason=finding.reason,
            proposed=f"relabel:{finding.suggested}" if finding.is_proposed else "",
            sha256=finding.digest or sha256_if_readable(finding.file.path),
            file=printable(str(finding.file.path.absolute())),
        )


def page_rows(
    dataset: Dataset,
    findings: Iterable[Finding],
    rows: Sequence[ReviewRow],
    similar: SimilarImages | None = None,
    quiet: bool = False,
    cards: Mapping[int, str] | None = None,
) -> Iterator[PageRow]:
    """The rows with pictures, as many as have room; of an image that is no longer suspicious there is only the row.

    Args:
        dataset: the dataset that the findings are about.
        findings: what may be wrong.
        rows: of the review, in the order in which to decide.
        similar: images of the suggested label to compare with; None for none.
        quiet: whether to show no progress.
        cards: place of an image -> id of the element of the page that shows it already.
    """
    by_row = {(dataset.relative_path(finding.file.path), finding.file.label): finding for finding in findings}
    copies: dict[str, list[str]] = {}
    for row in rows:
        copies.setdefault(row.sha256, []).append(row.path)
    pictures = Pictures(dataset)
    for row in track(rows[:_MOST_LISTED], min(len(rows), _MOST_LISTED), "Thumbnails", quiet):
        finding = by_row.get((row.path, row.label))
        if finding is None or not finding.digest:
            yield PageRow(row=row)
            continue
        card = (cards or {}).get(-1 if finding.place is None else finding.place, "")
        nearest = similar.most_similar(finding) if similar and pictures.have_room else []
        yield PageRow(
            row=row,
            picture=pictures.of(finding.place, finding.file.path) if pictures.have_room and not card else "",
            card=card,
            href=finding.file.path.absolute().as_uri(),
            top=finding.top,
            nearest=[pictures.similar(place) for place in nearest],
            same=[path for path in copies[row.sha256] if path != row.path],
        )


class Pictures:
    """Thumbnails of a dataset's images, up to a size of all together."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._bytes = 0

    @property
    def have_room(self) -> bool:
        """Whether another one may be made."""
        return self._bytes < _MOST_BYTES

    def of(self, place: int | None, path: Path) -> str:
        """The thumbnail of one image as data URI; empty if it has gone.

        Args:
            place: its number among the examples of the dataset, whose pixels are kept; None if it is none of them.
            path: its file.
        """
        try:
            with path.open("rb") as file:
                made = thumbnail(file)
        except (OSError, ImageError):
            if place is None:
                return ""
            # It was deleted meanwhile: what was judged is still there.
            made = small(Image.fromarray(self._dataset.pixels(np.array([place]))[0]))
        self._bytes += len(made)
        return made

    def similar(self, place: int) -> SimilarImage:
        """An image to compare with."""
        file = self._dataset.examples[place].file
        return SimilarImage(self.of(place, file.path), self._dataset.relative_path(file.path), file.label)
