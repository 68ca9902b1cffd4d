"""What a process of the cluster does: it sends the images of a part of the manifest, and gives their rows."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any, Final

import pyarrow

from classify_client.cluster.machines.connection import cluster_error, nodes
from classify_client.cluster.storage.manifest import read_manifest
from classify_client.cluster.storage.parts import to_part
from classify_client.config import PipelineOptions, ServerOptions
from classify_client.errors import ServiceError
from classify_client.inference.codec import RequestedModel
from classify_client.inference.connection import Connection
from classify_client.inference.load_balancer import RetryTimeout
from classify_client.inference.model_client import ModelClient
from classify_client.inference.pipeline import Pipeline, Times
from classify_client.inference.tuning import Tuner
from classify_client.inputs.source import Source
from classify_client.results.rows import Row

CALLS_AT_ONCE: Final = 2
"""Parts that a process works on: while the last answers of one are waited for, images of the next are sent."""

_LOCAL_RETRY_SECONDS: Final = 20.0
"""Only this run can start a local server again, so it is not waited for."""
_ATTEMPTS: Final = 4
_REPORT_SECONDS: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the processes of a run need to know.

    Attributes:
        server: the model, and where it is served.
        pipeline: how images are sent by each process; the number of threads is shared by its parts.
        labels: whether folder names are true labels.
        top_k: number of classes in a row, 1-5.
    """

    server: ServerOptions
    pipeline: PipelineOptions
    labels: bool
    top_k: int


class ImageClassifier:
    """Turns parts of a manifest into parts of the results; Ray Data makes one for each process of its pool.

    Args:
        task: of the run.
        counter: handle of the `Counter` to report to.
        pool: handle of the `ServerPool`; None if the servers run already.
    """

    def __init__(self, task: Task, counter: Any, pool: Any = None) -> None:
        self._task, self._counter, self._pool = task, counter, pool
        self._lock = threading.Lock()
        self._client: ModelClient | None = None
        self._tuners: SimpleQueue[Tuner] = SimpleQueue()

    def __call__(self, part: pyarrow.Table) -> pyarrow.Table:
        """Classify the images of one part; called from `CALLS_AT_ONCE` threads at once.

        Raises:
            ClassifyError: no server answers, or its settings cannot be used on this machine.
        """
        for attempt in range(_ATTEMPTS):
            client = None
            try:
                client = self._connected()
                return self._classify(part, client)
            except ServiceError:
                if self._pool is None or attempt == _ATTEMPTS - 1:
                    raise
                self._disconnect(client)
        raise AssertionError

    def _classify(self, part: pyarrow.Table, client: ModelClient) -> pyarrow.Table:
        rows: list[Row] = []
        reported, moment = 0, time.monotonic()
        images = list(read_manifest(part))
        with self._tuner(client) as tuner:
            threads = max(1, self._task.pipeline.threads // CALLS_AT_ONCE)
            pipeline: Pipeline[Source] = Pipeline(client, tuner, threads, Times())
            for results in pipeline.run(source for _, source in images):
                rows += [Row.of(result, result.model, self._task.labels) for result in results]
                if time.monotonic() - moment >= _REPORT_SECONDS:
                    self._counter.add.remote(len(rows) - reported)
                    reported, moment = len(rows), time.monotonic()
        self._counter.add.remote(len(rows) - reported)
        if len(rows) < len(images):
            raise ServiceError("the connection was closed for another part")
        return to_part(rows, [position for position, _ in images], self._task.top_k)

    @contextmanager
    def _tuner(self, client: ModelClient) -> Iterator[Tuner]:
        """What was found out about the servers serves the next part too."""
        if self._tuners.empty():
            pipeline, size = self._task.pipeline, client.current.image_size
            tuner = Tuner(pipeline.batch_size, pipeline.in_flight, client.servers, 3 * size**2)
        else:
            tuner = self._tuners.get()
        try:
            yield tuner
        finally:
            self._tuners.put(tuner)

    def _connected(self) -> ModelClient:
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _disconnect(self, client: ModelClient | None) -> None:
        with self._lock:
            # Another thread may have done so.
            if client is not None and self._client is client:
                self._client = None
                client.close()

    def _connect(self) -> ModelClient:
        server = self._task.server
        model = RequestedModel(server.model, server.model_version, server.version_label)
        connection, retry_timeout = server.connection, server.retry_timeout
        if self._pool is not None:
            addresses, model = _servers_here(self._pool)
            connection = Connection(servers=addresses)
            retry_timeout = _LOCAL_RETRY_SECONDS if retry_timeout is None else retry_timeout
        # The processes of a cluster should not all begin with the same server.
        first = os.getpid() % len(connection.servers)
        servers = connection.servers[first:] + connection.servers[:first]
        return ModelClient(replace(connection, servers=servers), model, RetryTimeout.of(retry_timeout), server.timeout)


def _servers_here(pool: Any) -> tuple[tuple[str, ...], RequestedModel]:
    """The servers of this machine, and the model that they serve."""
    import ray

    identity = ray.get_runtime_context().get_node_id()
    gpus = next((node.gpus for node in nodes() if node.identity == identity), 0)
    try:
        found = ray.get([server.address.remote() for server in ray.get(pool.on_node.remote(identity, gpus))])
    except ray.exceptions.RayError as error:
        raise cluster_error(error) from error
    return tuple(address for address, _ in found), RequestedModel(found[0][1])


class Counter:
    """Counts the images that are done; a Ray actor."""

    def __init__(self) -> None:
        self._images = 0

    def add(self, images: int) -> None:
        """Count some more."""
        self._images += images

    def total(self) -> int:
        """How many there are; those of a part that was begun again are counted twice."""
        return self._images
