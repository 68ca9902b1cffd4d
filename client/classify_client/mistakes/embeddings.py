"""What the model makes of images before it decides: stored for a map (`--embed`), or compared with training."""

import csv
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from classify_client.errors import RequestRefused, ServiceError, Stopped
from classify_client.inference.model_client import Service
from classify_client.mistakes.kinds import Nearest
from classify_client.results.reader import Item, places
from classify_serving.contract import model as contract
from classify_serving.contract.images import ImageError, decode_image
from classify_serving.contract.model import ModelMetadata
from classify_serving.contract.text import printable
from classify_serving.exchange.embeddings import COLUMNS, IMAGES, VECTORS
from classify_serving.exchange.train_embeddings import TrainEmbeddings
from classify_serving.files import replacing

_BATCH: Final = 32
_Decoded = tuple[Item, NDArray[np.uint8]]

log = logging.getLogger(__name__)


def embed_images(folder: Path, items: Iterable[Item], service: Service, model: ModelMetadata) -> None:
    """Ask for the embedding of each image that was answered; write `embeddings.npy` and, row by row, `embeddings.csv`.

    The vectors are held in memory until they are written, 2 KiB an image. A server that cannot give them is told of
    as a warning, and what it gave until then is written.

    Raises:
        OSError: they cannot be written.
    """
    embedded: list[Item] = []
    vectors: list[NDArray[np.float32]] = []
    for group, made in _embedded(folder, items, service, model):
        embedded += group
        vectors.append(made)
    if not vectors:
        return
    with replacing(folder / VECTORS) as path, path.open("wb") as file:
        np.save(file, np.concatenate(vectors))
    with replacing(folder / IMAGES) as path, path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        table.writerows(_line(folder, item) for item in embedded)


def nearest_in_training(
    folder: Path,
    misses: Iterable[Item],
    digests: Mapping[str, str],
    index: TrainEmbeddings,
    service: Service,
    model: ModelMetadata,
) -> dict[str, Nearest]:
    """The training image that each miss is most like, by path, as far as the server tells; not the miss itself."""
    found = {}
    for group, vectors in _embedded(folder, misses, service, model):
        if vectors.shape[1] != index.vectors.shape[1]:
            log.warning(
                "The index is of another model: %d numbers an image and not %d",
                *vectors.shape[1:],
                len(index.vectors[0]),
            )
            break
        neighbours = index.nearest(vectors, [digests.get(item.path, "") for item in group])
        for item, (cosine, label) in zip(group, neighbours, strict=True):
            found[item.path] = Nearest(
                label, cosine >= index.near_duplicate_similarity, cosine < index.outlier_similarity
            )
    return found


def _embedded(
    folder: Path, items: Iterable[Item], service: Service, model: ModelMetadata
) -> Iterator[tuple[list[Item], NDArray[np.float32]]]:
    """Items that were answered and can still be read, with float32 [len(items),512], a batch at a time."""
    try:
        for group in _batches(folder, items, model):
            images = np.stack([image for _, image in group])
            yield [item for item, _ in group], service.output(contract.EMBED, images, contract.EMBEDDING)
    except (ServiceError, RequestRefused, Stopped) as error:
        log.warning("No embeddings: %s", error)


def _line(folder: Path, item: Item) -> tuple[str, ...]:
    file = next((place for place in places(folder, item) if place.is_file()), item.file)
    return item.path, item.true, item.predicted, f"{item.probability:.6f}", printable(str(file.absolute()))


def _batches(folder: Path, items: Iterable[Item], model: ModelMetadata) -> Iterator[list[_Decoded]]:
    answered = (item for item in items if item.top)

    def decode(item: Item) -> _Decoded | None:
        for place in places(folder, item):
            with suppress(ImageError):
                return item, decode_image(place, model.image_size, model.resize)
        return None

    with ThreadPoolExecutor(os.cpu_count() or 1, "decode") as pool:
        while group := list(islice(answered, _BATCH)):
            if found := [decoded for decoded in pool.map(decode, group) if decoded]:
                yield found
