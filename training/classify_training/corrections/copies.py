"""The copies of each content in a dataset, and which of them a row of a review is about."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from classify_serving.contract.folders import folder_label
from classify_serving.contract.text import printable
from classify_serving.exchange.review import ReviewRow
from classify_serving.files import sha256_of
from classify_training.corrections.decisions import Decision
from classify_training.data.examples import ImageFile
from classify_training.progress import track_in_threads


@dataclass(frozen=True)
class ImageCopy:
    """A file of the dataset.

    Attributes:
        path: relative to the dataset, with `/` separators.
        label: its label.
    """

    path: str
    label: str


@dataclass(frozen=True)
class Match:
    """The files that a row of a review is about.

    Attributes:
        copies: files with the row's content and label.
        is_moved: whether the row's own file was moved by an earlier `apply`; then there are no copies.
    """

    copies: tuple[ImageCopy, ...]
    is_moved: bool = False


class DatasetCopies:
    """The copies of each content in a dataset."""

    def __init__(
        self, dataset: Path, files: Sequence[ImageFile], moved: Collection[tuple[str, str]], quiet: bool
    ) -> None:
        """Read all files of a dataset; those that cannot be read are left out.

        Args:
            dataset: the dataset's folder.
            files: its files.
            moved: (SHA-256, former path) of files that were moved by an earlier `apply`.
            quiet: whether to show no progress bar.
        """
        self._dataset = dataset
        self._copies: dict[str, list[ImageCopy]] = defaultdict(list)
        digests = track_in_threads(_digest, files, "Reading the dataset", quiet)
        for file, digest in zip(files, digests, strict=True):
            self._copies[digest].append(ImageCopy(file.path.relative_to(dataset).as_posix(), file.label))
        self._copies.pop("", None)
        place = 1 if any(file.split for file in files) else 0
        self._moved: dict[str, list[ImageCopy]] = defaultdict(list)
        for digest, path in moved:
            self._moved[digest].append(ImageCopy(path, folder_label(PurePosixPath(path).parts[place])))

    def of(self, sha256: str) -> Sequence[ImageCopy]:
        """All files with a content."""
        return self._copies.get(sha256, ())

    def match(self, decisions: Iterable[Decision]) -> list[Match]:
        """Find the files that each row is about: those with its content and label.

        If one of them has the path of the row, it is the only one. A row with another path, as after classifying
        copies of the images elsewhere, is about all files that are not those of other rows. Files without a row follow
        one that is relabelled: left behind, they would have the wrong label, and the picture two labels.
        """
        groups: dict[tuple[str, str], list[Decision]] = defaultdict(list)
        for decision in decisions:
            groups[decision.row.sha256, decision.label].append(decision)
        found: dict[int, Match] = {}
        for (digest, label), group in groups.items():
            found |= self._match_group(group, _with_label(self.of(digest), label), self._moved_from(digest, label))
        return [found[line] for line in sorted(found)]

    def _match_group(
        self, group: Sequence[Decision], copies: Sequence[ImageCopy], moved: Sequence[ImageCopy]
    ) -> Mapping[int, Match]:
        own = {decision.line: self._with_path(decision.row, copies) for decision in group}
        claimed = {copy for matched in own.values() for copy in matched}
        others = tuple(copy for copy in copies if copy not in claimed)
        found: dict[int, Match] = {}
        for decision in group:
            if own[decision.line]:
                found[decision.line] = Match(own[decision.line])
            elif self._with_path(decision.row, moved):
                found[decision.line] = Match((), is_moved=True)
            else:
                found[decision.line] = Match(others)
        are_left = all(own[decision.line] or found[decision.line].is_moved for decision in group)
        relabelled = next((each for each in group if own[each.line] and each.is_relabelled), None)
        if relabelled and are_left:
            found[relabelled.line] = Match((*own[relabelled.line], *others))
        return found

    def _moved_from(self, digest: str, label: str) -> Sequence[ImageCopy]:
        return _with_label(self._moved.get(digest, ()), label)

    def _with_path(self, row: ReviewRow, copies: Sequence[ImageCopy]) -> tuple[ImageCopy, ...]:
        """The copies with the path of a row: its absolute path, or else its path relative to the input folder."""
        file = _absolute(Path(row.file)) if row.file else None
        tests: tuple[Callable[[str], bool], ...] = (
            lambda path: _absolute(self._dataset / path) == file,
            lambda path: printable(path) == row.path,
            # The input folder may be a folder of the dataset, such as a split.
            lambda path: bool(row.path) and printable(path).endswith(f"/{row.path}"),
        )
        matches = (tuple(copy for copy in copies if is_same(copy.path)) for is_same in tests)
        return next((matched for matched in matches if matched), ())


def _absolute(path: Path) -> str:
    """The absolute path as reviews contain it; the file itself may be a link, which is not followed."""
    return printable(str(path.parent.resolve() / path.name))


def _with_label(copies: Iterable[ImageCopy], label: str) -> list[ImageCopy]:
    return [copy for copy in copies if copy.label == label]


def _digest(file: ImageFile) -> str:
    try:
        return sha256_of(file.path)
    except OSError:
        return ""
