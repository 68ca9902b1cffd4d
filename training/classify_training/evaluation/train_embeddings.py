"""Embeddings of the training images by the finished model, stored with the run."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from classify_serving.exchange.train_embeddings import make_train_embeddings, write_train_embeddings
from classify_training.data.batches import track_batches
from classify_training.data.plan import Plan
from classify_training.model.classifier import Classifier

_BATCH: Final = 64


def embed(classifier: Classifier, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute embeddings, uint8 [N,S,S,3] RGB -> float32 [N,512], as the signature `embed` does."""
    pixels = classifier.network.preprocess(images.astype(np.float32))
    vectors: NDArray[np.float32] = classifier.embedding.predict_on_batch(classifier.features.predict_on_batch(pixels))
    return vectors


def save_train_embeddings(path: Path, classifier: Classifier, plan: Plan, quiet: bool = False) -> None:
    """Write the embeddings of the training split; nothing is written for fewer than two images.

    Raises:
        OSError: the file cannot be written.
        Interrupted: a signal arrived.
    """
    indices = plan.indices("train")
    if len(indices) < 2:
        return
    tracked = track_batches(indices, _BATCH, "Embedding training images", quiet)
    vectors = np.concatenate([embed(classifier, plan.dataset.pixels(batch)) for batch in tracked])
    examples = [plan.dataset.examples[index] for index in indices]
    write_train_embeddings(
        path, make_train_embeddings(vectors, [e.digest for e in examples], [e.file.label for e in examples])
    )
