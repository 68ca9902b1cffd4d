"""Which server is asked, how long one that fails is left alone, and when to give up."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

import grpc

from classify_client.cli.types import duration_text
from classify_client.errors import RequestRefused, ServiceError, Stopped
from classify_client.inference.connection import Connection, call_metadata, open_channels
from classify_client.inference.retry_policy import Remedy, explain, pause, reason_of, remedy_for
from classify_serving.contract.wire_pb2 import PredictRequest, PredictResponse

METHOD: Final = "/tensorflow.serving.PredictionService/Predict"
_TELL_AFTER: Final = 2.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """Seconds to go on without an answer from any server.

    Attributes:
        run: once one has answered.
        start: before that; a mistyped host should not take minutes to notice.
        model: while a server is there at the start but does not have the model.
    """

    run: float = 300.0
    start: float = 20.0
    model: float = 5.0

    @classmethod
    def of(cls, seconds: float | None) -> Self:
        """The same patience for everything, or the defaults."""
        return cls() if seconds is None else cls(seconds, seconds, seconds)


@dataclass(eq=False)
class _Server:
    """A server and what is known of it; `rests_until` is on the monotonic clock."""

    address: str
    predict: Callable[..., PredictResponse]
    load: int = 0
    taken: int = 0
    failures: int = 0
    rests_until: float = 0.0


class Balancer:
    """Sends each request to the server with the least to do, and repeats it as `retry_policy.py` says; thread-safe.

    Args:
        connection: the servers.
        patience: when to give up.
        timeout: seconds of one attempt; more when one was too short.

    Raises:
        SettingsError: the connection's settings cannot be used.
    """

    def __init__(self, connection: Connection, patience: Patience, timeout: float) -> None:
        self.addresses = ", ".join(connection.servers)
        self._patience, self._timeout = patience, timeout
        self._metadata = call_metadata(connection)
        self._channels = open_channels(connection)
        self._servers = [
            _Server(address, channel.unary_unary(METHOD, response_deserializer=PredictResponse.FromString))
            for address, channel in zip(connection.servers, self._channels, strict=True)
        ]
        self._changed = threading.Condition()
        self._answered: float | None = None
        self._finishing = self._told = False
        self.eased = 0
        """How often a server asked for fewer requests at once."""

    def ask(self, request: PredictRequest) -> PredictResponse:
        """Send a request until it is answered.

        Raises:
            ServiceError: no server answers, or none ever will; the run ends.
            RequestRefused: this request is not answered, others may be.
            Stopped: `finish` or `close` was called while it waited.
        """
        content, since, timeout = request.SerializeToString(), time.monotonic(), self._timeout
        while True:
            server = self._take()
            try:
                response = server.predict(content, timeout=timeout, metadata=self._metadata)
            except grpc.RpcError as error:
                remedy = remedy_for(error.code(), error.details() or "", starting=self._answered is None)
                self._released(server, remedy)
                self._check(error, remedy, server, since)
                timeout *= 2 if remedy is Remedy.LONGER else 1
            except ValueError:
                # What gRPC raises for a channel that was closed in the meantime.
                raise Stopped from None
            else:
                self._released(server, None)
                return response

    def _take(self) -> _Server:
        """The server to ask next, as soon as there is one that does not rest."""
        with self._changed:
            while not self._finishing:
                now = time.monotonic()
                if awake := [server for server in self._servers if server.rests_until <= now]:
                    server = min(awake, key=lambda server: (server.load, server.taken))
                    server.load += 1
                    server.taken += 1
                    return server
                self._changed.wait(min(server.rests_until for server in self._servers) - now)
        raise Stopped

    def _released(self, server: _Server, remedy: Remedy | None) -> None:
        """Take note of how a request went; no remedy means well."""
        with self._changed:
            server.load -= 1
            now = time.monotonic()
            if remedy in (Remedy.RETRY, Remedy.EASE, Remedy.LONGER):
                self.eased += remedy is Remedy.EASE
                # Requests that were in flight together fail together: that is one failure.
                if server.rests_until <= now:
                    server.failures += 1
                    server.rests_until = now + pause(server.failures)
            elif remedy is not Remedy.END:
                server.failures, server.rests_until = 0, 0.0
                self._answered, self._told = now, False
                self._changed.notify_all()

    def _check(self, error: grpc.RpcError, remedy: Remedy, server: _Server, since: float) -> None:
        """Raise unless the request is to be repeated."""
        if self._finishing:
            raise Stopped from error
        if remedy in (Remedy.SPLIT, Remedy.ISOLATE, Remedy.REFUSE):
            raise RequestRefused(f"{error.code().name}: {' '.join((error.details() or '').split())}", remedy)
        waited, limit = time.monotonic() - since, self._limit(error)
        if remedy is Remedy.END or waited >= limit:
            if remedy is not Remedy.END and self._answered is not None and self._answered > since:
                # Others were answered in the meantime, so it is this request.
                raise RequestRefused(f"not answered within {duration_text(limit)}: {reason_of(error)}", remedy)
            address = self.addresses if remedy is Remedy.RETRY else server.address
            raise ServiceError(explain(error, address)) from error
        self._tell(error, waited, limit)

    def _limit(self, error: grpc.RpcError) -> float:
        if self._answered is not None:
            return self._patience.run
        return self._patience.model if error.code() is grpc.StatusCode.NOT_FOUND else self._patience.start

    def _tell(self, error: grpc.RpcError, waited: float, limit: float) -> None:
        with self._changed:
            silent = all(server.failures for server in self._servers)
            if self._told or not silent or waited < _TELL_AFTER:
                return
            self._told = True
        log.warning(
            "Waiting for %s (%s; up to %s, Ctrl-C stops) ...", self.addresses, reason_of(error), duration_text(limit)
        )

    def finish(self) -> None:
        """Let what was sent be answered, but repeat and begin nothing more."""
        with self._changed:
            self._finishing = True
            self._changed.notify_all()

    def close(self) -> None:
        """Stop at once; requests in flight raise Stopped."""
        self.finish()
        for channel in self._channels:
            channel.close()
