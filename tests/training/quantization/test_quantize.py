"""classify-train quantize: the same answers with 8-bit integers, or nothing is published."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from support import make_metadata
from training_support import write_noisy

from classify_serving.contract import model as contract
from classify_serving.contract.model import ModelMetadata
from classify_serving.exchange.train_manifest import TRAIN_MANIFEST_FILE, train_manifest_csv
from classify_serving.files import sha256_of
from classify_training.cli.main import main
from classify_training.export.saved_model import export
from classify_training.export.signatures import Signatures
from classify_training.model.classifier import Classifier, build_classifier
from classify_training.model.standardise import scale_convolutions
from classify_training.quantization.agreement import Agreement
from classify_training.quantization.calibration import best_range, bin_centres, calibrate
from classify_training.quantization.kernels import quantize_kernel

COLOURS: Final = {"blue": (30, 60, 200), "green": (30, 180, 60), "red": (200, 40, 40)}
SIDE: Final = 32


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 images of three colours."""
    root = tmp_path_factory.mktemp("data") / "colours"
    for place, (label, colour) in enumerate(COLOURS.items()):
        for number in range(40):
            write_noisy(root / label / f"{number}.png", colour, 100 * place + number)
    return root


def pixels_of(data: Path) -> NDArray[np.uint8]:
    files = sorted(data.rglob("*.png"))
    return np.stack([np.asarray(Image.open(file).convert("RGB").resize((SIDE, SIDE))) for file in files])


@pytest.fixture(scope="module")
def classifier(data: Path) -> Classifier:
    """A network of random weights whose last layer knows the colours."""
    classifier = build_classifier(len(COLOURS), SIDE, "random")
    pixels, targets = pixels_of(data), np.repeat(np.arange(len(COLOURS)), 40)
    scale_convolutions(classifier, pixels[::3])
    embed = classifier.on_images(lambda images: classifier.embedding(classifier.features(images)))
    fitted = LogisticRegression(max_iter=1000).fit(embed.predict(pixels.astype(np.float32), verbose=0), targets)
    classifier.head.get_layer("logits").set_weights([fitted.coef_.T, fitted.intercept_])
    return classifier


def publish(classifier: Classifier, data: Path, folder: Path) -> Path:
    """Export version 1, with a manifest that says that it has seen two of three images."""
    metadata = make_metadata(class_names=tuple(COLOURS), image_size=SIDE, model_name=folder.name)
    files = sorted(data.rglob("*.png"))
    entries = [
        (sha256_of(file), file.parent.name, "test" if number % 3 == 0 else "train") for number, file in enumerate(files)
    ]
    extras = {TRAIN_MANIFEST_FILE: train_manifest_csv(entries)}
    export(Signatures(classifier, metadata), pixels_of(data)[:8], folder, extras)
    return folder


def quantize(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["quantize", str(folder), "--quiet", *options])


@pytest.fixture(scope="module")
def quantized(classifier: Classifier, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = publish(classifier, data, tmp_path_factory.mktemp("models") / "colours")
    result = quantize(folder, "--data", str(data))
    assert result.exit_code == 0, result.output
    assert "Exported colours version 2 (int8)" in result.stdout
    assert "0 of 40 answers differ on a processor with AVX2 only" in result.stdout
    return folder


def ask(version: Path, signature: str, **inputs: Any) -> Mapping[str, NDArray[Any]]:
    loaded = tf.saved_model.load(str(version))
    answer = loaded.signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})
    return {name: value.numpy() for name, value in answer.items()}


