"""A batch of images: decoded for a model, sent as one request, and turned into one result each."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from classify_client.inference.model_client import Prediction
from classify_client.inference.tuning import Setting
from classify_serving.contract.images import ImageError, Resize
from classify_serving.contract.model import ModelMetadata

Images = NDArray[np.uint8]


class Decodable(Protocol):
    """An image that can be decoded, such as `inputs.sources.Source`."""

    def decode(self, size: int, resize: Resize) -> Images:
        """Decode it to uint8 [size,size,3], RGB, 0-255; called from several threads at once.

        Raises:
            ImageError: it cannot be read.
        """


S = TypeVar("S", bound=Decodable)


@dataclass(frozen=True)
class Result(Generic[S]):
    """The outcome for one image.

    Attributes:
        source: the image.
        model: metadata of the model that answered, or would have.
        top: (class, probability in 0-1), best first; empty if there is an error.
        version: of the model that answered; None if none did.
        error: why there is no answer; else empty.
    """

    source: S
    model: ModelMetadata
    top: tuple[tuple[str, float], ...] = ()
    version: int | None = None
    error: str = ""


@dataclass(eq=False)
class Batch(Generic[S]):
    """Sources in order; `images` has a place for each, and `errors` says why a place is empty."""

    sources: list[S]
    model: ModelMetadata
    setting: Setting
    images: Images = field(init=False)
    errors: dict[int, str] = field(default_factory=dict)
    decoded: list[Future[None]] = field(default_factory=list)
    answer: Future[list[Prediction]] = field(init=False)
    answered_at: float = 0.0

    def __post_init__(self) -> None:
        self.prepare(self.model)

    def prepare(self, model: ModelMetadata) -> None:
        """Allocate memory for images of the size that this model takes."""
        self.model, self.errors = model, {}
        self.images = np.empty((len(self.sources), model.image_size, model.image_size, 3), np.uint8)

    def decode(self, places: Iterator[int]) -> None:
        """Decode the images at these places; several threads may share the iterator."""
        for place in places:
            try:
                self.images[place] = self.sources[place].decode(self.model.image_size, self.model.resize)
            except ImageError as error:
                self.errors[place] = error.reason

    @property
    def places(self) -> Iterator[int]:
        """All places."""
        return iter(range(len(self.sources)))

    def decoded_images(self) -> Images:
        """The images that could be decoded, uint8 [M,S,S,3]."""
        return np.delete(self.images, list(self.errors), axis=0) if self.errors else self.images

    def results(self, predictions: Iterable[Prediction]) -> list[Result[S]]:
        """One result for each source."""
        following = iter(predictions)
        return [
            Result(source, self.model, error=self.errors[place])
            if place in self.errors
            else _result(source, self.model, next(following))
            for place, source in enumerate(self.sources)
        ]


def _result(source: S, model: ModelMetadata, prediction: Prediction) -> Result[S]:
    return Result(source, prediction.model or model, prediction.top, prediction.version, prediction.error)
