"""review.csv: one row for each miss, with a proposal; decisions are kept in the next run."""

import shutil
from dataclasses import replace

from client_support import Client, Start
from support import BrightnessModel, make_metadata, write_picture

from classify_serving.exchange.review import read_review, write_review
from classify_serving.files import sha256_of


def test_each_miss_is_listed_with_a_proposal(start: Start) -> None:
    client = start(BrightnessModel(make_metadata(merges={"dark grey": "grey"})))
    for number in range(3):
        write_picture(client.images / f"white/{number}.png", 240 + number)
    wrong = write_picture(client.images / "black/2.png", 250)
    write_picture(client.images / "dark grey/3.png", 3)
    client.run()
    first, second = read_review(client.output / "review.csv")
    assert (first.path, first.label, first.predicted, first.issue_type) == (
        "black/2.png",
        "black",
        "white",
        "wrong-label",
    )
    assert (first.proposed, first.action) == ("relabel:white", "")
    assert (first.sha256, first.file) == (sha256_of(wrong), str(wrong))
    assert (second.path, second.label, second.issue_type) == ("dark grey/3.png", "dark grey", "confusion")
    assert second.proposed == ""


def test_no_relabelling_is_proposed_to_a_class_without_a_training_folder(start: Start) -> None:
    client = start(BrightnessModel(make_metadata(train_counts_before={"black": 5, "grey": 3})))
    for number in range(3):
        write_picture(client.images / f"white/{number}.png", 240 + number)
    write_picture(client.images / "black/2.png", 250)
    client.run()
    assert [(row.issue_type, row.proposed) for row in read_review(client.output / "review.csv")] == [
        ("wrong-label", "")
    ]


def test_decisions_are_kept_in_the_next_run_and_a_kept_label_becomes_confirmed(client: Client) -> None:
    client.run()
    path = client.output / "review.csv"
    rows = {row.path: row for row in read_review(path)}
    assert set(rows) == {"black/2.png", "dark grey/2.png"}
    write_review(
        path, [replace(rows["black/2.png"], action="keep"), replace(rows["dark grey/2.png"], action="relabel:black")]
    )
    for options in ((), ("--overwrite",)):
        client.run(*options)
        again = [(row.path, row.issue_type, row.action) for row in read_review(path)]
        assert again == [("dark grey/2.png", "confusion", "relabel:black"), ("black/2.png", "confirmed", "keep")]
    # Another image at the same path needs a new decision.
    write_picture(client.images / "black/2.png", 251)
    client.run()
    assert {row.path: row.action for row in read_review(path)} == {
        "black/2.png": "",
        "dark grey/2.png": "relabel:black",
    }


def test_labels_confirmed_in_a_dataset_are_not_reviewed_again(client: Client) -> None:
    (client.images / ".review").mkdir()
    digest = sha256_of(client.images / "black/2.png")
    (client.images / ".review/confirmed.csv").write_text(f"sha256,label\n{digest},black\n")
    client.run()
    assert [row.path for row in read_review(client.output / "review.csv")] == ["dark grey/2.png"]
    assert len(client.misses()) == 2


def test_a_review_file_that_cannot_be_read_is_not_overwritten(client: Client) -> None:
    client.output.mkdir()
    (client.output / "review.csv").write_text("my,notes\n")
    result = client.run()
    assert result.exit_code == 2
    assert "review.csv" in result.stderr
    assert (client.output / "review.csv").read_text() == "my,notes\n"


def test_a_decision_is_kept_until_its_image_is_deleted(client: Client) -> None:
    client.run()
    path = client.output / "review.csv"
    rows = [replace(row, action="delete") for row in read_review(path)]
    write_review(path, rows)
    client.run("--labels", "none")
    kept = read_review(path)
    assert [(row.key, row.file, row.action) for row in kept] == [(row.key, row.file, row.action) for row in rows]
    assert {row.reason for row in kept} == {"decided before; not doubted this time"}
    (client.images / "black/2.png").unlink()
    client.run("--labels", "none")
    assert [row.path for row in read_review(path)] == ["dark grey/2.png"]


def test_a_picture_under_two_labels_is_a_duplicate_without_a_proposal(client: Client) -> None:
    shutil.copy(client.images / "dark grey/2.png", client.images / "black/3.png")
    write_picture(client.images / "white/4.png", 100)
    shutil.copy(client.images / "white/4.png", client.images / "black/4.png")
    client.run()
    rows = {row.path: row for row in read_review(client.output / "review.csv")}
    both = [rows[path] for path in ("black/4.png", "white/4.png")]
    assert [(row.issue_type, row.proposed, row.reason) for row in both] == [
        ("duplicate", "", "the same picture is here as white too"),
        ("duplicate", "", "the same picture is here as black too"),
    ]


def test_a_broken_file_is_listed_as_long_as_its_folder_has_a_label(client: Client) -> None:
    for name in ("dark grey/broken.png", "nowhere/broken.png"):
        (client.images / name).parent.mkdir(exist_ok=True)
        (client.images / name).write_text("no image")
    client.run("--max-failures", "2")
    (row,) = [row for row in read_review(client.output / "review.csv") if row.issue_type == "unreadable"]
    assert (row.path, row.label, row.predicted, row.proposed) == ("dark grey/broken.png", "dark grey", "", "")
    assert row.sha256 == sha256_of(client.images / row.path)
    assert "image" in row.reason


def test_each_copy_of_a_picture_keeps_its_own_decision(client: Client) -> None:
    for name in ("3", "4"):
        shutil.copy(client.images / "black/2.png", client.images / f"black/{name}.png")
    client.run()
    path = client.output / "review.csv"
    actions = {"black/2.png": "relabel:grey", "black/3.png": "delete"}
    write_review(path, [replace(row, action=actions.get(row.path, "")) for row in read_review(path)])
    (client.images / "black/3.png").rename(client.images / "black/5.png")
    client.run()
    assert {row.path: row.action for row in read_review(path)} == {
        "black/2.png": "relabel:grey",
        "black/4.png": "",
        "black/5.png": "delete",
        "dark grey/2.png": "",
    }