def test_an_int8_version_answers_as_the_float32_version_under_the_same_names(quantized: Path, data: Path) -> None:
    pixels = pixels_of(data)[::7]
    before, after = (ask(quantized / number, contract.SERVING_DEFAULT, images=pixels) for number in "12")
    assert before.keys() == after.keys()
    np.testing.assert_array_equal(before[contract.TOP_LABELS][:, 0], after[contract.TOP_LABELS][:, 0])
    assert 0 < np.abs(before[contract.PROBABILITIES] - after[contract.PROBABILITIES]).max() < 0.1
    # One image alone is answered as it is among others.
    alone = ask(quantized / "2", contract.SERVING_DEFAULT, images=pixels[:1])
    np.testing.assert_allclose(alone[contract.PROBABILITIES], after[contract.PROBABILITIES][:1], atol=1e-6)
    file = sorted(data.rglob("*.png"))[0].read_bytes()
    encoded = ask(quantized / "2", contract.ENCODED, image_bytes=[file])
    assert encoded[contract.TOP_LABELS][0, 0] == b"blue"
    vectors = [ask(quantized / number, contract.EMBED, images=pixels)[contract.EMBEDDING] for number in "12"]
    assert vectors[0].shape == vectors[1].shape == (len(pixels), 512)
    assert np.corrcoef(vectors[0].ravel(), vectors[1].ravel())[0, 1] > 0.99
    heat = [ask(quantized / number, contract.EXPLAIN, images=pixels[:2])[contract.HEATMAP] for number in "12"]
    np.testing.assert_allclose(heat[0], heat[1], atol=1e-4)


def test_an_int8_version_says_what_it_was_made_of(quantized: Path) -> None:
    json_bytes = ask(quantized / "2", contract.METADATA, request=[b""])[contract.JSON][0]
    metadata = ModelMetadata.from_json(json_bytes)
    assert (metadata.precision, metadata.model_version) == ("int8", 2)
    found = metadata.quantization
    assert found is not None
    assert (found.source_version, found.calibration_images) == (1, 80)
    # What it has not seen.
    assert (found.compared_images, found.changed) == (40, 0)
    assert found.accuracy == found.source_accuracy > 0.9
    assert json.loads(json_bytes)["quantization"]["calibration_fingerprint"] == found.calibration_fingerprint
    assert (quantized / "1" / TRAIN_MANIFEST_FILE).read_bytes() == (quantized / "2" / TRAIN_MANIFEST_FILE).read_bytes()
    # There is nothing of a temporary folder.
    assert sorted(path.name for path in quantized.iterdir()) == ["1", "2"]
    again = quantize(quantized)
    assert (again.exit_code, again.stderr.count("\n")) == (2, 1)
    assert "computes with 8-bit integers already (it was made of version 1)" in again.stderr


def test_a_model_that_8_bits_cannot_hold_is_not_published(classifier: Classifier, data: Path, tmp_path: Path) -> None:
    hostile = build_classifier(len(COLOURS), SIDE, "random")
    hostile.model.set_weights(classifier.model.get_weights())
    first, second = (hostile.backbone.get_layer(f"block4_conv{number}") for number in (1, 2))
    (kernel, bias), (next_kernel, next_bias) = first.get_weights(), second.get_weights()
    # The function is the same, but a few channels have values that leave no integers for the others.
    kernel[..., :4] *= 1e5
    bias[:4] *= 1e5
    next_kernel[:, :, :4] /= 1e5
    first.set_weights([kernel, bias])
    second.set_weights([next_kernel, next_bias])
    folder = publish(hostile, data, tmp_path / "models" / "hostile")
    result = quantize(folder, "--data", str(data))
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1), result.output
    assert "would answer too differently" in result.stderr
    assert "nothing was published" in result.stderr
    assert [path.name for path in folder.iterdir()] == ["1"]


def test_what_cannot_be_quantized_ends_in_one_sentence(classifier: Classifier, data: Path, tmp_path: Path) -> None:
    folder = publish(classifier, data, tmp_path / "models" / "colours")
    few = tmp_path / "few"
    shutil.copytree(data / "red", few / "red", ignore=lambda _, names: names[5:])
    others = tmp_path / "others"
    shutil.copytree(data / "red", others / "rouge")
    shutil.copytree(data / "blue", others / "bleu")
    for options, reason in (
        ([], "give a folder of labelled images like those with --data"),
        (["--data", str(few)], "are too few to calibrate"),
        (["--data", str(others)], "has the name of one of the model's classes (blue, green, red)"),
        (["--data", str(tmp_path / "nowhere")], "no dataset folder"),
    ):
        result = quantize(folder, *options)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
        assert reason in result.stderr
    result = quantize(tmp_path / "nothing")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "no model folder" in result.stderr
    os.truncate(next(folder.glob("1/variables/variables.data*")), 100_000)
    result = quantize(folder, "--data", str(data))
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
    assert "cannot read the model in" in result.stderr
    assert [path.name for path in folder.iterdir()] == ["1"]


