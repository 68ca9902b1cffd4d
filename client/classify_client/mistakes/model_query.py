"""Ask the model again about images of the results, for embeddings and heat maps; the results are complete without."""

import logging
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from classify_client.errors import ServiceError
from classify_client.inference.exceptions import RequestRefused, Stopped
from classify_client.inference.model_client import ModelClient
from classify_client.mistakes.batches import OpenedImage
from classify_serving.contract.model import ModelMetadata

log = logging.getLogger(__name__)


class ModelQuery:
    """One output of one signature for batches of images; warns once when the model cannot give it.

    Args:
        model_client: None for a query that is not wanted.
        model: the metadata that images are decoded for.
        signature: name of the signature.
        output: name of the output.
        warning: from the number of images that were answered before, what is missing after a failure.
    """

    def __init__(
        self,
        model_client: ModelClient | None,
        model: ModelMetadata,
        signature: str,
        output: str,
        warning: Callable[[int], str],
    ) -> None:
        self._model_client, self._model = model_client, model
        self._signature, self._output, self._warning = signature, output, warning
        self._answered = 0

    def __bool__(self) -> bool:
        return self._model_client is not None

    def ask(self, batch: Sequence[OpenedImage]) -> tuple[list[OpenedImage], NDArray[np.float32]] | None:
        """The N images of a batch that could be decoded, and their output, float32 [N,...]; None after a failure."""
        images = [image for image in batch if image.pixels is not None]
        if not self._model_client or not images:
            return None
        pixels = np.stack([image.pixels for image in images if image.pixels is not None])
        try:
            output = self._model_client.output(self._signature, pixels, self._output, self._model)
        except (ServiceError, RequestRefused, Stopped) as error:
            log.warning("%s: %s", self._warning(self._answered), error)
            self._model_client = None
            return None
        self._answered += len(images)
        return images, output
