"""From a review to changes of the dataset: decided, checked and shown before anything is moved."""

import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from classify_serving.contract.folders import folder_label
from classify_serving.exchange.review import (
    CONFIRMED,
    Action,
    ReviewError,
    ReviewRow,
    parse_action,
    read_confirmed,
    read_review,
)
from classify_serving.files import sha256_of
from classify_training.corrections.journal import FOLDER, TRASH, Change
from classify_training.data.dataset import scan
from classify_training.data.examples import ImageFile
from classify_training.errors import MendError
from classify_training.progress import track_in_threads


@dataclass(frozen=True, kw_only=True)
class MendConfig:
    """What the user asks for.

    Attributes:
        review: the file with the decisions.
        dataset: what they are applied to.
        add: copy images into the dataset that are not in it.
        create: file under labels that the dataset does not have yet.
        accept: kinds of miss whose proposed action is taken where none is decided.
        quiet: no progress bar.
    """

    review: Path
    dataset: Path
    add: bool
    create: bool
    accept: Collection[str]
    quiet: bool


@dataclass
class Mending:
    """What is to be done.

    Attributes:
        changes: in this order.
        settled: rows that ask for nothing that is not so already.
        undecided: rows without an action.
        outside: rows that relabel an image which is not in the dataset, and would be added with `add`.
    """

    changes: list[Change] = field(default_factory=list)
    settled: int = 0
    undecided: int = 0
    outside: list[ReviewRow] = field(default_factory=list)


def plan_mending(config: MendConfig, name: str) -> Mending:
    """Decide what the review asks for, without touching anything.

    Args:
        config: what is asked.
        name: of the journal's entry, for the trash.

    Raises:
        MendError: the review cannot be read, contradicts itself or names an unknown class; or a file changed since it
            was classified.
        DatasetError: the dataset cannot be listed.
    """
    files = scan(config.dataset)
    try:
        decisions = list(_decisions(config))
        planner = _Planner(config, name, files)
    except ReviewError as error:
        raise MendError(str(error)) from error
    _check_contradictions([decision for decision in decisions if decision[1]])
    _check_labels(config, {action.label for _, action in decisions if action and action.label}, files)
    for row, action in decisions:
        if action is None:
            planner.mending.undecided += 1
        else:
            planner.plan(row, action)
    return planner.mending


def _decisions(config: MendConfig) -> Iterator[tuple[ReviewRow, Action | None]]:
    for line, row in enumerate(read_review(config.review), start=2):
        try:
            action = parse_action(row.action)
            if action is None and row.issue_type in config.accept:
                action = parse_action(row.proposed)
        except ReviewError as error:
            raise ReviewError(f"{config.review}, line {line}: {error}") from error
        yield row, action


def _check_contradictions(decisions: Sequence[tuple[ReviewRow, Action | None]]) -> None:
    wanted: dict[str, tuple[ReviewRow, str | None]] = {}
    for row, action in decisions:
        label = _wanted_label(row, action) if action else None
        first, other = wanted.setdefault(row.sha256, (row, label))
        if label != other:
            raise MendError(
                f"{first.path} and {row.path} are the same picture and are to become two things: decide for one"
            )


def _wanted_label(row: ReviewRow, action: Action) -> str | None:
    """The label an image is to have; None if it is to go."""
    return None if action.verb == "delete" else folder_label(action.label) or row.label


def _check_labels(config: MendConfig, wanted: Collection[str], files: Sequence[ImageFile]) -> None:
    for label in sorted(wanted):
        if "/" in label or os.sep in label or label.startswith("."):
            raise MendError(f"{label} cannot be the name of a class's folder: correct the column action")
    known = {file.label for file in files}
    unknown = sorted({folder_label(label) for label in wanted} - known)
    if unknown and not config.create:
        raise MendError(
            f"{config.dataset} has no class {unknown[0]}: correct the column action, or make it with --create"
        )


