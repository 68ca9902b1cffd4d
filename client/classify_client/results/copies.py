"""The folders of images worth a look: `miss/` of those the model got wrong, `review/` of those it was unsure of."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from classify_client.inputs.sources import Source
from classify_client.results.rows import OK, Row
from classify_serving.contract.images import ImageError
from classify_serving.exchange.misses import MISS, REVIEW, CopyFolder, MissFolder, review_name


class Collections:
    """Both folders of a run, each made when its first image comes.

    Args:
        output: the folder they are in.
        link: hard links instead of copies.
        by_pair: a folder in `miss/` for each pair of classes.
        review_below: images of a lower probability go into `review/`; None for none.
    """

    def __init__(self, output: Path, link: bool, by_pair: bool, review_below: float | None) -> None:
        self._review_below = review_below
        self._misses = MissFolder(output, link, by_pair)
        self._review = CopyFolder(output / REVIEW, link)
        self._folders: dict[str, CopyFolder] = {MISS: self._misses, REVIEW: self._review}
        for folder in self._folders.values():
            folder.remove_partial()

    def collect(self, row: Row, source: Source) -> Row:
        """Copy an image where its row says it belongs; gives the row with the names of the copies.

        Raises:
            OSError: a copy cannot be written.
        """
        miss = review = ""
        if row.is_miss:
            miss = _unless_gone(
                source, lambda: self._misses.add(source.original, row.true_class, row.predicted, source.file_name)
            )
        if self._is_unsure(row):
            name = review_name(float(row.probability), row.predicted, source.file_name)
            review = _unless_gone(source, lambda: self._review.put(source.original, name))
        return replace(row, miss=miss, review=review)

    def _is_unsure(self, row: Row) -> bool:
        # A probability that is no number is not above anything.
        return self._review_below is not None and row.status == OK and not float(row.probability) >= self._review_below

    def remove(self, name: str) -> None:
        """Remove a copy of an earlier run, named by its path in the output folder."""
        folder, _, name = name.partition("/")
        self._folders[folder].remove(name)


def _unless_gone(source: Source, copy: Callable[[], str]) -> str:
    """Make a copy; none of a file that went away after it was classified: the answer stands without."""
    try:
        return copy()
    except (OSError, ImageError):
        if source.is_there():
            raise
        return ""
