"""Images that the model was trained on are recognised by their content, and their accuracy is separate."""

import shutil
from pathlib import Path
from zipfile import ZipFile

import pytest
from client_support import Client

from classify_serving.exchange.label_scores import LabelScore, label_scores_csv
from classify_serving.exchange.review import read_review
from classify_serving.exchange.train_manifest import (
    NOT_USED,
    TRAIN_MANIFEST_FILE,
    find_train_manifest,
    train_manifest_csv,
)
from classify_serving.files import sha256_of


@pytest.fixture
def train_manifest(client: Client, tmp_path: Path) -> Path:
    """A train manifest of three images: one trained on, one trained on under another label, one of the test split."""
    images = client.images
    images_in_manifest = [
        ("black/1.png", "black", "train"),
        ("black/2.png", "white", "val"),
        ("white/1.jpg", "white", "test"),
    ]
    entries = [(sha256_of(images / name), label, split) for name, label, split in images_in_manifest]
    path = tmp_path / "models/classifier/1" / TRAIN_MANIFEST_FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(train_manifest_csv(entries))
    return path


def test_accuracy_is_separate_for_seen_and_unseen_images(client: Client, train_manifest: Path) -> None:
    for given in (train_manifest, train_manifest.parents[1], train_manifest.parents[2]):
        result = client.run("--train-manifest", str(given))
        summary = client.summary()
        assert (summary["seen"]["images"], summary["seen"]["correct"], summary["seen"]["accuracy"]) == (2, 1, 0.5)
        assert (summary["unseen"]["images"], summary["unseen"]["labelled"], summary["unseen"]["correct"]) == (4, 3, 2)
        assert summary["accuracy"] == 0.6
        assert "2 images from training, accuracy 50.0%; on unseen images 66.7%" in result.stdout
        assert "The model was trained on 2 of these images" in (client.output / "report.html").read_text()


def test_models_that_have_not_seen_an_image_are_believed_before_the_one_that_has_learnt_its_label(
    client: Client, train_manifest: Path
) -> None:
    # The model is sure that both are wrong; the scores say so of the second one only.
    wrong = [client.images / name for name in ("black/2.png", "dark grey/2.png")]
    train_manifest.write_bytes(train_manifest_csv([(sha256_of(path), path.parent.name, "train") for path in wrong]))
    doubts = (LabelScore("grey", -2.0, False), LabelScore("white", 4.0, True))
    entries = [((sha256_of(path), path.parent.name), score) for path, score in zip(wrong, doubts, strict=True)]
    scores = train_manifest.with_name("label_scores.csv")
    scores.write_bytes(label_scores_csv(entries))
    client.run("--train-manifest", str(train_manifest.parents[1]))
    first, second = read_review(client.output / "review.csv")
    assert (first.path, first.issue_type, first.proposed) == ("dark grey/2.png", "wrong-label", "relabel:white")
    assert (second.path, second.issue_type, second.proposed) == ("black/2.png", "confusion", "")
    assert "models that have not seen it take it for black too" in second.reason
    scores.write_text("nothing")
    result = client.run("--train-manifest", str(train_manifest))
    assert result.exit_code == 2
    assert f"cannot read {scores}" in result.stderr


def test_accuracy_is_not_separate_for_images_in_archives(client: Client, train_manifest: Path) -> None:
    # After the run only the misses have files to hash, and their accuracy is not that of all images.
    with ZipFile(client.images.with_suffix(".zip"), "w") as archive:
        for path in sorted(client.images.rglob("*.*")):
            archive.write(path, path.relative_to(client.images))
    client.run("--train-manifest", str(train_manifest), inputs=(client.images.with_suffix(".zip"),))
    assert client.summary()["misses"] == 2
    assert "seen" not in client.summary()


def test_an_image_trained_on_under_another_label_is_a_duplicate(client: Client, train_manifest: Path) -> None:
    client.run("--train-manifest", str(train_manifest))
    first, second = read_review(client.output / "review.csv")
    assert (first.path, first.issue_type, first.proposed, first.seen) == (
        "black/2.png",
        "duplicate",
        "",
        "true",
    )
    assert first.reason == "the same picture was trained on as white"
    assert (second.path, second.issue_type, second.seen) == ("dark grey/2.png", "confusion", "false")


def test_an_image_that_the_dataset_has_under_two_labels_is_a_duplicate_though_its_copy_is_right(
    client: Client, tmp_path: Path
) -> None:
    shutil.copy(client.images / "black/1.png", client.images / "white/1.png")
    digest = sha256_of(client.images / "black/1.png")
    manifest = tmp_path / "train_manifest.csv"
    manifest.write_bytes(train_manifest_csv([(digest, "black", NOT_USED), (digest, "white", NOT_USED)]))
    client.run("--train-manifest", str(manifest))
    (row,) = [row for row in read_review(client.output / "review.csv") if row.path == "white/1.png"]
    assert (row.issue_type, row.proposed, row.seen) == ("duplicate", "", "false")
    assert row.reason == "the same picture is in the dataset as black too"


def test_invalid_manifests_and_confirmed_labels_are_errors_before_any_image_is_sent(
    client: Client, tmp_path: Path
) -> None:
    (tmp_path / "text.csv").write_text("a,b\n")
    for option in ("--train-manifest", "--confirmed"):
        for name in ("absent.csv", "text.csv"):
            (tmp_path / "text.csv").write_text("a,b\n1,2\n")
            result = client.run(option, str(tmp_path / name))
            assert result.exit_code == 2, (option, name)
            assert len(result.stderr.splitlines()) == 1
            assert name in result.stderr
    assert client.model.images == 0


def test_the_train_manifest_of_the_newest_version_is_used_unless_one_is_given(tmp_path: Path) -> None:
    for version in ("2", "10"):
        path = tmp_path / version / TRAIN_MANIFEST_FILE
        path.parent.mkdir(parents=True)
        path.touch()
    assert find_train_manifest(tmp_path) == tmp_path / "10" / TRAIN_MANIFEST_FILE
    assert find_train_manifest(tmp_path, 2) == tmp_path / "2" / TRAIN_MANIFEST_FILE
    assert find_train_manifest(tmp_path, 3) is None
