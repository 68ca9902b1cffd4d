"""Several copies of one image in a dataset: each has its own decision."""

import json
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support import write_picture

from classify_serving.exchange.review import ReviewRow, write_review
from classify_serving.files import sha256_of
from classify_training.cli.main import main
from classify_training.corrections.changes import Change


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A dataset with one image as cat and as dog, and one image of each of the two classes besides."""
    folder = tmp_path / "data"
    write_picture(folder / "cat/1.png", 1)
    copy(folder / "cat/1.png", folder / "dog/2.png")
    write_picture(folder / "cat/5.png", 5)
    write_picture(folder / "dog/6.png", 6)
    return folder


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def row(data: Path, name: str, action: str, **more: str) -> ReviewRow:
    """The row of an image, as after classifying the dataset itself."""
    path = data / name
    label = path.relative_to(data).parts[-2]
    return ReviewRow(path=name, label=label, action=action, sha256=sha256_of(path), file=str(path), **more)


def apply(data: Path, rows: list[ReviewRow], *options: str) -> Result:
    write_review(data.parent / "review.csv", rows)
    return invoke(data, str(data.parent / "review.csv"), "--yes", *options)


def invoke(data: Path, *arguments: str) -> Result:
    result = CliRunner().invoke(main, ["apply", "--dataset", str(data), *arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def names(data: Path) -> set[str]:
    """The copies of the image in the dataset."""
    files = {path.relative_to(data).as_posix() for path in data.rglob("*.png")}
    return {name for name in files if not name.startswith(".review")} - {"cat/5.png", "dog/6.png"}


@pytest.mark.parametrize(
    ("cat", "dog", "left", "moves"),
    [
        ("keep", "", {"cat/1.png", "dog/2.png"}, 0),
        ("relabel:dog", "keep", {"dog/2.png"}, 1),
        ("keep", "relabel:cat", {"cat/1.png"}, 1),
        ("relabel:dog", "", {"dog/2.png"}, 1),
        ("delete", "", {"dog/2.png"}, 1),
        ("delete", "keep", {"dog/2.png"}, 1),
        ("keep", "delete", {"cat/1.png"}, 1),
        ("delete", "delete", set(), 2),
    ],
)
def test_each_copy_has_its_own_decision(data: Path, cat: str, dog: str, left: set[str], moves: int) -> None:
    rows = [row(data, "cat/1.png", cat), row(data, "dog/2.png", dog)]
    result = apply(data, rows)
    assert result.exit_code == 0, result.output
    assert names(data) == left
    assert len(re.findall("^(move|delete) ", result.stdout, re.MULTILINE)) == moves
    again = apply(data, rows)
    assert again.exit_code == 0, again.output
    assert "nothing to do" in again.stdout
    assert names(data) == left
    if moves or "keep" in (cat, dog):
        assert invoke(data, "--undo").exit_code == 0
    assert names(data) == {"cat/1.png", "dog/2.png"}


@pytest.mark.parametrize(
    ("cat", "dog"),
    [
        ("keep", "keep"),
        ("relabel:dog", "delete"),
        ("delete", "relabel:cat"),
        ("relabel:dog", "relabel:cat"),
        ("relabel:bird", "keep"),
    ],
)
def test_contradictions_name_both_rows_before_anything_moves(data: Path, cat: str, dog: str) -> None:
    rows = [row(data, "cat/5.png", "delete"), row(data, "cat/1.png", cat), row(data, "dog/2.png", dog)]
    result = apply(data, rows, "--create")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    for part in ("review.csv, lines 3 and 4", f"cat/1.png (cat, {cat})", f"dog/2.png (dog, {dog})", "change one"):
        assert part in line
    assert names(data) == {"cat/1.png", "dog/2.png"}
    assert (data / "cat/5.png").exists()


def test_a_copy_that_its_new_label_already_has_goes_to_the_trash(data: Path) -> None:
    result = apply(data, [row(data, "cat/1.png", "relabel:dog")])
    assert "cat/1.png (dog/2.png is the same image)" in result.stdout
    assert len(list(data.glob(".review/trash/*/cat/1.png"))) == 1


def test_only_one_of_two_copies_moves_to_a_new_label(data: Path) -> None:
    copy(data / "cat/1.png", data / "cat/3.png")
    (data / "dog/2.png").unlink()
    rows = [row(data, "cat/1.png", "relabel:dog"), row(data, "cat/3.png", "relabel:dog")]
    assert "(dog/1.png is the same image)" in apply(data, rows).stdout
    assert names(data) == {"dog/1.png"}


def test_of_equal_files_in_one_label_a_row_is_about_the_one_with_its_path(data: Path) -> None:
    copy(data / "cat/1.png", data / "cat/3.png")
    elsewhere = {"path": "1.png", "file": "/images/1.png"}
    for changes in ({}, {"file": ""}, {"file": "/images/cat/1.png"}, elsewhere):
        apply(data, [replace(row(data, "cat/1.png", "delete"), **changes)])
        assert names(data) == {"cat/3.png", "dog/2.png"}, changes
        # Repeating it must not find another copy to delete.
        write_review(data.parent / "review.csv", [replace(row(data, "cat/3.png", "delete"), path="cat/1.png", file="")])
        assert "nothing to do" in invoke(data, str(data.parent / "review.csv"), "--yes").stdout
        invoke(data, "--undo")
    apply(data, [replace(row(data, "cat/1.png", "delete"), path="x.png", file="/images/x.png")])
    assert names(data) == {"dog/2.png"}


def test_equal_files_without_a_row_follow_one_that_is_relabelled(data: Path) -> None:
    (data / "dog/2.png").unlink()
    for name in ("cat/2.png", "cat/3.png"):
        copy(data / "cat/1.png", data / name)
    rows = [row(data, "cat/2.png", "relabel:dog")]
    result = apply(data, rows)
    assert names(data) == {"dog/2.png"}
    assert result.stdout.count("(dog/2.png is the same image)") == 2
    assert "nothing to do" in apply(data, rows).stdout
    assert invoke(data, "--undo").exit_code == 0
    assert names(data) == {"cat/1.png", "cat/2.png", "cat/3.png"}
    # One that has a row, and is not decided, stays.
    apply(data, [*rows, row(data, "cat/3.png", "")])
    assert names(data) == {"cat/3.png", "dog/2.png"}


def test_a_decided_image_that_stays_under_another_label_too_is_named(data: Path) -> None:
    kept = apply(data, [row(data, "cat/1.png", "keep")])
    assert "note     dog/2.png stays, the same image as cat/1.png with another label" in kept.stdout
    assert "note" not in apply(data, [row(data, "cat/1.png", "keep"), row(data, "dog/2.png", "delete")]).stdout


def test_two_rows_of_one_file_with_different_actions_are_refused(data: Path) -> None:
    rows = [
        replace(row(data, "cat/1.png", action), path=path, file="")
        for action, path in (("keep", "a.png"), ("delete", "b.png"))
    ]
    result = apply(data, rows)
    assert result.exit_code == 2
    assert "lines 2 and 3" in result.stderr
    assert names(data) == {"cat/1.png", "dog/2.png"}


def test_copies_in_several_splits(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_picture(data / "train/cat/1.png", 1)
    write_picture(data / "train/dog/9.png", 9)
    copy(data / "train/cat/1.png", data / "val/cat/1.png")
    copy(data / "train/cat/1.png", data / "val/dog/2.png")
    rows = [row(data, "train/cat/1.png", "keep"), row(data, "val/cat/1.png", "delete")]
    assert apply(data, [*rows, row(data, "val/dog/2.png", "relabel:cat")]).exit_code == 0
    assert names(data) == {"train/cat/1.png", "train/dog/9.png"}


def test_an_image_that_the_dataset_has_under_another_label_only_is_not_added(data: Path, tmp_path: Path) -> None:
    copy(data / "dog/6.png", tmp_path / "images/cat/6.png")
    outside = row(tmp_path / "images", "cat/6.png", "keep")
    result = apply(data, [outside], "--add")
    assert "skipped  cat/6.png: not in the dataset as cat, but as dog/6.png, which stays as it is" in result.stdout
    assert {path.name for path in data.glob("cat/*")} == {"1.png", "5.png"}


@pytest.mark.parametrize("label", ["", "../x", ".x"])
def test_no_file_is_added_outside_of_class_folders(data: Path, tmp_path: Path, label: str) -> None:
    new = write_picture(tmp_path / "images/new.png", 77)
    kept = ReviewRow(path="new.png", label=label, action="keep", sha256=sha256_of(new), file=str(new))
    result = apply(data, [kept], "--add")
    assert result.exit_code == 2
    assert "cannot be the name of a class folder" in result.stderr


def test_an_unknown_issue_type_is_refused_with_the_known_ones(data: Path) -> None:
    result = apply(data, [row(data, "cat/1.png", "keep")], "--accept", "typo")
    assert result.exit_code == 2
    known = "wrong-label, duplicate, outlier, confusion, unreadable, confirmed"
    assert f"--accept typo is no issue type: use {known}" in result.stderr
    assert apply(data, [row(data, "cat/1.png", "keep")], "--accept", "unlike").exit_code == 0


def test_a_linked_folder_is_refused_before_a_file_moves_twice(data: Path) -> None:
    (data / "fox").symlink_to("cat")
    rows = [row(data, "cat/5.png", "delete"), row(data, "fox/5.png", "delete")]
    result = apply(data, rows)
    assert result.exit_code == 2
    assert "would be used twice: nothing was changed" in result.stderr
    assert (data / "cat/5.png").exists()


def test_linked_images_come_back(data: Path, tmp_path: Path) -> None:
    write_picture(data / ".raw/7.png", 7)
    (data / "cat/7.png").symlink_to("../.raw/7.png")
    assert apply(data, [row(data, "cat/7.png", "delete")]).exit_code == 0
    assert not (data / "cat/7.png").exists()
    assert invoke(data, "--undo").exit_code == 0
    assert (data / "cat/7.png").exists()


def wedge(data: Path, changes: list[tuple[str, str]], done: int) -> None:
    """Leave what release 0.1 left: a pending entry, of which the first moves are made."""
    digest = sha256_of(data / "cat/1.png")
    entry = [asdict(Change("move", digest, target, source)) for source, target in changes]
    (data / ".review").mkdir()
    (data / ".review/2026-01-02T00-00-00Z.00.pending.json").write_text(json.dumps(entry))
    for source, target in changes[:done]:
        (data / target).parent.mkdir(parents=True, exist_ok=True)
        (data / source).rename(data / target)


TRASH = ".review/trash/2026-01-02T00-00-00Z.00"
WEDGED = {
    "relabelled twice": ([("cat/1.png", "dog/1.png"), ("cat/1.png", "dog/1_1.png")], {"dog/1.png", "dog/2.png"}),
    "deleted twice": (
        [
            ("cat/1.png", f"{TRASH}/cat/1.png"),
            ("dog/2.png", f"{TRASH}/dog/2.png"),
            ("cat/1.png", f"{TRASH}/cat/1_1.png"),
            ("dog/2.png", f"{TRASH}/dog/2_1.png"),
        ],
        set[str](),
    ),
    "to one path": ([("cat/1.png", "fox/1.png"), ("dog/2.png", "fox/1.png")], {"fox/1.png", "fox/1_2.png"}),
}


@pytest.mark.parametrize("case", WEDGED)
@pytest.mark.parametrize("done", [0, 1])
def test_a_journal_that_release_0_1_could_not_finish(data: Path, case: str, done: int) -> None:
    changes, finished = WEDGED[case]
    wedge(data, changes, done)
    shutil.copytree(data, data.with_name("undone"))
    result = apply(data, [])
    assert result.exit_code == 0, result.output
    assert names(data) == finished
    for dataset in (data, data.with_name("undone")):
        result = invoke(dataset, "--undo")
        assert result.exit_code == 0, result.output
        assert names(dataset) == {"cat/1.png", "dog/2.png"}
