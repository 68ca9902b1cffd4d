"""Files -> decoded images -> batches -> requests in flight -> results, in the order of the files.

Every stage is bounded: a slow server slows down decoding instead of filling memory.
"""

import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from classify_client.errors import ClassifyError
from classify_client.inference.exceptions import ModelChanged, Stopped
from classify_client.inference.model_client import Prediction
from classify_client.inference.tuning import MOST_IN_FLIGHT, Setting, Tuner
from classify_serving.contract.images import ImageError, Resize
from classify_serving.contract.model import ModelMetadata

Images = NDArray[np.uint8]

_WINDOW: Final = 4
"""Batches kept in order, including answered ones, for each batch that may be in flight."""
_DECODED_AHEAD: Final = 2
"""Batches that are decoded, or being decoded, before they can be sent."""
_POLL_SECONDS: Final = 0.2
_ATTEMPTS: Final = 3
"""How often a batch is decoded again because the model changed in the meantime."""


class Decodable(Protocol):
    """An image that can be decoded, such as `inputs.sources.Source`."""

    def decode(self, size: int, resize: Resize) -> Images:
        """Decode it to uint8 [size,size,3], RGB, 0-255; called from several threads at once.

        Raises:
            ImageError: it cannot be read.
        """


S = TypeVar("S", bound=Decodable)


class Classifier(Protocol):
    """The model that the pipeline asks, such as `model_client.ModelClient`.

    Attributes:
        largest_batch: images in the largest request that the server accepts; None if no limit is known.
    """

    largest_batch: int | None

    @property
    def throttled(self) -> int:
        """How often a server asked for fewer requests at once."""

    @property
    def current(self) -> ModelMetadata:
        """Metadata of the model that answers now."""

    def classify(self, images: Images, model: ModelMetadata) -> list[Prediction]:
        """Send uint8 [N,S,S,3] decoded for a model, and wait for N predictions; called from several threads at once.

        Raises:
            ModelChanged: another model answers, which needs its images decoded in another way.
        """


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


@dataclass
class Times:
    """Seconds that the run waited for each stage; together nearly all of its time."""

    decode: float = 0.0
    server: float = 0.0
    write: float = 0.0

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time spent inside to `stage`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, stage, getattr(self, stage) + time.perf_counter() - start)


@dataclass(eq=False)
class _Batch(Generic[S]):
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

    def take_images(self) -> Images:
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


