"""The folders of images to look at: `miss/` with wrong predictions, `review/` with uncertain ones."""

from collections.abc import Callable, Collection
from pathlib import Path

import msgspec

from classify_client.inputs.source import Source
from classify_client.results.rows import Row
from classify_serving.contract.images import ImageError
from classify_serving.exchange.misses import MISS, REVIEW, CopyFolder, MissFolder, review_name


class ImageCopies:
    """Both folders of a run, each created with its first image.

    Args:
        output: the output folder.
        link: make hard links instead of copies.
        by_pair: a folder in `miss/` for each pair of classes.
        review_below: images with a lower probability go into `review/`; None for no such folder.
    """

    def __init__(self, output: Path, link: bool, by_pair: bool, review_below: float | None) -> None:
        self._review_below = review_below
        self._misses = MissFolder(output, link, by_pair)
        self._review = CopyFolder(output / REVIEW, link)
        self._folders: dict[str, CopyFolder] = {MISS: self._misses, REVIEW: self._review}
        for folder in self._folders.values():
            folder.remove_partial()

    def add(self, row: Row, source: Source, wanted: Collection[str] = (MISS, REVIEW)) -> Row:
        """Copy an image to those of some folders where its row belongs; gives the row with the names of the copies.

        Raises:
            OSError: a copy cannot be written.
        """
        miss = review = ""
        if row.is_miss and MISS in wanted:
            miss = _unless_gone(
                source, lambda: self._misses.add(source.original, row.true_class, row.predicted, source.file_name)
            )
        if row.is_below(self._review_below) and REVIEW in wanted:
            name = review_name(row.probability, row.predicted, source.file_name)
            review = _unless_gone(source, lambda: self._review.put(source.original, name))
        return (
            row if (miss, review) == (row.miss, row.review) else msgspec.structs.replace(row, miss=miss, review=review)
        )

    def remove(self, name: str) -> None:
        """Remove a copy of an earlier run, named by its path in the output folder."""
        folder, _, name = name.partition("/")
        self._folders[folder].remove(name)


def _unless_gone(source: Source, copy: Callable[[], str]) -> str:
    """Make a copy; if the original was deleted after it was classified, its answer stands without one."""
    try:
        return copy()
    except (OSError, ImageError):
        if source.exists():
            raise
        return ""
