"""`--embed`: what the model makes of each image before it decides, for a map of all of them."""

import csv
import logging
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from classify_client.errors import RequestRefused, ServiceError, Stopped
from classify_client.outputs import replacing
from classify_client.report.results import Item, places
from classify_client.service import Service
from classify_serving import contract
from classify_serving.contract import ModelMetadata
from classify_serving.embeddings import COLUMNS, INDEX, VECTORS
from classify_serving.folders import printable
from classify_serving.images import ImageError, decode_image

_BATCH: Final = 32
_Decoded = tuple[Item, NDArray[np.uint8]]

log = logging.getLogger(__name__)


def embed_images(folder: Path, items: Iterable[Item], service: Service, model: ModelMetadata) -> None:
    """Ask for the embedding of each image that was answered; write `embeddings.npy` and, row by row, `embeddings.csv`.

    The vectors are held in memory until they are written, 2 KiB an image. A server that cannot give them is told of
    as a warning.

    Raises:
        OSError: they cannot be written.
    """
    vectors: list[NDArray[np.float32]] = []
    embedded: list[Item] = []
    try:
        for group in _batches(folder, items, model):
            images = np.stack([image for _, image in group])
            vectors.append(service.output(contract.EMBED, images, contract.EMBEDDING))
            embedded += [item for item, _ in group]
    except (ServiceError, RequestRefused, Stopped) as error:
        log.warning("No embeddings: %s", error)
        return
    if not vectors:
        return
    with replacing(folder / VECTORS) as path, path.open("wb") as file:
        np.save(file, np.concatenate(vectors))
    with replacing(folder / INDEX) as path, path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        table.writerows(_line(folder, item) for item in embedded)


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
