"""The index of training images: what is nearest, and how near is near."""

from pathlib import Path

import numpy as np
import pytest

from classify_serving.exchange.train_embeddings import (
    TrainEmbeddings,
    TrainEmbeddingsError,
    make_train_embeddings,
    read_train_embeddings,
    write_train_embeddings,
)


@pytest.fixture
def index() -> TrainEmbeddings:
    """Two hundred images around two directions, the last two of them nearly the same."""
    random = np.random.default_rng(1)
    vectors = np.repeat(np.eye(2, 16, dtype=np.float32), 100, axis=0) + random.normal(0, 0.1, (200, 16)).astype("f4")
    vectors[199] = vectors[198] * 3
    return make_train_embeddings(vectors, [f"{number:064}" for number in range(200)], ["cat"] * 100 + ["dog"] * 100)


def test_the_nearest_is_another_picture(index: TrainEmbeddings) -> None:
    asked = index.vectors[[0, 198]]
    (cosine, label), (twin_cosine, _) = index.nearest(asked, [index.digests[0], index.digests[198]])
    assert label == "cat"
    assert cosine < 0.999
    assert twin_cosine == pytest.approx(1)
    assert index.nearest(asked[:1], ["another"])[0][0] == pytest.approx(1)


def test_the_limits_are_those_of_the_training_images(index: TrainEmbeddings) -> None:
    cosines = np.array([cosine for cosine, _ in index.nearest(index.vectors, index.digests)])
    assert 0 < (cosines < index.outlier_similarity).mean() <= 0.02
    assert 0.03 <= (cosines >= index.near_duplicate_similarity).mean() <= 0.07
    stranger = np.zeros((1, 16), np.float32)
    stranger[0, 9] = 1
    assert index.nearest(stranger, [""])[0][0] < index.outlier_similarity


def test_an_index_survives_the_file(index: TrainEmbeddings, tmp_path: Path) -> None:
    write_train_embeddings(tmp_path / "train_embeddings.npz", index)
    for given in (tmp_path, tmp_path / "train_embeddings.npz"):
        read = read_train_embeddings(given)
        np.testing.assert_allclose(read.vectors, index.vectors, atol=1e-3)
        assert (read.digests, read.labels) == (index.digests, index.labels)
        assert (read.near_duplicate_similarity, read.outlier_similarity) == (
            index.near_duplicate_similarity,
            index.outlier_similarity,
        )


@pytest.mark.parametrize("content", [None, b"", b"text", b"PK\x03\x04"])
def test_what_is_no_index(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "train_embeddings.npz").write_bytes(content)
    with pytest.raises(TrainEmbeddingsError, match=r"give the train_embeddings\.npz"):
        read_train_embeddings(tmp_path / "train_embeddings.npz")
