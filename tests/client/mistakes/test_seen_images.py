"""Images the model was trained on are recognised by content and scored apart."""

from pathlib import Path
from zipfile import ZipFile

import pytest
from client_support import Client

from classify_serving.exchange.review import read_review
from classify_serving.exchange.train_manifest import TRAIN_MANIFEST_FILE, find_train_manifest, train_manifest_csv
from classify_serving.files import sha256_of


@pytest.fixture
def trained_on(client: Client, tmp_path: Path) -> Path:
    """Two images trained on, one of them under another label, and one that only the test split had."""
    images = client.images
    contents = [("black/1.png", "black", "train"), ("black/2.png", "white", "val"), ("white/1.jpg", "white", "test")]
    lines = [(sha256_of(images / name), label, split) for name, label, split in contents]
    path = tmp_path / "models/classifier/1" / TRAIN_MANIFEST_FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(train_manifest_csv(lines))
    return path


def test_seen_images_are_scored_apart(client: Client, trained_on: Path) -> None:
    for given in (trained_on, trained_on.parents[1], trained_on.parents[2]):
        result = client.run("--train-manifest", str(given))
        summary = client.summary()
        assert (summary["seen"]["images"], summary["seen"]["correct"], summary["seen"]["accuracy"]) == (2, 1, 0.5)
        assert (summary["unseen"]["images"], summary["unseen"]["labelled"], summary["unseen"]["correct"]) == (4, 3, 2)
        assert summary["accuracy"] == 0.6
        assert "2 images from training, accuracy 50.0%; on unseen images 66.7%" in result.stdout
        assert "The model was trained on 2 of these images" in (client.output / "report.html").read_text()


def test_images_in_archives_are_not_scored_apart(client: Client, trained_on: Path) -> None:
    # Only their misses could be read again, and would stand for all.
    with ZipFile(client.images.with_suffix(".zip"), "w") as archive:
        for path in sorted(client.images.rglob("*.*")):
            archive.write(path, path.relative_to(client.images))
    client.run("--train-manifest", str(trained_on), inputs=(client.images.with_suffix(".zip"),))
    assert client.summary()["misses"] == 2
    assert "seen" not in client.summary()


def test_a_picture_trained_on_under_another_label_is_told(client: Client, trained_on: Path) -> None:
    client.run("--train-manifest", str(trained_on))
    first, second = read_review(client.output / "review.csv")
    assert (first.path, first.issue_type, first.proposed, first.seen) == (
        "black/2.png",
        "duplicate",
        "relabel:white",
        "true",
    )
    assert first.reason == "the same picture was trained on as white"
    assert (second.path, second.issue_type, second.seen) == ("dark grey/2.png", "confusion", "false")


def test_lists_that_are_none_are_told_before_anything_is_sent(client: Client, tmp_path: Path) -> None:
    (tmp_path / "text.csv").write_text("a,b\n")
    for option in ("--train-manifest", "--confirmed"):
        for name in ("absent.csv", "text.csv"):
            (tmp_path / "text.csv").write_text("a,b\n1,2\n")
            result = client.run(option, str(tmp_path / name))
            assert result.exit_code == 2, (option, name)
            assert len(result.stderr.splitlines()) == 1
            assert name in result.stderr
    assert client.model.images == 0


def test_the_newest_version_is_taken_unless_one_is_named(tmp_path: Path) -> None:
    for version in ("2", "10"):
        path = tmp_path / version / TRAIN_MANIFEST_FILE
        path.parent.mkdir(parents=True)
        path.touch()
    assert find_train_manifest(tmp_path) == tmp_path / "10" / TRAIN_MANIFEST_FILE
    assert find_train_manifest(tmp_path, 2) == tmp_path / "2" / TRAIN_MANIFEST_FILE
    assert find_train_manifest(tmp_path, 3) is None
