"""Whatever step of an apply or undo fails, repeating the command finishes it, and --undo takes it back."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from classify_serving.exchange.review import ReviewRow, write_review
from classify_serving.files import sha256_of
from classify_training.corrections.changes import Change, FileOperations
from classify_training.corrections.journal import open_journal
from classify_training.corrections.planner import CorrectionConfig, plan_corrections
from classify_training.errors import CorrectionError

LABELS = ("cat", "dog", "fox")
ACTIONS = ("", "keep", "delete", *(f"relabel:{label}" for label in LABELS))
Contents = Counter[tuple[bytes, str]]


@dataclass
class FailingOperations(FileOperations):
    """Fails at one step, after doing half of it where that is possible; counts the steps."""

    fail_at: int = -1
    steps: int = field(default=0, init=False)

    def _fails(self) -> bool:
        self.steps += 1
        return self.steps - 1 == self.fail_at

    def _step(self, path: Path) -> None:
        if self._fails():
            raise OSError(5, "Input/output error", str(path))

    def make_folder(self, folder: Path) -> None:
        self._step(folder)
        super().make_folder(folder)

    def rename(self, source: Path, target: Path) -> None:
        self._step(source)
        super().rename(source, target)

    def copy(self, source: Path, target: Path) -> None:
        if self._fails():
            target.write_bytes(source.read_bytes()[:1])
            raise OSError(28, "No space left on device", str(target))
        super().copy(source, target)

    def remove(self, path: Path) -> None:
        self._step(path)
        super().remove(path)

    def write(self, path: Path, content: bytes) -> None:
        if self._fails():
            path.with_name(f".{path.name}.tmp").write_bytes(content[:1])
            raise OSError(28, "No space left on device", str(path))
        super().write(path, content)

    def write_rows(self, path: Path, rows: Iterable[Iterable[object]]) -> None:
        self._step(path)
        super().write_rows(path, rows)


@dataclass(frozen=True)
class Case:
    """A dataset: path -> content; an action for each path; contents and actions of images outside of it."""

    files: Mapping[str, bytes]
    actions: Mapping[str, str]
    outside: Mapping[str, bytes]

    def write(self, root: Path) -> None:
        """Write dataset, images outside of it, and review."""
        for folder, files in (("data", self.files), ("images", self.outside)):
            for name, content in files.items():
                (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
                (root / folder / name).write_bytes(content)
        rows = [row(root / "data" / name, name, action) for name, action in self.actions.items()]
        rows += [row(root / "images" / name, name, "keep") for name in self.outside]
        write_review(root / "review.csv", rows)

    def is_contradictory(self) -> bool:
        """Whether copies of one content need two labels, or one goes where another one is deleted and none is kept."""
        for content in set(self.files.values()):
            decided = [
                (label_of(n), self.actions[n]) for n in self.files if self.files[n] == content and self.actions[n]
            ]
            wanted = {action.removeprefix("relabel:") if action != "keep" else label for label, action in decided}
            wanted.discard("delete")
            arriving = {action[8:] for label, action in decided if action[:8] == "relabel:" and action[8:] != label}
            kept = {label for label, action in decided if action in ("keep", f"relabel:{label}")}
            deleted = {label for label, action in decided if action == "delete"}
            if len(wanted) > 1 or (arriving & deleted) - kept:
                return True
        return False

    def expected(self) -> Contents:
        """The images after all decisions, worked out without paths."""
        after: Contents = Counter()
        coming = set()
        for name, content in self.files.items():
            action, label = self.actions[name], label_of(name)
            target = action.removeprefix("relabel:") if action.startswith("relabel") else label
            if target != label:
                coming.add((content, target))
            elif action != "delete":
                after[content, label] += 1
        return after + Counter(pair for pair in coming if not after[pair]) + Counter(self._added())

    def _added(self) -> Iterator[tuple[bytes, str]]:
        for name, content in self.outside.items():
            if content not in self.files.values():
                yield content, label_of(name)


def row(path: Path, name: str, action: str) -> ReviewRow:
    return ReviewRow(path=name, label=label_of(name), action=action, sha256=sha256_of(path), file=str(path))


def label_of(name: str) -> str:
    return Path(name).parent.name


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Small datasets with and without splits; contents are from a small set, so that many files are duplicates."""
    splits = draw(st.sampled_from([("",), ("train/", "val/")]))
    folders = [f"{split}{label}" for split in splits for label in LABELS]
    contents = st.sampled_from([b"aa", b"bb", b"cc"])
    names = st.builds(
        lambda folder, name: f"{folder}/{name}.png", st.sampled_from(folders), st.sampled_from(["1", "2", "3"])
    )
    files = draw(st.dictionaries(names, contents, min_size=1, max_size=6))
    # Every label and the split train must exist.
    files |= {f"{splits[0]}{label}/0.png": label.encode() for label in LABELS}
    actions = {name: draw(st.sampled_from(ACTIONS)) if len(files[name]) == 2 else "" for name in files}
    outside = draw(st.dictionaries(st.just("cat/9.png"), st.just(b"zz"), max_size=1))
    return Case(files, actions, outside)


