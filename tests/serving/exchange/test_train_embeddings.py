"""Embeddings of training images: the nearest image, and the two similarity thresholds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from classify_serving.exchange.train_embeddings import (
    RUN_FILE,
    TrainEmbeddings,
    TrainEmbeddingsError,
    find_train_embeddings,
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
    of_first, of_duplicate = embeddings.nearest(asked, [embeddings.digests[0], embeddings.digests[198]], 3)
    assert [embeddings.labels[place] for _, place in of_first] == ["cat"] * 3
    assert 0.999 > of_first[0][0] > of_first[1][0] > of_first[2][0]
    assert of_duplicate[0] == pytest.approx((1, 199))
    assert embeddings.nearest(asked[:1], ["another"])[0][0] == pytest.approx((1, 0))


def test_no_more_images_are_found_than_there_are() -> None:
    two = make_train_embeddings(np.eye(2, dtype=np.float32), ["a", "b"], ["cat", "dog"])
    assert two.nearest(np.ones((1, 2), np.float32), ["a"], 5) == [[pytest.approx((0.5**0.5, 1))]]


def test_the_thresholds_are_quantiles_of_the_training_images(embeddings: TrainEmbeddings) -> None:
    similarities = np.array([found[0][0] for found in embeddings.nearest(embeddings.vectors, embeddings.digests)])
    assert 0 < (similarities < embeddings.outlier_similarity).mean() <= 0.02
    assert 0.03 <= (similarities >= embeddings.near_duplicate_similarity).mean() <= 0.07
    stranger = np.zeros((1, 16), np.float32)
    stranger[0, 9] = 1
    assert embeddings.nearest(stranger, [""])[0][0][0] < embeddings.outlier_similarity


def test_embeddings_are_read_back_from_the_file(embeddings: TrainEmbeddings, tmp_path: Path) -> None:
    paths, thumbnails = [f"{number}.png" for number in range(200)], [bytes(number % 3) for number in range(200)]
    embeddings = replace(embeddings, paths=paths, thumbnails=thumbnails)
    write_train_embeddings(tmp_path / "train_embeddings.npz", embeddings)
    for given in (tmp_path, tmp_path / "train_embeddings.npz"):
        read = read_train_embeddings(given)
        np.testing.assert_allclose(read.vectors, embeddings.vectors, atol=1e-3)
        assert (read.digests, read.labels) == (embeddings.digests, embeddings.labels)
        assert (read.paths, read.thumbnails) == (paths, thumbnails)
        assert (read.near_duplicate_similarity, read.outlier_similarity) == (
            embeddings.near_duplicate_similarity,
            embeddings.outlier_similarity,
        )


def test_the_embeddings_of_a_version_are_in_its_run(embeddings: TrainEmbeddings, tmp_path: Path) -> None:
    model, run = tmp_path / "models" / "pets", tmp_path / "runs" / "first"
    (model / "3" / RUN_FILE).parent.mkdir(parents=True)
    (model / "3" / RUN_FILE).write_text("../../../runs/first")
    assert find_train_embeddings(model, 3) is None
    run.mkdir(parents=True)
    write_train_embeddings(run / "train_embeddings.npz", embeddings)
    assert find_train_embeddings(model, 3) == find_train_embeddings(model / "3", 3) == run / "train_embeddings.npz"
    assert find_train_embeddings(model, 2) is None
    for odd in ("", "\0", "x" * 5000):
        (model / "3" / RUN_FILE).write_text(odd)
        assert find_train_embeddings(model, 3) is None


@pytest.mark.parametrize("content", [None, b"", b"text", b"PK\x03\x04"])
def test_other_files_are_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "train_embeddings.npz").write_bytes(content)
    with pytest.raises(TrainEmbeddingsError, match=r"give the train_embeddings\.npz"):
        read_train_embeddings(tmp_path / "train_embeddings.npz")