class _Planner:
    """The files of a dataset by content, and the changes found so far."""

    def __init__(self, config: MendConfig, name: str, files: Sequence[ImageFile]) -> None:
        self.mending = Mending()
        self._config, self._name = config, name
        self._files = _by_content(files, config.quiet)
        self._folders = {file.label: _label_folder(config.dataset, file) for file in reversed(files)}
        self._confirmed = read_confirmed(config.dataset / CONFIRMED)
        self._has_splits = any(file.split for file in files)
        self._taken: set[str] = set()

    def plan(self, row: ReviewRow, action: Action) -> None:
        """Add what one row asks for."""
        before = len(self.mending.changes), len(self.mending.outside)
        inside = self._files.get(row.sha256, [])
        label = _wanted_label(row, action)
        for file in inside:
            if label is None:
                self._move(file, row.sha256, f"{FOLDER}/{TRASH}/{self._name}/{self._relative(file.path)}")
            elif file.label != label:
                self._move(file, row.sha256, self._relabelled(file, label))
        if not inside and self._is_there(row) and label is not None:
            self._add(row, label, action)
        if label is not None and (row.sha256, label) not in self._confirmed:
            self.mending.changes.append(Change("confirm", row.sha256, label))
        self.mending.settled += (len(self.mending.changes), len(self.mending.outside)) == before

    def _is_there(self, row: ReviewRow) -> bool:
        """Whether an image that is not in the dataset still is where it was classified.

        Raises:
            MendError: it is, with another content.
        """
        path = Path(row.file)
        with suppress(OSError):
            if row.file and sha256_of(path) != row.sha256:
                raise MendError(
                    f"{path} has changed since it was classified: run classify-client again (your decisions stay in"
                    f" {self._config.review.name}), or empty its action"
                )
            return bool(row.file)
        return False

    def _add(self, row: ReviewRow, label: str, action: Action) -> None:
        if not self._config.add:
            if action.verb == "relabel":
                self.mending.outside.append(row)
            return
        folder = self._folders.get(label) or (f"train/{label}" if self._has_splits else label)
        target = self._free(f"{folder}/{Path(row.file).name}", row.sha256)
        self.mending.changes.append(Change("add", row.sha256, target, row.file))

    def _move(self, file: ImageFile, digest: str, target: str) -> None:
        self.mending.changes.append(Change("move", digest, self._free(target, digest), self._relative(file.path)))

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._config.dataset).as_posix()

    def _relabelled(self, file: ImageFile, label: str) -> str:
        """The same place below another label's folder, in the same split."""
        parts = PurePosixPath(self._relative(file.path)).parts
        place = 1 if self._has_splits else 0
        known = self._folders.get(label)
        name = PurePosixPath(known).name if known else label
        return str(PurePosixPath(*parts[:place], name, *parts[place + 1 :]))

    def _free(self, target: str, digest: str) -> str:
        """The target, with a hash of the content in its name if another file has that."""
        path = PurePosixPath(target)
        if target in self._taken or (self._config.dataset / target).exists():
            path = path.with_name(f"{path.stem}_{digest[:12]}{path.suffix}")
        self._taken.add(str(path))
        return str(path)


def _label_folder(dataset: Path, file: ImageFile) -> str:
    parts = file.path.relative_to(dataset).parts
    return PurePosixPath(*parts[: 2 if file.split else 1]).as_posix()


def _by_content(files: Sequence[ImageFile], quiet: bool) -> Mapping[str, list[ImageFile]]:
    """The files of each SHA-256; one that cannot be read is of none."""
    found: dict[str, list[ImageFile]] = defaultdict(list)
    digests = track_in_threads(_digest, files, "Reading the dataset", quiet)
    for file, digest in zip(files, digests, strict=True):
        found[digest].append(file)
    found.pop("", None)
    return found


def _digest(file: ImageFile) -> str:
    try:
        return sha256_of(file.path)
    except OSError:
        return ""
