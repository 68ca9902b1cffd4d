"""Files -> decoded images -> batches -> requests in flight -> results, in the order of the files.

Every stage is bounded: a slow server slows down decoding instead of filling memory.
"""

import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Final, Generic, Protocol

from classify_client.errors import ClassifyError
from classify_client.inference.batch import Batch, Images, Result, S
from classify_client.inference.exceptions import ModelChanged, Stopped
from classify_client.inference.model_client import Prediction
from classify_client.inference.tuning import MAX_IN_FLIGHT, Tuner
from classify_serving.contract.model import ModelMetadata

_WINDOW: Final = 4
"""Batches kept in order, including answered ones, for each batch that may be in flight."""
_DECODED_AHEAD: Final = 2
"""Batches that are decoded, or being decoded, before they can be sent."""
_POLL_SECONDS: Final = 0.2
_ATTEMPTS: Final = 3
"""How often a batch is decoded again because the model changed in the meantime."""


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
        self._senders = ThreadPoolExecutor(max(MAX_IN_FLIGHT, tuner.setting.in_flight), "send")
        self._decoding: deque[Batch[S]] = deque()
        self._window: deque[Batch[S]] = deque()
        self._source_error: ClassifyError | None = None

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
                while self._must_collect():
                    yield from self._collect()
                self._window.append(batch)
                batch.answer = self._senders.submit(self._send, batch)
            while self._window:
                yield from self._collect()
            if self._source_error:
                raise self._source_error
        finally:
            for pool in (self._decoders, self._senders):
                pool.shutdown(wait=False, cancel_futures=True)

    def _next_decoded(self, remaining: Iterator[S]) -> Batch[S] | None:
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
            batch = Batch(sources, self._classifier.current, setting)
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
            self._source_error = error
        return sources

    def _send(self, batch: Batch[S]) -> list[Prediction]:
        """Send a batch and wait for its answer; runs in a sender thread."""
        for _ in range(_ATTEMPTS):
            current = self._classifier.current
            if (current.image_size, current.resize) != (batch.model.image_size, batch.model.resize):
                batch.prepare(current)
                batch.decode(batch.places)
            images = batch.decoded_images()
            try:
                predictions = self._classifier.classify(images, batch.model) if len(images) else []
            except ModelChanged:
                continue
            batch.answered_at = time.perf_counter()
            # Free the pixels now: the results may have to wait for earlier batches.
            batch.images = images[:0]
            return predictions
        return [Prediction(error="the model changed repeatedly")] * len(batch.decoded_images())

    def _must_collect(self) -> bool:
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
        return self._must_collect()

    def _collect(self) -> Iterator[list[Result[S]]]:
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