def contents(data: Path) -> Contents:
    """The images that training would see."""
    paths = (path.relative_to(data) for path in data.rglob("*.png"))
    return Counter(
        ((data / path).read_bytes(), path.parent.name) for path in paths if not path.as_posix().startswith(".review")
    )


def everything(root: Path) -> set[bytes]:
    """All contents, also those in the trash."""
    return {path.read_bytes() for path in (root / "data").rglob("*.png")}


def apply(root: Path, operations: FileOperations | None = None) -> list[Change]:
    config = CorrectionConfig(
        review=root / "review.csv", dataset=root / "data", add=True, create=False, accept=(), quiet=True
    )
    with open_journal(config.dataset, operations) as journal:
        journal.recover()
        name = journal.new_name()
        changes = plan_corrections(config, name, journal.moved()).changes
        if changes:
            journal.perform(name, changes)
        return changes


def undo(root: Path, operations: FileOperations | None = None) -> list[Change] | None:
    with open_journal(root / "data", operations) as journal:
        return journal.undo()


def fails(root: Path, operations: FailingOperations, is_undo: bool) -> bool:
    """Whether the command fails at the step where it should; if not, it has no such step."""
    try:
        (undo if is_undo else apply)(root, operations)
    except CorrectionError:
        return True
    return False


def check_both_ways(root: Path, before: Contents, after: Contents, files: set[bytes]) -> None:
    """Repeating `apply` and `undo` both succeed in the state that a failure left; what is undone can be redone."""
    assert files <= everything(root)
    for first in (apply, undo):
        saved = {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        first(root)
        assert contents(root / "data") == (after if first is apply else before)
        assert files <= everything(root)
        apply(root)
        assert contents(root / "data") == after
        undo(root)
        assert contents(root / "data") == before
        assert not [path for path in (root / "data").rglob(".*.tmp") if path.parent.name != ".review"]
        shutil.rmtree(root / "data")
        for path, content in saved.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(cases())
def test_a_failure_at_any_step_can_be_finished_and_undone(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "first"
        case.write(root)
        before = contents(root / "data")
        if case.is_contradictory():
            with pytest.raises(CorrectionError, match="contradict"):
                apply(root)
            assert contents(root / "data") == before
            return
        changes = apply(root)
        assume(any(change.kind != "confirm" for change in changes))
        after, files = contents(root / "data"), set(case.files.values())
        assert after == case.expected()
        assert files <= everything(root)
        for is_undo in (False, True):
            step = 0
            while True:
                root = Path(folder) / f"{is_undo}-{step}"
                case.write(root)
                if is_undo:
                    apply(root)
                if not fails(root, FailingOperations(step), is_undo):
                    break
                check_both_ways(root, before, after, files)
                shutil.rmtree(root)
                step += 1
            assert step > 3
