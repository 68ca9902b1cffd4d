"""Planning the changes that a review asks for; nothing is changed here."""

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
    current_issue_type,
    parse_action,
    read_confirmed,
    read_review,
)
from classify_serving.files import sha256_of
from classify_training.corrections.journal import FOLDER, TRASH, Change
from classify_training.data.dataset import scan
from classify_training.data.examples import ImageFile
from classify_training.errors import CorrectionError
from classify_training.progress import track_in_threads


@dataclass(frozen=True, kw_only=True)
class CorrectionConfig:
    """Options of the command `apply`.

    Attributes:
        review: file with the decisions.
        dataset: folder of the dataset to change.
        add: whether to copy images into the dataset that are not in it.
        create: whether to allow labels that the dataset does not have yet.
        accept: issue types for which the proposed action is taken if no action is given.
        quiet: whether to show no progress bar.
    """

    review: Path
    dataset: Path
    add: bool
    create: bool
    accept: Collection[str]
    quiet: bool


@dataclass
class CorrectionPlan:
    """The changes that a review asks for.

    Attributes:
        changes: changes of files, in the order in which to make them.
        unchanged: number of rows whose decision is already true in the dataset.
        undecided: number of rows without an action.
        not_in_dataset: rows that relabel an image outside of the dataset; the option `add` would add it.
    """

    changes: list[Change] = field(default_factory=list)
    unchanged: int = 0
    undecided: int = 0
    not_in_dataset: list[ReviewRow] = field(default_factory=list)


def plan_corrections(config: CorrectionConfig, name: str) -> CorrectionPlan:
    """Plan the changes that the review asks for.

    Args:
        config: options of the command.
        name: name of the journal's entry, which is also the folder of deleted images in the trash.

    Raises:
        CorrectionError: the review cannot be read, contradicts itself or names an unknown class; or a file changed
            since it was classified.
        DatasetError: the dataset cannot be listed.
    """
    files = scan(config.dataset)
    try:
        decisions = list(_decisions(config))
        planner = _Planner(config, name, files)
    except ReviewError as error:
        raise CorrectionError(str(error)) from error
    _check_contradictions([decision for decision in decisions if decision[1]])
    _check_labels(config, {action.label for _, action in decisions if action and action.label}, files)
    for row, action in decisions:
        if action is None:
            planner.corrections.undecided += 1
        else:
            planner.plan(row, action)
    return planner.corrections


def _decisions(config: CorrectionConfig) -> Iterator[tuple[ReviewRow, Action | None]]:
    accepted = {current_issue_type(name) for name in config.accept}
    for line, row in enumerate(read_review(config.review), start=2):
        try:
            action = parse_action(row.action)
            if action is None and row.issue_type in accepted:
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
            raise CorrectionError(
                f"{first.path} and {row.path} are the same image but have different actions: give both the same action"
            )


def _wanted_label(row: ReviewRow, action: Action) -> str | None:
    """The label that an image will have; None if it will be deleted."""
    return None if action.verb == "delete" else folder_label(action.label) or row.label


def _check_labels(config: CorrectionConfig, wanted: Collection[str], files: Sequence[ImageFile]) -> None:
    for label in sorted(wanted):
        if "/" in label or os.sep in label or label.startswith("."):
            raise CorrectionError(f"{label} cannot be the name of a class folder: correct the column action")
    known = {file.label for file in files}
    unknown = sorted({folder_label(label) for label in wanted} - known)
    if unknown and not config.create:
        raise CorrectionError(f"{config.dataset} has no class {unknown[0]}: correct the column action, or add --create")


class _Planner:
    """Collects the changes for one row after another."""

    def __init__(self, config: CorrectionConfig, name: str, files: Sequence[ImageFile]) -> None:
        self.corrections = CorrectionPlan()
        self._config, self._name = config, name
        self._files = _by_content(files, config.quiet)
        self._folders = {file.label: _label_folder(config.dataset, file) for file in reversed(files)}
        self._confirmed = read_confirmed(config.dataset / CONFIRMED)
        self._has_splits = any(file.split for file in files)
        self._taken: set[str] = set()

    def plan(self, row: ReviewRow, action: Action) -> None:
        """Add the changes for one row."""
        before = len(self.corrections.changes), len(self.corrections.not_in_dataset)
        inside = self._files.get(row.sha256, [])
        label = _wanted_label(row, action)
        for file in inside:
            if label is None:
                self._move(file, row.sha256, f"{FOLDER}/{TRASH}/{self._name}/{self._relative(file.path)}")
            elif file.label != label:
                self._move(file, row.sha256, self._relabelled(file, label))
        if not inside and self._exists_unchanged(row) and label is not None:
            self._add(row, label, action)
        if label is not None and (row.sha256, label) not in self._confirmed:
            self.corrections.changes.append(Change("confirm", row.sha256, label))
        after = len(self.corrections.changes), len(self.corrections.not_in_dataset)
        self.corrections.unchanged += after == before

    def _exists_unchanged(self, row: ReviewRow) -> bool:
        """Whether an image outside of the dataset still exists where it was classified.

        Raises:
            CorrectionError: it exists with another content.
        """
        path = Path(row.file)
        with suppress(OSError):
            if row.file and sha256_of(path) != row.sha256:
                raise CorrectionError(
                    f"{path} has changed since it was classified: run classify-client again (your decisions stay in"
                    f" {self._config.review.name}), or clear its action"
                )
            return bool(row.file)
        return False

    def _add(self, row: ReviewRow, label: str, action: Action) -> None:
        if not self._config.add:
            if action.verb == "relabel":
                self.corrections.not_in_dataset.append(row)
            return
        folder = self._folders.get(label) or (f"train/{label}" if self._has_splits else label)
        target = self._free(f"{folder}/{Path(row.file).name}", row.sha256)
        self.corrections.changes.append(Change("add", row.sha256, target, row.file))

    def _move(self, file: ImageFile, digest: str, target: str) -> None:
        self.corrections.changes.append(Change("move", digest, self._free(target, digest), self._relative(file.path)))

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._config.dataset).as_posix()

    def _relabelled(self, file: ImageFile, label: str) -> str:
        """The path of a file after moving it to another label's folder, in the same split."""
        parts = PurePosixPath(self._relative(file.path)).parts
        place = 1 if self._has_splits else 0
        known = self._folders.get(label)
        name = PurePosixPath(known).name if known else label
        return str(PurePosixPath(*parts[:place], name, *parts[place + 1 :]))

    def _free(self, target: str, digest: str) -> str:
        """The target path; if another file has that path, with a hash of the content in its name."""
        path = PurePosixPath(target)
        if target in self._taken or (self._config.dataset / target).exists():
            path = path.with_name(f"{path.stem}_{digest[:12]}{path.suffix}")
        self._taken.add(str(path))
        return str(path)


def _label_folder(dataset: Path, file: ImageFile) -> str:
    parts = file.path.relative_to(dataset).parts
    return PurePosixPath(*parts[: 2 if file.split else 1]).as_posix()


def _by_content(files: Sequence[ImageFile], quiet: bool) -> Mapping[str, list[ImageFile]]:
    """Map SHA-256 -> files with that content; files that cannot be read are left out."""
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
