"""Fixtures of the tests of fitting."""

from pathlib import Path

import pytest

from classify_training.config import DataConfig, FitConfig, TrainConfig
from classify_training.model.classifier import build_classifier


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of VGG16 weights, so that there is something to freeze."""
    path = tmp_path_factory.mktemp("weights") / "vgg16.weights.h5"
    build_classifier(2, 32, "random").backbone.save_weights(path)
    return str(path)


@pytest.fixture
def config(dataset: Path, weights: str, tmp_path: Path) -> TrainConfig:
    return TrainConfig(
        data=DataConfig(dataset=dataset, image_size=32, val=0.2, test=0.2, min_images=4, cache=tmp_path / "cache"),
        fit=FitConfig(weights=weights, batch_size=7, head_epochs=2, epochs=2, unfreeze="block5", precision="float32"),
        output=tmp_path / "models" / "classifier",
        runs=tmp_path / "runs",
        quiet=True,
    )
