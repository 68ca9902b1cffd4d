"""classify-train apply: decisions become changes of the dataset, which can be undone and survive a kill."""

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from support import write_picture

from classify_serving.exchange.review import Action, ReviewError, ReviewRow, parse_action, read_review, write_review
from classify_serving.files import sha256_of
from classify_training.cli.main import main
from classify_training.corrections.changes import Change
from classify_training.corrections.journal import open_journal
from classify_training.errors import CorrectionError

Tree = dict[str, bytes]


def tree(root: Path) -> Tree:
    """All images below a folder that training would see, and their contents."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files if ".review" not in path.parts}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name, brightness in {"cat/1.png": 1, "cat/2.png": 2, "cat/3.png": 3, "dog/1.png": 11, "dog/2.png": 12}.items():
        write_picture(tmp_path / "data" / name, brightness)
    return tmp_path / "data"


def row(path: Path, label: str, action: str, **more: str) -> ReviewRow:
    return ReviewRow(path=path.name, label=label, action=action, sha256=sha256_of(path), file=str(path), **more)


def apply(data: Path, rows: list[ReviewRow], *options: str) -> Result:
    review = data.parent / "review.csv"
    write_review(review, rows)
    return invoke(data, str(review), *options)


def invoke(data: Path, *arguments: str) -> Result:
    result = CliRunner().invoke(main, ["apply", "--dataset", str(data), *arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def confirmed(data: Path) -> list[dict[str, str]]:
    with (data / ".review/confirmed.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_decisions_are_carried_out_and_undone(data: Path) -> None:
    before = tree(data)
    rows = [
        row(data / "cat/1.png", "cat", "relabel:dog"),
        row(data / "cat/2.png", "cat", "delete"),
        row(data / "cat/3.png", "cat", "keep"),
        row(data / "dog/2.png", "dog", ""),
    ]
    result = apply(data, rows, "--yes")
    assert result.exit_code == 0, result.output
    assert "1 to move, 1 to delete, 1 label to confirm, 1 undecided" in result.stdout
    after = tree(data)
    moved = f"dog/1_{rows[0].sha256[:12]}.png"
    assert set(after) == {"cat/3.png", "dog/1.png", "dog/2.png", moved}
    assert after["dog/1.png"] == before["dog/1.png"]
    assert after[moved] == before["cat/1.png"]
    assert confirmed(data) == sorted(
        ({"sha256": rows[0].sha256, "label": "dog"}, {"sha256": rows[2].sha256, "label": "cat"}),
        key=lambda pair: pair["sha256"],
    )
    again = invoke(data, str(data.parent / "review.csv"), "--yes")
    assert "nothing to do, 3 need no change" in again.stdout
    assert tree(data) == after
    assert invoke(data, "--undo").exit_code == 0
    assert tree(data) == before
    assert confirmed(data) == []
    assert "nothing to undo" in invoke(data, "--undo").stderr


def test_nothing_is_done_unasked(data: Path) -> None:
    before = tree(data)
    rows = [row(data / "cat/1.png", "cat", "relabel:dog")]
    apply(data, rows, "--dry-run")
    assert not (data / ".review").exists()
    for options, code in (((), 2), (("--dry-run", "--yes"), 0)):
        result = apply(data, rows, *options)
        assert result.exit_code == code
        assert "move     cat/1.png -> dog/1_" in result.stdout
        assert tree(data) == before


def test_images_are_found_by_content_wherever_they_are(data: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "images/x.png"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes((data / "cat/1.png").read_bytes())
    new = write_picture(tmp_path / "images/new.png", 77)
    rows = [row(elsewhere, "cat", "relabel:dog"), row(new, "cat", "relabel:dog")]
    result = apply(data, rows, "--yes")
    assert "skipped  new.png: not in the dataset" in result.stdout
    assert "cat/1.png" not in tree(data)
    assert apply(data, rows, "--yes", "--add").exit_code == 0
    assert tree(data)["dog/new.png"] == new.read_bytes()
    invoke(data, "--undo")
    assert "dog/new.png" not in tree(data)
    assert new.exists()
    lost = row(data / "cat/2.png", "cat", "relabel:dog")
    (data / "cat/2.png").unlink()
    result = apply(data, [lost], "--dry-run")
    assert "skipped  2.png: neither in the dataset nor where it was judged" in result.stdout
    assert "nothing to do" in result.stdout


def test_splits_stay_as_they_are(tmp_path: Path) -> None:
    for name, brightness in {"train/cat/1.png": 1, "train/dog/2.png": 2, "test/cat/sub/3.png": 3}.items():
        write_picture(tmp_path / "data" / name, brightness)
    data = tmp_path / "data"
    new = write_picture(tmp_path / "new.png", 9)
    rows = [row(data / "test/cat/sub/3.png", "cat", "relabel:dog"), row(new, "dog", "keep")]
    assert apply(data, rows, "--yes", "--add").exit_code == 0
    assert set(tree(data)) == {"train/cat/1.png", "train/dog/2.png", "test/dog/sub/3.png", "train/dog/new.png"}


def test_proposals_of_a_kind_are_taken_at_once(data: Path) -> None:
    rows = [
        row(data / "cat/1.png", "cat", "", issue_type="wrong-label", proposed="relabel:dog"),
        row(data / "cat/2.png", "cat", "", issue_type="confusion", proposed="keep"),
        row(data / "cat/3.png", "cat", "keep", issue_type="wrong-label", proposed="relabel:dog"),
    ]
    assert apply(data, rows, "--yes", "--accept", "wrong-label").exit_code == 0
    assert {"cat/2.png", "cat/3.png"} <= set(tree(data))
    assert "cat/1.png" not in tree(data)


Change_ = Callable[[Path, list[ReviewRow]], None]


def edit(data: Path, rows: list[ReviewRow]) -> None:
    write_picture(data / "cat/1.png", 99)


def misspell(data: Path, rows: list[ReviewRow]) -> None:
    rows.append(row(data / "cat/2.png", "cat", "relabel:dgo"))


def contradict(data: Path, rows: list[ReviewRow]) -> None:
    rows.append(row(data / "cat/1.png", "cat", "delete"))


def leave_the_dataset(data: Path, rows: list[ReviewRow]) -> None:
    rows.append(row(data / "cat/2.png", "cat", "relabel:../x"))


def write_nonsense(data: Path, rows: list[ReviewRow]) -> None:
    rows.append(row(data / "cat/2.png", "cat", "remove"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (edit, "cat/1.png has changed since it was judged"),
        (misspell, "no class dgo"),
        (contradict, "review.csv, lines 2 and 3: 1.png (cat, relabel:dog) and 1.png (cat, delete) are the same image"),
        (leave_the_dataset, "cannot be the name"),
        (write_nonsense, "line 3: remove is no action"),
    ],
)
def test_what_cannot_be_meant_is_refused_whole(data: Path, change: Change_, said: str) -> None:
    rows = [row(data / "cat/1.png", "cat", "relabel:dog")]
    change(data, rows)
    before = tree(data)
    result = apply(data, rows, "--yes")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert said in result.stderr
    assert tree(data) == before


def test_no_review_and_no_dataset(data: Path) -> None:
    assert "no such file" in invoke(data, str(data / "absent.csv")).stderr
    (data.parent / "other.csv").write_text("a,b\n1,2\n")
    assert "is not a review" in invoke(data, str(data.parent / "other.csv")).stderr
    result = invoke(data / "absent", "--undo")
    assert result.exit_code == 2
    assert "--dataset" in result.stderr


@pytest.mark.parametrize("killed_after", range(4))
@pytest.mark.parametrize("then", ["again", "undo"])
def test_a_kill_midway_is_finished_or_undone(data: Path, killed_after: int, then: str) -> None:
    before = tree(data)
    new = write_picture(data.parent / "new.png", 50)
    changes = [
        Change("move", sha256_of(data / "cat/1.png"), "dog/9.png", "cat/1.png"),
        Change("add", sha256_of(new), "dog/new.png", str(new)),
        Change("confirm", sha256_of(new), "dog"),
        Change("move", sha256_of(data / "cat/2.png"), ".review/trash/x/cat/2.png", "cat/2.png"),
    ]
    content = perform(data, changes)
    after = tree(data)
    invoke(data, "--undo")
    assert tree(data) == before
    # What a kill leaves: the first changes are done, and the journal holds all of them as pending.
    perform(data, changes[:killed_after])
    (data / ".review/2026-01-02T00-00-00Z.00.pending.json").write_bytes(content)
    result = apply(data, [], "--yes") if then == "again" else invoke(data, "--undo")
    assert result.exit_code == 0, result.output
    assert tree(data) == (after if then == "again" else before)
    if then != "again":
        moved = sum(change.kind != "confirm" for change in changes[:killed_after])
        assert f"Undone: {moved} files are as before" in result.stdout


def perform(data: Path, changes: list[Change]) -> bytes:
    """Do the changes, forget that they were done, and give what the journal said."""
    with open_journal(data) as journal:
        journal.perform("2026-01-01T00-00-00Z.00", changes)
    entry = data / ".review/2026-01-01T00-00-00Z.00.done.json"
    content = entry.read_bytes()
    if len(changes) < 4:
        entry.unlink()
    return content


def test_undoing_refuses_what_changed_since(data: Path) -> None:
    apply(data, [row(data / "cat/2.png", "cat", "relabel:dog"), row(data / "cat/3.png", "cat", "relabel:dog")], "--yes")
    write_picture(data / "dog/3.png", 200)
    before = tree(data)
    result = invoke(data, "--undo")
    assert result.exit_code == 2
    assert "dog/3.png has changed" in result.stderr
    assert tree(data) == before


def test_a_class_that_no_file_system_can_name_is_refused_before_anything_moves(data: Path) -> None:
    before = tree(data)
    result = apply(data, [row(data / "cat/2.png", "cat", f"relabel:{'x' * 300}")], "--yes", "--create")
    assert result.exit_code == 2
    assert "more than 255 bytes" in result.stderr
    assert tree(data) == before


def test_advice_names_the_dataset(data: Path) -> None:
    (data / ".review").write_text("")
    result = apply(data, [row(data / "cat/2.png", "cat", "delete")], "--yes")
    assert "cannot create" in result.stderr
    assert "nothing was changed" in result.stderr
    (data / ".review").unlink()
    apply(data, [row(data / "cat/2.png", "cat", "relabel:dog")], "--yes")
    with pytest.raises(CorrectionError, match=f"--undo --dataset {data}"), open_journal(data):
        raise PermissionError(13, "Permission denied", str(data))


def test_one_at_a_time(data: Path) -> None:
    with open_journal(data):
        result = invoke(data, "--undo")
    assert result.exit_code == 2
    assert "another classify-train apply" in result.stderr


@pytest.mark.parametrize(("text", "action"), [
    ("", None), (" Keep ", Action("keep")), ("DELETE", Action("delete")), ("relabel: dog ", Action("relabel", "dog")),
    ("relabel:a:b", Action("relabel", "a:b")),
])  # fmt: skip
def test_actions_as_people_write_them(text: str, action: Action | None) -> None:
    assert parse_action(text) == action


def test_spaces_at_the_ends_of_a_class_name_belong_to_it(data: Path) -> None:
    write_picture(data / "wild cat " / "5.png", 5)
    apply(
        data,
        [row(data / "cat/1.png", "cat", "relabel:wild cat "), row(data / "cat/2.png", "cat", "relabel: dog ")],
        "--yes",
    )
    assert {name.split("/")[0] for name in tree(data)} == {"cat", "dog", "wild cat "}
    assert len(list((data / "wild cat ").iterdir())) == 2


@pytest.mark.parametrize("text", ["relabel", "relabel:", "relabel: ", "keep:", "dog", "delete:dog"])
def test_what_is_no_action(text: str) -> None:
    with pytest.raises(ReviewError, match="is no action"):
        parse_action(text)


cells = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=8)


@settings(deadline=None)
@given(st.lists(st.builds(ReviewRow, path=cells, label=cells, action=cells, sha256=cells, file=cells), max_size=3))
def test_a_review_survives_the_file(tmp_path_factory: pytest.TempPathFactory, rows: list[ReviewRow]) -> None:
    path = tmp_path_factory.getbasetemp() / "review.csv"
    write_review(path, rows)
    assert read_review(path) == rows


def test_no_name_becomes_a_formula(tmp_path: Path) -> None:
    rows = [ReviewRow(path="=cmd()", label="-a", action="keep", sha256="00", file="'=x")]
    write_review(tmp_path / "review.csv", rows)
    with (tmp_path / "review.csv").open(newline="") as file:
        (line,) = csv.DictReader(file)
    assert (line["path"], line["label"], line["file"]) == ("'=cmd()", "'-a", "''=x")
    assert read_review(tmp_path / "review.csv") == rows


def test_a_review_saved_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    content = "\ufeffpath;label;action;sha256\r\na.png;cat;keep;00\r\n"
    rows = [ReviewRow(path="a.png", label="cat", action="keep", sha256="00")]
    for text in (content, content.rstrip()):
        (tmp_path / "review.csv").write_bytes(text.encode())
        assert read_review(tmp_path / "review.csv") == rows
    (tmp_path / "review.csv").write_bytes((content + "b.png;ca").encode())
    with pytest.raises(ReviewError, match="ends in the middle of a line"):
        read_review(tmp_path / "review.csv")


def test_an_interruption_before_the_first_change_says_that_nothing_was_changed(data: Path) -> None:
    write_review(data.parent / "review.csv", [row(data / "cat/1.png", "cat", "relabel:dog")])
    code = (
        "import os, signal, sys; from classify_training.cli import apply;"
        "apply._is_confirmed = lambda: os.kill(os.getpid(), signal.SIGINT);"
        "from classify_training.cli.main import main; main()"
    )
    command = ["apply", str(data.parent / "review.csv"), "--dataset", str(data), "--quiet"]
    result = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (130, "Interrupted: nothing was changed.\n")
    assert (data / "cat/1.png").exists()
