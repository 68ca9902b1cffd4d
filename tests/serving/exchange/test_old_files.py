"""Files that release 0.1 wrote are still read: their old names, columns and values."""

import csv
from pathlib import Path

import numpy as np
import pytest

from classify_serving.exchange.embeddings import EmbeddedImage, read_embeddings
from classify_serving.exchange.review import ReviewRow, read_confirmed, read_review, write_review
from classify_serving.exchange.train_embeddings import (
    TrainEmbeddingsError,
    make_train_embeddings,
    read_train_embeddings,
    write_train_embeddings,
)
from classify_serving.exchange.train_manifest import (
    TrainManifestError,
    find_train_manifest,
    read_train_manifest,
    train_manifest_csv,
)

DIGEST = "ab" * 32
MANIFEST = f"sha256,label,split\r\n{DIGEST},cat,train\r\n".encode()
OLD_REVIEW_HEADER = "path,label,predicted,probability,kind,reason,seen,proposed,action,sha256,file"


def write_manifest(model: Path, version: int, name: str, content: bytes = MANIFEST) -> Path:
    path = model / str(version) / "assets.extra" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_columns_of_a_later_release_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(f"new,split,label,sha256\n1,val,cat,{DIGEST}\n")
    assert read_train_manifest(tmp_path / "manifest.csv").contents == {DIGEST: {"cat": "val"}}
    (tmp_path / "confirmed.csv").write_text(f"label,new,sha256\ncat,1,{DIGEST}\n")
    assert read_confirmed(tmp_path / "confirmed.csv") == {(DIGEST, "cat")}
    np.save(tmp_path / "embeddings.npy", np.zeros((1, 2), np.float32))
    (tmp_path / "embeddings.csv").write_text("file,new,path,true_class,predicted,probability\n/a,1,a,cat,dog,0.5\n")
    assert read_embeddings(tmp_path)[1] == [EmbeddedImage("a", "cat", "dog", 0.5, Path("/a"))]


@pytest.mark.parametrize("content", ["sha256,label\n", "sha256,label,split\na,b\n", "sha256,label,split\n\udcff\n"])
def test_what_is_no_train_manifest_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "manifest.csv"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(TrainManifestError, match=r"manifest\.csv is not a train manifest \("):
        read_train_manifest(path)


@pytest.mark.parametrize("place", ["", "3", "3/assets.extra/trained_on.csv"])
def test_an_old_train_manifest(tmp_path: Path, place: str) -> None:
    write_manifest(tmp_path, 3, "trained_on.csv")
    manifest = read_train_manifest(tmp_path / place)
    assert manifest.is_seen(DIGEST)
    assert manifest.labels(DIGEST) == {"cat"}


def test_the_new_train_manifest_is_preferred_to_the_old_one(tmp_path: Path) -> None:
    write_manifest(tmp_path, 1, "trained_on.csv")
    new = write_manifest(tmp_path, 1, "train_manifest.csv", train_manifest_csv([(DIGEST, "dog", "test")]))
    assert find_train_manifest(tmp_path) == new
    assert read_train_manifest(tmp_path).labels(DIGEST) == {"dog"}


def test_the_newest_version_with_a_manifest_is_used(tmp_path: Path) -> None:
    first = write_manifest(tmp_path, 1, "train_manifest.csv")
    second = write_manifest(tmp_path, 2, "trained_on.csv")
    (tmp_path / "10").mkdir()
    assert find_train_manifest(tmp_path) == second
    assert find_train_manifest(tmp_path, version=1) == first
    assert find_train_manifest(tmp_path, version=10) is None


def test_a_missing_train_manifest_is_named_by_its_new_name(tmp_path: Path) -> None:
    with pytest.raises(TrainManifestError, match=r"no assets\.extra/train_manifest\.csv"):
        read_train_manifest(tmp_path)


def test_old_train_embeddings(tmp_path: Path) -> None:
    np.savez_compressed(
        tmp_path / "index.npz",
        vectors=np.eye(2, 4, dtype=np.float16),
        digests=np.array(["a", "b"]),
        labels=np.array(["cat", "dog"]),
        limits=np.array([0.9, 0.25]),
    )
    for path in (tmp_path, tmp_path / "index.npz"):
        read = read_train_embeddings(path)
        assert (read.digests, read.labels) == (["a", "b"], ["cat", "dog"])
        assert (read.near_duplicate_similarity, read.outlier_similarity) == (0.9, 0.25)
        np.testing.assert_array_equal(read.vectors, np.eye(2, 4))


def test_new_train_embeddings_are_preferred_to_old_ones(tmp_path: Path) -> None:
    (tmp_path / "index.npz").write_bytes(b"not read")
    embeddings = make_train_embeddings(np.eye(2, dtype=np.float32), ["a", "b"], ["cat", "dog"])
    write_train_embeddings(tmp_path / "train_embeddings.npz", embeddings)
    assert read_train_embeddings(tmp_path).labels == ["cat", "dog"]


def test_missing_train_embeddings_are_named_by_their_new_name(tmp_path: Path) -> None:
    with pytest.raises(TrainEmbeddingsError, match=r"train_embeddings\.npz"):
        read_train_embeddings(tmp_path)


@pytest.mark.parametrize(
    ("kind", "issue_type"),
    [
        ("unlike", "outlier"),
        ("wrong-label", "wrong-label"),
        ("duplicate", "duplicate"),
        ("confusion", "confusion"),
        ("confirmed", "confirmed"),
    ],
)
def test_an_old_review(tmp_path: Path, kind: str, issue_type: str) -> None:
    path = tmp_path / "review.csv"
    path.write_text(
        f"{OLD_REVIEW_HEADER}\na.png,cat,dog,0.9,{kind},why,true,keep,relabel:dog,{DIGEST},/images/cat/a.png\n"
    )
    (row,) = read_review(path)
    assert row == ReviewRow(
        path="a.png",
        label="cat",
        predicted="dog",
        probability="0.9",
        issue_type=issue_type,
        reason="why",
        seen="true",
        proposed="keep",
        action="relabel:dog",
        sha256=DIGEST,
        file="/images/cat/a.png",
    )


def test_an_old_review_is_written_again_with_the_new_names(tmp_path: Path) -> None:
    path = tmp_path / "review.csv"
    path.write_text(f"{OLD_REVIEW_HEADER}\na.png,cat,dog,0.9,unlike,why,,,delete,{DIGEST},/a.png\n")
    rows = read_review(path)
    write_review(path, rows)
    with path.open(newline="", encoding="utf-8") as file:
        (line,) = csv.DictReader(file)
    assert line["issue_type"] == "outlier"
    assert "kind" not in line
    assert read_review(path) == rows
