"""Files -> decoded images -> batches -> requests in flight -> results, in the order of the files.

Every stage is bounded, so a slow server slows the decoders down instead of filling memory.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from classify_client.errors import RequestRefused
from classify_client.service import Answer
from classify_client.sources import Source
from classify_serving.images import ImageError, Resize, decode_image

Image = NDArray[np.uint8]
Classify = Callable[[Image], Callable[[], Answer]]
"""Sends uint8 [N,S,S,3] and returns at once; the function it returns waits for the answer."""


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

    A file that cannot be decoded, or whose batch the server refuses, gives a result with an error. ServiceError
    of `classify` ends the stream.
    """
    in_flight: deque[tuple[_Batch, Callable[[], Answer] | None]] = deque()
    with ThreadPoolExecutor(config.threads, "decode") as pool:
        decoded = _decode(pool, sources, config)
        while batch := _next_batch(decoded, config.batch_size, times):
            if len(in_flight) == config.in_flight:
                yield _results(*in_flight.popleft(), times)
            in_flight.append((batch, classify(np.stack(batch.images)) if batch.images else None))
    while in_flight:
        yield _results(*in_flight.popleft(), times)


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


def _results(batch: _Batch, wait: Callable[[], Answer] | None, times: Times) -> list[Result]:
    refusal = ""
    answer: Answer | None = None
    if wait is not None:
        try:
            with times.measure("server"):
                answer = wait()
        except RequestRefused as error:
            refusal = str(error)
    results = []
    answers = iter(range(len(batch.images)))
    for index, source in enumerate(batch.sources):
        reason = batch.errors.get(index, refusal)
        if reason or answer is None:
            results.append(Result(source, error=reason))
        else:
            results.append(Result(source, _top(answer, next(answers)), answer.version))
    return results


def _top(answer: Answer, position: int) -> tuple[tuple[str, float], ...]:
    return tuple(zip(answer.labels[position], answer.probabilities[position].tolist(), strict=True))