def test_a_version_that_appears_meanwhile_is_not_overtaken(
    classifier: Classifier, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = publish(classifier, data, tmp_path / "models" / "colours")

    def calibrate_slowly(*arguments: Any) -> Any:
        shutil.copytree(folder / "1", folder / "2")
        return calibrate(*arguments)

    monkeypatch.setattr("classify_training.quantization.quantize.calibrate", calibrate_slowly)
    result = quantize(folder, "--data", str(data))
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
    assert "version 2 was published" in result.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2"]


def test_an_interruption_ends_the_comparison_at_once(classifier: Classifier, data: Path, tmp_path: Path) -> None:
    folder = publish(classifier, data, tmp_path / "models" / "colours")
    command = [sys.executable, "-m", "classify_training", "quantize", str(folder), "--data", str(data), "--quiet"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        # Images that are handed to the first new process.
        while not list(folder.glob(".incoming-*/*/images.npy")):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.stderr
        assert process.stderr.read() == "Interrupted: nothing was published; the same command begins again.\n"
    assert process.returncode == 130
    assert [path.name for path in folder.iterdir()] == ["1"]


def test_a_training_quantizes_its_model_if_asked_to(dataset: Path, tmp_path: Path) -> None:
    folders = ["--output", str(tmp_path / "m"), "--runs", str(tmp_path / "runs")]
    options = ["--image-size", "32", "--weights", "random", "--epochs", "1", "--min-images", "4", "--quiet"]
    command = ["train", str(dataset), *folders, *options, "--serve-precision", "int8"]
    result = CliRunner().invoke(main, command)
    assert "Exported m version 1" in result.stdout
    # The dataset of the run was found; that it has too few images is no fault of the training.
    assert result.exit_code == 2
    assert f"images in {dataset} are too few to calibrate" in result.stderr
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["1"]


@given(st.integers(1, 5), st.integers(1, 5), st.floats(1e-6, 1e6), st.integers(0, 2**32 - 1))
def test_a_quantized_kernel_is_near_to_the_kernel(inputs: int, outputs: int, scale: float, seed: int) -> None:
    kernel = (scale * np.random.default_rng(seed).normal(size=(3, 3, inputs, outputs))).astype(np.float32)
    kernel[..., 0] = 0
    quantized = quantize_kernel(kernel)
    assert np.abs(quantized.values).max() <= 63
    steps = quantized.limits / 127
    assert (np.abs(quantized.weights - kernel) <= 0.501 * steps).all()


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100))
def test_the_best_range_follows_the_scale_and_leaves_rare_outliers_out(seed: int, scale: float) -> None:
    values = np.abs(np.random.default_rng(seed).normal(size=20_000)) * scale
    edges = np.append(bin_centres() * 2 ** (-24 / 4096), np.inf)
    counts = 10_000 * np.histogram(values, edges)[0]
    plain = best_range(counts)
    assert 2.5 * scale < plain <= 1.01 * values.max()
    one = np.histogram([50 * scale], edges)[0]
    assert best_range(counts + one) == pytest.approx(plain, rel=0.2)
    # Many of them are no outliers.
    assert best_range(counts + 10_000_000 * one) == pytest.approx(50 * scale, rel=0.02)


def test_agreement_names_what_is_wrong() -> None:
    before = np.full((100, 2), [0.6, 0.4], np.float32)
    targets = np.zeros(100, np.int64)

    def problem(changed: int, before: NDArray[np.float32] = before, targets: NDArray[np.int64] = targets) -> str:
        after = before.copy()
        after[:changed] = after[:changed, ::-1]
        return Agreement(before, after, targets).problem()

    assert problem(0) == problem(1) == ""
    assert "its accuracy is 98.0% instead of 100.0%" in problem(2)
    assert problem(2, targets=targets - 1) == ""
    assert "3 of 100 answers differ, more than 2%" in problem(3)
    sure = np.full((100, 2), [0.7, 0.3], np.float32)
    assert "1 of 100 answers of which the float32 model was at least 70% sure differ" in problem(1, sure)
    assert "no numbers" in Agreement(before, np.full_like(before, np.nan), targets).problem()
