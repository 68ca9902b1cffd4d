"""The decisions in a review, and the contradictions among them."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from classify_serving.contract.folders import folder_label
from classify_serving.contract.text import terminal_text
from classify_serving.exchange.issue_types import ISSUE_TYPES, current_issue_type
from classify_serving.exchange.review import Action, ReviewError, ReviewRow, parse_action, read_review
from classify_training.errors import CorrectionError


@dataclass(frozen=True)
class Decision:
    """One row of a review.

    Attributes:
        line: its line in the file, from 2.
        row: the row.
        action: the action to carry out; None if the row is undecided.
    """

    line: int
    row: ReviewRow
    action: Action | None

    @property
    def label(self) -> str:
        """The label under which the image was classified."""
        return folder_label(self.row.label)

    @property
    def wanted(self) -> str | None:
        """The label that the image will have; None if it will be deleted."""
        assert self.action
        return None if self.action.verb == "delete" else folder_label(self.action.label) or self.label

    @property
    def is_relabelled(self) -> bool:
        """Whether the image stays in the dataset under another label."""
        return self.action is not None and self.wanted not in (None, self.label)


def read_decisions(review: Path, accept: Collection[str], classes: Collection[str]) -> list[Decision]:
    """Read all rows of a review, with the actions to carry out.

    Args:
        review: the file.
        accept: issue types for which the proposed action is taken if no action is given.
        classes: labels of the dataset.

    Raises:
        CorrectionError: an issue type is unknown, the review cannot be read, or two decisions contradict each other.
    """
    accepted = {current_issue_type(name) for name in accept}
    if unknown := sorted(accepted - set(ISSUE_TYPES)):
        raise CorrectionError(f"--accept {unknown[0]} is no issue type: use {', '.join(ISSUE_TYPES)}")
    try:
        decisions = list(_read(review, accepted, classes))
    except ReviewError as error:
        raise CorrectionError(str(error)) from error
    contents: dict[str, list[Decision]] = defaultdict(list)
    for decision in decisions:
        if decision.action:
            contents[decision.row.sha256].append(decision)
    for same in contents.values():
        _check_contradictions(review, same)
    return decisions


def contradiction(review: Path, first: Decision, second: Decision) -> CorrectionError:
    """The error that two decisions about one content cannot both be carried out."""
    first, second = sorted((first, second), key=lambda decision: decision.line)
    return CorrectionError(
        f"{review}, lines {first.line} and {second.line}: {_described(first)} and {_described(second)} are the same"
        " image, and these actions contradict each other: change one of them"
    )


def _described(decision: Decision) -> str:
    row = decision.row
    return f"{terminal_text(row.path or row.file or row.sha256[:12])} ({terminal_text(row.label)}, {decision.action})"


def _read(review: Path, accepted: Collection[str], classes: Collection[str]) -> Iterator[Decision]:
    for line, row in enumerate(read_review(review), start=2):
        try:
            action = parse_action(row.action, classes)
            if action is None and row.issue_type in accepted:
                action = parse_action(row.proposed, classes)
        except ReviewError as error:
            raise ReviewError(f"{review}, line {line}: {error}") from error
        yield Decision(line, row, action)


def _check_contradictions(review: Path, same: Sequence[Decision]) -> None:
    """Check the decisions about one content.

    All copies that stay need one label, each copy has one action, and a label that a copy moves to does not lose the
    copies that it has, unless one of them is kept.

    Raises:
        CorrectionError: two of them contradict each other.
    """
    places: dict[tuple[str, str], Decision] = {}
    staying: Decision | None = None
    moved_to: dict[str, Decision] = {}
    kept: set[str] = set()
    for decision in same:
        place = decision.label, decision.row.file or decision.row.path
        if places.setdefault(place, decision).wanted != decision.wanted:
            raise contradiction(review, places[place], decision)
        if decision.wanted is None:
            continue
        staying = staying or decision
        if staying.wanted != decision.wanted:
            raise contradiction(review, staying, decision)
        if decision.wanted == decision.label:
            kept.add(decision.label)
        else:
            moved_to[decision.wanted] = decision
    for decision in same:
        if decision.wanted is None and decision.label in moved_to and decision.label not in kept:
            raise contradiction(review, moved_to[decision.label], decision)
