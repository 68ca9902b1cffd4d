"""Heat maps (--gradcam), embeddings (--embed), and the comparison with training images (--train-embeddings)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from client_support import Client, Start
from PIL import Image
from support import BrightnessModel, make_metadata

from classify_client.mistakes.heatmaps import overlay
from classify_serving.exchange.embeddings import EmbeddingsError, read_embeddings
from classify_serving.exchange.review import read_review
from classify_serving.exchange.train_embeddings import TrainEmbeddings, write_train_embeddings
from classify_serving.review_page.thumbnails import stored_thumbnail
from classify_serving.server.models.registry import Models
from classify_serving.server.servable import load_servable
from classify_serving.server.server import ModelServer
from classify_training.export.signatures import Signatures
from classify_training.model.classifier import Classifier
from classify_training.model.vgg16 import VGG16

SIDE = 32
QUARTER = SIDE // 4


def corner_classifier() -> Classifier:
    """Predicts `lit` if the upper left corner is blue, else `dark`; red has a feature map, but no weight."""
    pixels = keras.Input((SIDE, SIDE, 3))
    means = keras.layers.AveragePooling2D(4)(pixels)
    # Preprocessing leaves blue, green, red with ImageNet's means taken off; only bright places are above 100.
    maps = keras.layers.Conv2D(2, 1, activation="relu", name=VGG16.explained_layer(SIDE))
    backbone = keras.Model(pixels, maps(means))
    maps.set_weights([np.array([[[[1, 0], [0, 0], [0, 1]]]], np.float32), np.full(2, -100, np.float32)])
    embedding = keras.layers.Dense(512, name="embedding")
    output = keras.layers.Dense(2)
    features = keras.Model(pixels, keras.layers.Flatten()(backbone.output))
    head = keras.Sequential([keras.Input(features.output_shape[1:]), embedding, output])
    evidence = np.zeros((8, 8, 2), np.float32)
    evidence[:2, :2, 0] = 1
    weights = np.zeros((128, 512), np.float32)
    weights[:, 0] = evidence.ravel()
    embedding.set_weights([weights, np.zeros(512, np.float32)])
    logits = np.zeros((512, 2), np.float32)
    logits[0] = (-1, 1)
    output.set_weights([logits, np.array([5, -5], np.float32)])
    return Classifier(keras.Model(pixels, head(features(pixels))), backbone, features, head, "last")


@pytest.fixture(scope="module")
def corner_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corner") / "classifier"
    metadata = make_metadata(class_names=("dark", "lit"), image_size=SIDE, train_counts_before={"dark": 1, "lit": 1})
    signatures = Signatures(corner_classifier(), metadata)
    tf.saved_model.save(signatures, str(folder / "1"), signatures=signatures.functions())
    return folder


@pytest.fixture
def corners(corner_model: Path, tmp_path: Path) -> Iterator[Client]:
    """A client of two images labelled `dark`, with a blue square in the corner that decides and a red one opposite."""
    picture = np.zeros((4 * SIDE, 4 * SIDE, 3), np.uint8)
    picture[:SIDE, :SIDE, 2] = 255
    picture[-SIDE:, -SIDE:, 0] = 255
    for name in ("dark/a.png", "dark/a_cam.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    with ModelServer(Models(load_servable(corner_model))) as server:
        model = BrightnessModel(make_metadata())
        yield Client(model, server.address, tmp_path / "images", tmp_path / "classified")


def difference(picture: Path, heatmap: Path) -> Any:
    """Absolute difference of each pixel, float64 [H,W], summed over RGB, at the size of the heat map."""
    with Image.open(picture) as before, Image.open(heatmap) as after:
        pixels = np.asarray(after.convert("RGB"), np.float64)
        return np.abs(pixels - np.asarray(before.resize(after.size), np.float64)).sum(axis=-1)


def test_the_heat_map_marks_the_region_that_decides(corners: Client) -> None:
    result = corners.run("--gradcam")
    assert result.exit_code == 0, result.output
    names = ["dark_to_lit_a.png", "dark_to_lit_a__cam.png", "dark_to_lit_a_cam.png", "dark_to_lit_a_cam_cam.png"]
    assert corners.misses() == sorted(names)
    changed = difference(corners.images / "dark/a.png", corners.output / "miss/dark_to_lit_a__cam.png")
    corner = len(changed) // 4
    assert changed[:corner, :corner].sum() > 0.8 * changed.sum()
    assert changed[-corner:, -corner:].sum() < 0.01 * changed.sum()
    page = (corners.output / "report.html").read_text()
    assert page.count('class="heat"') == 2
    assert corners.run().exit_code == 0
    assert corners.misses() == ["dark_to_lit_a.png", "dark_to_lit_a_cam.png"]


def test_a_model_without_heat_maps_gives_a_warning_and_the_report_is_written(start: Start, client: Client) -> None:
    result = client.run("--gradcam")
    assert result.exit_code == 0
    assert "No heat maps of 2 misses" in result.stderr
    assert (client.output / "report.html").exists()
    assert len(client.misses()) == 2


def test_no_heat_changes_no_pixel_and_full_heat_changes_every_pixel() -> None:
    image = np.full((9, 12, 3), 40, np.uint8)
    assert (np.asarray(overlay(image, np.zeros((3, 3), np.float32))) == image).all()
    assert (np.asarray(overlay(image, np.ones((3, 3), np.float32))) != image).any(axis=-1).all()


def test_embeddings_are_stored_with_the_paths_of_their_images(corners: Client) -> None:
    (corners.images / "dark/broken.png").write_bytes(b"no image")
    assert corners.run("--embed", "--max-failures", "1").exit_code == 0
    vectors, entries = read_embeddings(corners.output)
    assert vectors.shape == (2, 512)
    assert [entry.path for entry in entries] == ["dark/a.png", "dark/a_cam.png"]
    assert all(entry.is_miss and entry.file.is_file() for entry in entries)
    (corners.output / "embeddings.csv").write_text("other")
    with pytest.raises(EmbeddingsError, match="--embed again"):
        read_embeddings(corners.output)


def test_misses_are_near_duplicates_or_outliers_of_the_training_images(corners: Client, tmp_path: Path) -> None:
    vectors = np.eye(2, 512, dtype=np.float32)
    for near_duplicate, outlier, issue_type, proposed in (
        (0.9, 0.5, "duplicate", "relabel:lit"),
        (2, 1.5, "outlier", ""),
    ):
        train_embeddings = TrainEmbeddings(vectors, ["0" * 64, "1" * 64], ["lit", "dark"], near_duplicate, outlier)
        write_train_embeddings(tmp_path / "index.npz", train_embeddings)
        assert corners.run("--train-embeddings", str(tmp_path / "index.npz")).exit_code == 0
        rows = read_review(corners.output / "review.csv")
        assert [(row.issue_type, row.proposed) for row in rows] == [(issue_type, proposed)] * 2
    assert corners.run("--train-embeddings", str(tmp_path / "absent.npz")).exit_code == 2


def test_a_card_shows_the_most_similar_training_images(corners: Client, tmp_path: Path) -> None:
    train_embeddings = TrainEmbeddings(
        np.eye(2, 512, dtype=np.float32), ["0" * 64, "1" * 64], ["lit", "dark"], 2, -2,
        ["lit/0.png", "dark/1.png"], [stored_thumbnail(Image.new("RGB", (32, 32))), b""],
    )  # fmt: skip
    write_train_embeddings(tmp_path / "train_embeddings.npz", train_embeddings)
    assert corners.run("--train-embeddings", str(tmp_path)).exit_code == 0
    page = (corners.output / "report.html").read_text()
    _, _, rest = page.partition('id="review-data">')
    rows = json.loads(rest.partition("</script>")[0])["rows"]
    assert [{(image["path"], image["label"]) for image in row["nearest"]} for row in rows] == [
        {("lit/0.png", "lit"), ("dark/1.png", "dark")}
    ] * 2
    assert {image["picture"][:15] for image in rows[0]["nearest"]} == {"data:image/jpeg", ""}
