"""Planning the changes that a review asks for; nothing is changed here."""

import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from classify_serving.contract.folders import folder_label
from classify_serving.exchange.review import CONFIRMED, ReviewError, ReviewRow, read_confirmed
from classify_serving.files import sha256_of
from classify_training.corrections.changes import FOLDER, TRASH, Change
from classify_training.corrections.copies import DatasetCopies, ImageCopy, Match
from classify_training.corrections.decisions import Decision, contradiction, read_decisions
from classify_training.corrections.free_paths import FreePaths
from classify_training.data.dataset import scan
from classify_training.data.examples import ImageFile
from classify_training.errors import CorrectionError


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
        duplicates: source of each file that goes to the trash because its new label has the same image -> path of that.
        unchanged: number of rows whose decision is already true in the dataset.
        undecided: number of rows without an action.
        not_in_dataset: rows that relabel an image outside of the dataset; the option `add` would add it.
        missing: rows that relabel an image that is neither in the dataset nor where it was judged.
        other_label: rows whose image is in the dataset only under other labels, and the path of one such file.
        conflicts: path of each file whose label is decided -> path of the same image that stays under another label.
    """

    changes: list[Change] = field(default_factory=list)
    duplicates: dict[str, str] = field(default_factory=dict)
    unchanged: int = 0
    undecided: int = 0
    not_in_dataset: list[ReviewRow] = field(default_factory=list)
    missing: list[ReviewRow] = field(default_factory=list)
    other_label: list[tuple[ReviewRow, str]] = field(default_factory=list)
    conflicts: dict[str, str] = field(default_factory=dict)

    @property
    def changes_files(self) -> bool:
        """Whether any file is moved or added."""
        return any(change.kind != "confirm" for change in self.changes)


def plan_corrections(
    config: CorrectionConfig, name: str, moved: Collection[tuple[str, str]] = frozenset()
) -> CorrectionPlan:
    """Plan the changes that the review asks for.

    Each copy of an image has its own decision: a row is about the files with its content and label, see
    `DatasetCopies.match`. A copy that would become the second one in its new label goes to the trash instead.

    Args:
        config: options of the command.
        name: name of the journal's entry, which is also the folder of deleted images in the trash.
        moved: (SHA-256, former path) of files that earlier entries moved.

    Raises:
        CorrectionError: the review cannot be read, contradicts itself or names an unknown class; or a file changed
            since it was classified.
        DatasetError: the dataset cannot be listed.
    """
    files = scan(config.dataset)
    classes = {file.label for file in files}
    decisions = read_decisions(config.review, config.accept, classes)
    _check_labels(config, decisions, classes)
    copies = DatasetCopies(config.dataset, files, moved, config.quiet)
    try:
        planner = _Planner(config, name, files, copies)
    except ReviewError as error:
        raise CorrectionError(str(error)) from error
    matches = copies.match(decisions)
    decided = [(d, match) for d, match in zip(decisions, matches, strict=True) if d.action]
    planner.corrections.undecided = len(decisions) - len(decided)
    for decision, match in decided:
        planner.decide(decision, match)
    for decision, match in decided:
        planner.plan(decision, match)
    return planner.corrections


def _check_labels(config: CorrectionConfig, decisions: Sequence[Decision], classes: Collection[str]) -> None:
    actions = [decision.action for decision in decisions if decision.action]
    wanted = {action.label for action in actions if action.label}
    kept = {decision.row.label for decision in decisions if decision.action and decision.action.verb == "keep"}
    for label in sorted(wanted | kept):
        if not label or "/" in label or os.sep in label or label.startswith("."):
            name = label or "an empty text"
            raise CorrectionError(f"{name} cannot be the name of a class folder: correct the columns action and label")
    unknown = sorted({folder_label(label) for label in wanted}.difference(classes))
    if unknown and not config.create:
        raise CorrectionError(f"{config.dataset} has no class {unknown[0]}: correct the column action, or add --create")


class _Planner:
    """Collects the changes: first `decide` for every row, then `plan` for every row."""

    def __init__(self, config: CorrectionConfig, name: str, files: Sequence[ImageFile], copies: DatasetCopies) -> None:
        self.corrections = CorrectionPlan()
        self._config, self._name, self._copies = config, name, copies
        self._folders = {file.label: _label_folder(config.dataset, file) for file in reversed(files)}
        self._confirmed = set(read_confirmed(config.dataset / CONFIRMED))
        self._has_splits = any(file.split for file in files)
        self._free = FreePaths(config.dataset)
        self._decided: dict[ImageCopy, Decision] = {}
        self._arriving: dict[tuple[str, str], str] = {}
        """(SHA-256, label) -> path of the first copy that is moved or added there."""

    def decide(self, decision: Decision, match: Match) -> None:
        """Note the decision for the files that a row is about.

        Raises:
            CorrectionError: another row has another decision for the same file.
        """
        for copy in match.copies:
            first = self._decided.setdefault(copy, decision)
            if first.wanted != decision.wanted:
                raise contradiction(self._config.review, first, decision)

    def plan(self, decision: Decision, match: Match) -> None:
        """Add the changes for one row.

        Raises:
            CorrectionError: an image outside of the dataset has changed since it was classified.
        """
        before = self._size()
        digest, label = decision.row.sha256, decision.wanted
        for copy in match.copies:
            if self._decided[copy] is decision:
                self._plan_copy(copy, digest, label)
                self._note_conflict(copy, digest, label)
        has_copy = match.copies or (label is not None and self._kept(digest, label))
        if not has_copy and not self._plan_without_copy(decision, match):
            self.corrections.missing.append(decision.row)
            return
        if label is not None and (digest, label) not in self._confirmed:
            self._confirmed.add((digest, label))
            self.corrections.changes.append(Change("confirm", digest, label))
        self.corrections.unchanged += self._size() == before

    def _size(self) -> int:
        plan = self.corrections
        return len(plan.changes) + len(plan.not_in_dataset) + len(plan.other_label)

    def _plan_copy(self, copy: ImageCopy, digest: str, label: str | None) -> None:
        if copy.label == label:
            return
        kept = "" if label is None else self._kept(digest, label)
        if label is None or kept:
            target = f"{FOLDER}/{TRASH}/{self._name}/{copy.path}"
        else:
            target = self._relabelled(copy, label)
        free = self._free.take(target, digest)
        self.corrections.changes.append(Change("move", digest, free, copy.path))
        if kept:
            self.corrections.duplicates[copy.path] = kept
        elif label is not None:
            self._arriving[digest, label] = free

    def _note_conflict(self, copy: ImageCopy, digest: str, label: str | None) -> None:
        staying = (other for other in self._copies.of(digest) if other.label != label and self._is_staying(other))
        if label is not None and (other := next(staying, None)):
            self.corrections.conflicts[copy.path] = other.path

    def _kept(self, digest: str, label: str) -> str:
        """The path of a copy that stays in or has come to a label; empty if there is none."""
        present = (copy for copy in self._copies.of(digest) if copy.label == label)
        staying = (copy.path for copy in present if self._is_staying(copy))
        return next(staying, self._arriving.get((digest, label), ""))

    def _is_staying(self, copy: ImageCopy) -> bool:
        return copy not in self._decided or self._decided[copy].wanted == copy.label

    def _plan_without_copy(self, decision: Decision, match: Match) -> bool:
        """Add the changes for an image that is not in the dataset as wanted; false if one to relabel is nowhere."""
        row, label, others = decision.row, decision.wanted, self._copies.of(decision.row.sha256)
        if others and match.is_moved:
            return True
        exists = self._exists_unchanged(row)
        if label is None:
            return True
        if others:
            self.corrections.other_label.append((row, others[0].path))
        elif exists and self._config.add:
            folder = self._folders.get(label) or (f"train/{label}" if self._has_splits else label)
            target = self._free.take(f"{folder}/{Path(row.file).name}", row.sha256)
            self.corrections.changes.append(Change("add", row.sha256, target, row.file))
            self._arriving[row.sha256, label] = target
        elif decision.action and decision.action.verb == "relabel":
            if not exists:
                return False
            self.corrections.not_in_dataset.append(row)
        return True

    def _exists_unchanged(self, row: ReviewRow) -> bool:
        """Whether an image outside of the dataset still exists where it was classified.

        Raises:
            CorrectionError: it exists with another content.
        """
        path = Path(row.file)
        with suppress(OSError):
            if row.file and sha256_of(path) != row.sha256:
                raise CorrectionError(
                    f"{path} has changed since it was judged: classify, audit or train again (your decisions stay in"
                    f" {self._config.review.name}), or clear its action"
                )
            return bool(row.file)
        return False

    def _relabelled(self, copy: ImageCopy, label: str) -> str:
        """The path of a file after moving it to another label's folder, in the same split."""
        parts = PurePosixPath(copy.path).parts
        place = 1 if self._has_splits else 0
        known = self._folders.get(label)
        name = PurePosixPath(known).name if known else label
        return str(PurePosixPath(*parts[:place], name, *parts[place + 1 :]))


def _label_folder(dataset: Path, file: ImageFile) -> str:
    parts = file.path.relative_to(dataset).parts
    return PurePosixPath(*parts[: 2 if file.split else 1]).as_posix()
