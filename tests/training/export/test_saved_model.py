"""The exported version keeps the contract, and nothing half-written is ever seen."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image
from support import make_metadata
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from classify_serving.contract import model as contract
from classify_serving.contract.images import decode_image
from classify_serving.contract.model import ModelMetadata
from classify_serving.contract.versions import newest_version
from classify_serving.exchange.train_embeddings import normalise, read_train_embeddings
from classify_serving.exchange.train_manifest import read_train_manifest
from classify_serving.files import sha256_of
from classify_training.errors import ExportError
from classify_training.export.saved_model import export, remove_leftovers
from classify_training.export.signatures import Signatures
from classify_training.model.classifier import build_classifier

PICTURES = np.random.default_rng(3).integers(0, 256, (3, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def loaded(model: Path) -> Any:
    return tf.saved_model.load(str(model / "1"))


def ask(loaded: Any, signature: str, **inputs: Any) -> dict[str, NDArray[Any]]:
    answer = loaded.signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})
    return {name: value.numpy() for name, value in answer.items()}


def encoded(pictures: NDArray[np.uint8], kind: str) -> list[bytes]:
    contents = []
    for picture in pictures:
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, kind)
        contents.append(stream.getvalue())
    return contents


def test_the_signatures_are_the_contracts(loaded: Any) -> None:
    assert set(loaded.signatures) == set(contract.SIGNATURES)
    for signature in contract.SIGNATURES:
        function = loaded.signatures[signature]
        (spec,) = function.structured_input_signature[1].values()
        assert spec.shape[0] is None
        assert all(output.shape.rank >= 1 and output.shape[0] is None for output in function.outputs)


def test_serving_default_ranks_the_classes(loaded: Any, model: Path) -> None:
    answer = ask(loaded, "serving_default", images=PICTURES)
    assert answer["probabilities"].shape == (3, 4)
    np.testing.assert_allclose(answer["probabilities"].sum(axis=1), 1, atol=1e-5)
    ranked = np.sort(answer["probabilities"], axis=1)[:, ::-1]
    np.testing.assert_array_equal(answer["top_probabilities"], ranked)
    names = np.array([b"black", b"grey", b"others", b"white"], dtype=np.object_)
    np.testing.assert_array_equal(answer["top_labels"], names[np.argsort(-answer["probabilities"], axis=1)])


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_encoded_sees_the_same_pixels(loaded: Any, kind: str) -> None:
    expected = ask(loaded, "serving_default", images=PICTURES)
    answer = ask(loaded, "encoded", image_bytes=encoded(PICTURES, kind))
    np.testing.assert_allclose(answer["probabilities"], expected["probabilities"], atol=1e-5)


def test_encoded_lays_transparency_on_white(loaded: Any) -> None:
    stream = io.BytesIO()
    Image.new("RGBA", (50, 20), (9, 9, 9, 0)).save(stream, "PNG")
    white = ask(loaded, "serving_default", images=np.full((1, 32, 32, 3), 255, np.uint8))
    answer = ask(loaded, "encoded", image_bytes=[stream.getvalue()])
    np.testing.assert_allclose(answer["probabilities"], white["probabilities"], atol=1e-5)


def test_encoded_refuses_an_image_with_too_many_pixels(loaded: Any) -> None:
    small = encoded(PICTURES[:1], "PNG")[0]
    bomb = small[:16] + (20_000).to_bytes(4, "big") * 2 + small[24:]
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than 33554432 pixels"):
        ask(loaded, "encoded", image_bytes=[small, bomb])


def test_embed_and_explain_have_the_contracts_shapes(loaded: Any) -> None:
    assert ask(loaded, "embed", images=PICTURES)["embedding"].shape == (3, 512)
    answer = ask(loaded, "explain", images=PICTURES)
    assert answer["heatmap"].shape == (3, 8, 8)
    assert answer["heatmap"].min() >= 0
    assert answer["heatmap"].max() <= 1
    assert set(answer) == {"heatmap", "probabilities", "top_labels", "top_probabilities"}


def test_an_image_is_explained_alike_alone_and_in_a_batch(loaded: Any) -> None:
    together = ask(loaded, "explain", images=PICTURES)["heatmap"]
    alone = ask(loaded, "explain", images=PICTURES[1:2])["heatmap"]
    np.testing.assert_allclose(together[1:2], alone, atol=1e-3)


def test_metadata_tells_what_was_trained(loaded: Any) -> None:
    answers = ask(loaded, "metadata", request=[b"", b"anything"])["json"]
    first, second = (ModelMetadata.from_json(answer) for answer in answers)
    assert first == second
    assert (first.model_name, first.model_version, first.image_size) == ("classifier", 1, 32)
    assert first.class_names == ("black", "grey", "others", "white")
    assert first.merges == {"x": "others", "y": "others"}
    assert set(first.train_counts_before) == {"black", "grey", "white", "x", "y"}
    assert len(set(first.train_counts_after.values())) == 1
    assert set(first.test_metrics) == {"accuracy", "macro_f1"}


def test_warm_up_records_are_requests_for_every_signature(model: Path) -> None:
    records = tf.data.TFRecordDataset(str(model / "1" / contract.WARMUP_FILE))
    requests = [PredictionLog.FromString(record.numpy()).predict_log.request for record in records]
    assert {request.model_spec.signature_name for request in requests} == set(contract.SIGNATURES)
    sizes = [
        request.inputs["images"].tensor_shape.dim[0].size
        for request in requests
        if request.model_spec.signature_name == "serving_default"
    ]
    assert sizes == [1, 32]


def test_only_whole_versions_are_ever_there(model: Path) -> None:
    assert [path.name for path in model.iterdir()] == ["1"]
    assert newest_version(model) == 1


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    classifier = build_classifier(3, 32, "random")
    metadata = make_metadata(image_size=32)
    (tmp_path / "taken" / "1").mkdir(parents=True)
    (tmp_path / "taken" / "1" / "saved_model.pb").touch()
    with pytest.raises(ExportError, match="taken/1"):
        export(Signatures(classifier, metadata), PICTURES, tmp_path / "taken")
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["1"]
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="--output"):
        export(Signatures(classifier, metadata), PICTURES, tmp_path / "file")


def test_probabilities_are_scaled_with_the_temperature(tmp_path: Path) -> None:
    classifier = build_classifier(3, 32, "random")
    path = export(Signatures(classifier, make_metadata(image_size=32, temperature=3.0)), PICTURES, tmp_path / "scaled")
    logits = classifier.model.predict(PICTURES.astype(np.float32), verbose=0)
    served = ask(tf.saved_model.load(str(path)), "serving_default", images=PICTURES)
    np.testing.assert_allclose(served["probabilities"], tf.nn.softmax(logits / 3.0), atol=1e-5)


def test_what_killed_exports_left_is_removed_and_a_running_one_is_not(tmp_path: Path) -> None:
    held, left = tmp_path / ".incoming-held", tmp_path / ".incoming-left"
    for folder in (held, left):
        (folder / "version").mkdir(parents=True)
    code = "import fcntl, os, sys; f = os.open(sys.argv[1], 0); fcntl.flock(f, fcntl.LOCK_EX); print(); input()"
    command = [sys.executable, "-c", code, str(held)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        remove_leftovers(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [".incoming-held"]
        other.communicate("\n")
    remove_leftovers(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_version_says_which_images_it_was_trained_on(model: Path, dataset: Path) -> None:
    trained_on = read_train_manifest(model)
    contents = trained_on.contents
    assert len(contents) == 26
    splits = [split for labels in contents.values() for split in labels.values()]
    assert (splits.count("train"), splits.count("val"), splits.count("test")) == (16, 5, 5)
    assert sum(trained_on.is_seen(digest) for digest in contents) == 21
    assert trained_on.labels(sha256_of(dataset / "x/0.png")) == {"x"}


def test_a_run_keeps_what_the_model_makes_of_its_training_images(model: Path, dataset: Path) -> None:
    (run,) = (model.parents[1] / "runs").iterdir()
    index = read_train_embeddings(run)
    assert len(index.digests) == 16
    assert set(index.labels) == {"black", "grey", "white", "x", "y"}
    place = index.digests.index(sha256_of(dataset / "x/0.png"))
    loaded = tf.saved_model.load(str(model / "1"))
    embedding = ask(loaded, "embed", images=decode_image(dataset / "x/0.png", 32)[None])["embedding"]
    np.testing.assert_allclose(index.vectors[place], normalise(embedding)[0], atol=2e-3)
