"""Embeddings of the training images by the finished model, stored with the run."""

from pathlib import Path
from typing import Final

from classify_serving.exchange.train_embeddings import make_train_embeddings, write_train_embeddings
from classify_training.data.plan import Plan
from classify_training.evaluation.evaluate import run_on_examples
from classify_training.model.classifier import Classifier

_BATCH: Final = 64


def save_train_embeddings(path: Path, classifier: Classifier, plan: Plan, quiet: bool = False) -> None:
    """Write the embeddings of the training split; nothing is written for fewer than two images.

    Raises:
        OSError: the file cannot be written.
        Interrupted: a signal arrived.
    """
    indices = plan.indices("train")
    if len(indices) < 2:
        return
    model = classifier.on_images(lambda preprocessed: classifier.embedding(classifier.features(preprocessed)))
    vectors = run_on_examples(model, plan.dataset, indices, _BATCH, "Embedding training images", quiet)
    examples = [plan.dataset.examples[index] for index in indices]
    write_train_embeddings(
        path, make_train_embeddings(vectors, [e.digest for e in examples], [e.file.label for e in examples])
    )
