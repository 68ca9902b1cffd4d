"""Embeddings of training images: the nearest image, and the two similarity thresholds."""

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
def embeddings() -> TrainEmbeddings:
    """Two hundred images around two directions, the last two of them nearly the same."""
    random = np.random.default_rng(1)
    vectors = np.repeat(np.eye(2, 16, dtype=np.float32), 100, axis=0) + random.normal(0, 0.1, (200, 16)).astype("f4")
    vectors[199] = vectors[198] * 3
    return make_train_embeddings(vectors, [f"{number:064}" for number in range(200)], ["cat"] * 100 + ["dog"] * 100)


def test_the_nearest_image_has_another_content(embeddings: TrainEmbeddings) -> None:
    asked = embeddings.vectors[[0, 198]]
    (similarity, label), (duplicate_similarity, _) = embeddings.nearest(
        asked, [embeddings.digests[0], embeddings.digests[198]]
    )
    assert label == "cat"
    assert similarity < 0.999
    assert duplicate_similarity == pytest.approx(1)
    assert embeddings.nearest(asked[:1], ["another"])[0][0] == pytest.approx(1)


def test_the_thresholds_are_quantiles_of_the_training_images(embeddings: TrainEmbeddings) -> None:
    similarities = np.array(
        [similarity for similarity, _ in embeddings.nearest(embeddings.vectors, embeddings.digests)]
    )
    assert 0 < (similarities < embeddings.outlier_similarity).mean() <= 0.02
    assert 0.03 <= (similarities >= embeddings.near_duplicate_similarity).mean() <= 0.07
    stranger = np.zeros((1, 16), np.float32)
    stranger[0, 9] = 1
    assert embeddings.nearest(stranger, [""])[0][0] < embeddings.outlier_similarity


def test_embeddings_are_read_back_from_the_file(embeddings: TrainEmbeddings, tmp_path: Path) -> None:
    write_train_embeddings(tmp_path / "train_embeddings.npz", embeddings)
    for given in (tmp_path, tmp_path / "train_embeddings.npz"):
        read = read_train_embeddings(given)
        np.testing.assert_allclose(read.vectors, embeddings.vectors, atol=1e-3)
        assert (read.digests, read.labels) == (embeddings.digests, embeddings.labels)
        assert (read.near_duplicate_similarity, read.outlier_similarity) == (
            embeddings.near_duplicate_similarity,
            embeddings.outlier_similarity,
        )


@pytest.mark.parametrize("content", [None, b"", b"text", b"PK\x03\x04"])
def test_other_files_are_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "train_embeddings.npz").write_bytes(content)
    with pytest.raises(TrainEmbeddingsError, match=r"give the train_embeddings\.npz"):
        read_train_embeddings(tmp_path / "train_embeddings.npz")
