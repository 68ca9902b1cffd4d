"""Files -> decoded images -> batches -> requests in flight -> results, in the order of the files.

Every stage is bounded, so a slow server slows the decoders down instead of filling memory.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from classify_client.errors import Stopped
from classify_client.service import Prediction
from classify_client.sources import Source
from classify_serving.images import ImageError, Resize, decode_image

Image = NDArray[np.uint8]
_WINDOW: Final = 4
"""Batches kept in order, answered ones included, for each that may be in flight."""
Classify = Callable[[Image], list[Prediction]]
"""Sends uint8 [N,S,S,3] and waits for N predictions; called from several threads at once."""


@dataclass(frozen=True)
class Result:
    """What became of one file: `top` is (class, probability) best first, or `error` says why there is none."""

    source: Source
    top: tuple[tuple[str, float], ...] = ()
    version: int | None = None
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """How images are decoded and sent.

    Attributes:
        size: side of the model's input in pixels.
        resize: how an image is made square.
        batch_size: images a request.
        in_flight: requests sent and not yet answered, at most.
        threads: decoding threads.
    """

    size: int
    resize: Resize
    batch_size: int
    in_flight: int
    threads: int


@dataclass
class Times:
    """Seconds the run stood waiting for each stage; together nearly all of its time."""

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


@dataclass
class _Batch:
    """Files in order, with the images of those that could be decoded and the errors of the others."""

    sources: list[Source] = field(default_factory=list)
    errors: dict[int, str] = field(default_factory=dict)
    images: list[Image] = field(default_factory=list)


def run_pipeline(
    sources: Iterable[Source], classify: Classify, config: PipelineConfig, times: Times
) -> Iterator[list[Result]]:
    """Classify every file, one result each, in their order; a list for each batch.

    A file that cannot be decoded, or that the server refuses, gives a result with an error. ServiceError of
    `classify` ends the stream; what it raises Stopped for is left out. When the consumer stops early, whoever owns
    `classify` has to make the calls under way return.
    """
    decoders = ThreadPoolExecutor(config.threads, "decode")
    senders = ThreadPoolExecutor(config.in_flight, "send")
    window: deque[tuple[_Batch, Future[list[Prediction]]]] = deque()
    try:
        decoded = _decode(decoders, sources, config)
        while batch := _next_batch(decoded, config.batch_size, times):
            while _is_full(window, config.in_flight, times):
                yield from _results(*window.popleft(), times)
            window.append((batch, senders.submit(_classify, classify, batch.images)))
        while window:
            yield from _results(*window.popleft(), times)
    finally:
        for pool in (decoders, senders):
            pool.shutdown(wait=False, cancel_futures=True)


def _classify(classify: Classify, images: list[Image]) -> list[Prediction]:
    return classify(np.stack(images)) if images else []


def _is_full(window: deque[tuple[_Batch, Future[list[Prediction]]]], in_flight: int, times: Times) -> bool:
    """Wait until another batch may be sent; true if results have to be taken out before.

    Batches that are answered wait in the window for an earlier one that is not, so that one slow server does not
    leave the others without work; there is an end to that as well.
    """
    if not window:
        return False
    if window[0][1].done() or len(window) >= _WINDOW * in_flight:
        return True
    unanswered = [future for _, future in window if not future.done()]
    if len(unanswered) >= in_flight:
        with times.measure("server"):
            wait(unanswered, return_when=FIRST_COMPLETED)
        return window[0][1].done()
    return False


def _decode(
    pool: ThreadPoolExecutor, sources: Iterable[Source], config: PipelineConfig
) -> Iterator[tuple[Source, Image | str]]:
    """Decode ahead of the sender by at most as many images as may be in flight."""
    remaining = iter(sources)
    pending: deque[tuple[Source, Future[Image]]] = deque()

    def submit(count: int) -> None:
        for source in islice(remaining, count):
            pending.append((source, pool.submit(decode_image, source.path, config.size, config.resize)))

    try:
        submit(config.batch_size * config.in_flight + config.threads)
        while pending:
            source, future = pending.popleft()
            try:
                outcome: Image | str = future.result()
            except ImageError as error:
                outcome = error.reason
            submit(1)
            yield source, outcome
    finally:
        for _, future in pending:
            future.cancel()


def _next_batch(decoded: Iterator[tuple[Source, Image | str]], batch_size: int, times: Times) -> _Batch | None:
    batch = _Batch()
    with times.measure("decode"):
        for source, outcome in decoded:
            if isinstance(outcome, str):
                batch.errors[len(batch.sources)] = outcome
            else:
                batch.images.append(outcome)
            batch.sources.append(source)
            if len(batch.images) == batch_size or len(batch.errors) == batch_size:
                break
    return batch if batch.sources else None


def _results(batch: _Batch, answer: "Future[list[Prediction]]", times: Times) -> Iterator[list[Result]]:
    try:
        with times.measure("server"):
            predictions = iter(answer.result())
    except Stopped:
        return
    yield [
        Result(source, error=batch.errors[index]) if index in batch.errors else _result(source, next(predictions))
        for index, source in enumerate(batch.sources)
    ]


def _result(source: Source, prediction: Prediction) -> Result:
    return Result(source, prediction.top, prediction.version, prediction.error)
