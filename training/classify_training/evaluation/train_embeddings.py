"""Embeddings of the training images by the finished model, stored with the run."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from PIL import Image

from classify_serving.exchange.train_embeddings import make_train_embeddings, write_train_embeddings
from classify_serving.review_page.thumbnails import stored_thumbnail
from classify_training.data.batches import batches
from classify_training.data.plan import Plan
from classify_training.evaluation.evaluate import run_on_examples
from classify_training.model.classifier import Classifier

_BATCH: Final = 64
_MOST_PICTURES: Final = 10_000
"""More training images are stored without thumbnails, which take about 2 KB each."""


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
    embeddings = make_train_embeddings(vectors, [e.digest for e in examples], [e.file.label for e in examples])
    paths = [plan.dataset.relative_path(example.file.path) for example in examples]
    thumbnails = (
        [
            stored_thumbnail(Image.fromarray(pixels))
            for batch in batches(indices, _BATCH)
            for pixels in plan.dataset.pixels(batch)
        ]
        if len(indices) <= _MOST_PICTURES
        else ()
    )
    write_train_embeddings(path, replace(embeddings, paths=paths, thumbnails=thumbnails))
