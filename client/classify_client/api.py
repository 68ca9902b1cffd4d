"""Classify from Python: the pipeline of the command, without its files."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from classify_client.inference.codec import RequestedModel
from classify_client.inference.connection import Connection
from classify_client.inference.load_balancer import RetryTimeout
from classify_client.inference.model_client import ModelClient
from classify_client.inference.pipeline import Pipeline, Times
from classify_client.inference.tuning import Tuner
from classify_serving.contract.images import ImageError, Resize, decode_image, fit_image

ImageLike = str | os.PathLike[str] | NDArray[np.uint8] | Image.Image
"""A path; an array uint8 [H,W,3], RGB, 0-255; or a Pillow image."""


@dataclass(frozen=True)
class Classification:
    """The result for one image.

    Attributes:
        image: as it was given.
        top: (class, probability in 0-1), best first, at most five; empty if there is an error.
        model_version: of the model that answered; None if none did.
        error: why there is no prediction; else empty.
    """

    image: ImageLike
    top: tuple[tuple[str, float], ...]
    model_version: int | None
    error: str

    @property
    def label(self) -> str | None:
        """The likeliest class."""
        return self.top[0][0] if self.top else None

    @property
    def probability(self) -> float | None:
        """Its probability in 0-1."""
        return self.top[0][1] if self.top else None


def classify(
    images: Iterable[ImageLike],
    server: str | Sequence[str] = "localhost:8500",
    *,
    model: str = "classifier",
    model_version: int | None = None,
    version_label: str | None = None,
    connection: Connection | None = None,
    batch_size: int | None = None,
    in_flight: int | None = None,
    threads: int | None = None,
    timeout: float = 60.0,
    retry_timeout: float | None = None,
    patience: float | None = None,
) -> Iterator[Classification]:
    """Classify images with a model server, in batches; yields one result each, in their order, as they are answered.

    Images are taken from the iterable only when they are needed, so it may be endless. Pillow images and arrays must
    not be changed before their result is there.

    Args:
        images: paths, arrays uint8 [H,W,3] in RGB, or Pillow images, in any mixture.
        server: `host:port` of a model server, or of several, which share the work.
        model: the model's name there.
        model_version: the version to ask.
        version_label: label of the version to ask; with neither of the two, the newest version is asked.
        connection: servers, TLS and token; replaces `server`.
        batch_size: images per request; None finds the fastest.
        in_flight: maximum number of requests in flight; None finds the fastest.
        threads: number of decoding threads; None is the number of cores.
        timeout: deadline of one attempt of a request in seconds.
        retry_timeout: seconds to keep trying without an answer from any server; None is 20 at the start and then 300.
        patience: the former name of `retry_timeout`.

    Raises:
        SettingsError: the connection's settings cannot be used.
        ServiceError: no server answers, or it does not have the model. An image that fails raises nothing: its result
            has an error.
        TypeError: an object that is not an image.
        ValueError: both `model_version` and `version_label` are given.
    """
    if model_version is not None and version_label is not None:
        raise ValueError("give model_version or version_label, not both")
    servers = (server,) if isinstance(server, str) else tuple(server)
    connection = connection or Connection(servers=servers)
    retry = RetryTimeout.of(patience if retry_timeout is None else retry_timeout)
    requested = RequestedModel(model, model_version, version_label)
    with ModelClient(connection, requested, retry, timeout) as model_client:
        tuner = Tuner(batch_size, in_flight, model_client.servers, 3 * model_client.current.image_size**2)
        pipeline: Pipeline[_Given] = Pipeline(model_client, tuner, threads or os.cpu_count() or 1, Times())
        for results in pipeline.run(_Given.of(image) for image in images):
            for result in results:
                yield Classification(result.source.image, result.top, result.version, result.error)


@dataclass(frozen=True, eq=False)
class _Given:
    """One of the images, as the pipeline takes it."""

    image: Any

    @classmethod
    def of(cls, image: object) -> "_Given":
        if isinstance(image, str | os.PathLike | np.ndarray | Image.Image):
            return cls(image)
        raise TypeError(f"not an image: {type(image).__name__}; give a path, an array or a Pillow image")

    def decode(self, size: int, resize: Resize) -> NDArray[np.uint8]:
        if isinstance(self.image, str | os.PathLike):
            return decode_image(self.image, size, resize)
        if isinstance(self.image, Image.Image):
            return fit_image(self.image, size, resize)
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3 or not self.image.size:
            raise ImageError("<array>", f"an array must be uint8 [H,W,3], not {self.image.dtype} {self.image.shape}")
        return fit_image(Image.fromarray(self.image), size, resize)