class Pipeline(Generic[S]):
    """Decodes, sends and collects; `run` is a generator and may be used once.

    Args:
        classifier: the model.
        tuner: chooses batch size and number of requests in flight.
        threads: number of decoding threads.
        times: where waiting times are added up.
    """

    def __init__(self, classifier: Classifier, tuner: Tuner, threads: int, times: Times) -> None:
        self._classifier, self._tuner, self._threads, self._times = classifier, tuner, threads, times
        self._throttled = classifier.throttled
        self._decoders = ThreadPoolExecutor(threads, "decode")
        self._senders = ThreadPoolExecutor(max(MOST_IN_FLIGHT, tuner.setting.in_flight), "send")
        self._decoding: deque[_Batch[S]] = deque()
        self._window: deque[_Batch[S]] = deque()
        self._broken: ClassifyError | None = None

    def run(self, sources: Iterable[S]) -> Iterator[list[Result[S]]]:
        """Classify all sources: one result each, in their order, in a list for each batch.

        An image that cannot be decoded, or that the server refuses, gives a result with an error. An error raised by
        `sources` is raised after the results of the sources before it. A ServiceError of the classifier ends the
        stream; batches for which it raises Stopped are left out. When the consumer stops early, the owner of the
        classifier has to make its pending calls return.
        """
        remaining = iter(sources)
        try:
            while batch := self._next_decoded(remaining):
                while self._has_to_take():
                    yield from self._take()
                self._window.append(batch)
                batch.answer = self._senders.submit(self._send, batch)
            while self._window:
                yield from self._take()
            if self._broken:
                raise self._broken
        finally:
            for pool in (self._decoders, self._senders):
                pool.shutdown(wait=False, cancel_futures=True)

    def _next_decoded(self, remaining: Iterator[S]) -> _Batch[S] | None:
        with self._times.measure("decode"):
            self._decode_ahead(remaining)
            if not self._decoding:
                return None
            batch = self._decoding.popleft()
            for part in batch.decoded:
                part.result()
            # The decoders continue while this batch waits to be sent.
            self._decode_ahead(remaining)
            return batch

    def _decode_ahead(self, remaining: Iterator[S]) -> None:
        setting = self._tuner.setting
        ahead = max(_DECODED_AHEAD, -(-2 * self._threads // setting.batch_size))
        while len(self._decoding) < ahead and (sources := self._pull(remaining, setting.batch_size)):
            batch = _Batch(sources, self._classifier.current, setting)
            places = batch.places
            for _ in range(min(self._threads, len(sources))):
                batch.decoded.append(self._decoders.submit(batch.decode, places))
            self._decoding.append(batch)

    def _pull(self, remaining: Iterator[S], most: int) -> list[S]:
        sources: list[S] = []
        try:
            sources.extend(islice(remaining, most))
        except ClassifyError as error:
            # `extend` has kept the sources before the error.
            self._broken = error
        return sources

    def _send(self, batch: _Batch[S]) -> list[Prediction]:
        """Send a batch and wait for its answer; runs in a sender thread."""
        for _ in range(_ATTEMPTS):
            current = self._classifier.current
            if (current.image_size, current.resize) != (batch.model.image_size, batch.model.resize):
                batch.prepare(current)
                batch.decode(batch.places)
            images = batch.take_images()
            try:
                predictions = self._classifier.classify(images, batch.model) if len(images) else []
            except ModelChanged:
                continue
            batch.answered_at = time.perf_counter()
            # Free the pixels now: the results may have to wait for earlier batches.
            batch.images = images[:0]
            return predictions
        return [Prediction(error="the model changed repeatedly")] * len(batch.take_images())

    def _has_to_take(self) -> bool:
        """Wait until another batch may be sent; true if results have to be taken out first.

        Answered batches wait in a window for earlier ones, so that one slow server does not leave the others without
        work. The window is bounded.
        """
        in_flight = self._tuner.setting.in_flight
        if not self._window:
            return False
        if self._window[0].answer.done() or len(self._window) >= _WINDOW * in_flight:
            return True
        unanswered = [batch.answer for batch in self._window if not batch.answer.done()]
        if len(unanswered) < in_flight:
            return False
        with self._times.measure("server"):
            _wait_for_one(unanswered)
        # Check again: there may still be too many in flight, or the first may be answered.
        return self._has_to_take()

    def _take(self) -> Iterator[list[Result[S]]]:
        batch = self._window.popleft()
        try:
            with self._times.measure("server"):
                _wait_for_one([batch.answer])
                predictions = batch.answer.result()
        except Stopped:
            return
        self._tuner.answered(batch.setting, len(predictions), batch.answered_at)
        if self._classifier.throttled > self._throttled:
            self._throttled = self._classifier.throttled
            self._tuner.slow_down()
        if self._classifier.largest_batch is not None:
            self._tuner.batch_at_most(self._classifier.largest_batch)
        yield batch.results(predictions)


def _wait_for_one(answers: Collection[Future[list[Prediction]]]) -> None:
    """Wait until one of the answers is there.

    Wakes up regularly, because Python handles a signal in the main thread only when that thread runs.
    """
    while not wait(answers, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED).done:
        pass


def _result(source: S, model: ModelMetadata, prediction: Prediction) -> Result[S]:
    return Result(source, prediction.model or model, prediction.top, prediction.version, prediction.error)
