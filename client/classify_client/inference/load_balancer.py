"""Client-side load balancing with back-off and a retry timeout."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

import grpc

from classify_client.errors import ServiceError
from classify_client.inference.connection import Connection, call_metadata, open_channels
from classify_client.inference.exceptions import RequestRefused, Stopped
from classify_client.inference.retry_policy import RetryAction, error_message, pause, retry_action, short_reason

_WARN_AFTER: Final = 2.0
"""Seconds without an answer from any server."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RetryTimeout:
    """Seconds to keep trying without an answer from any server.

    Attributes:
        run: once a server has answered.
        start: before that; a mistyped host should be noticed within seconds.
        model: at the start, while a server answers but does not have the model.
    """

    run: float = 300.0
    start: float = 20.0
    model: float = 5.0

    @classmethod
    def of(cls, seconds: float | None) -> Self:
        """The same timeout for all three, or the defaults for None."""
        return cls() if seconds is None else cls(seconds, seconds, seconds)


@dataclass(eq=False)
class _Server:
    """A server and its state; `paused_until` is a time of the monotonic clock."""

    address: str
    call: Callable[..., bytes]
    load: int = 0
    requests: int = 0
    failures: int = 0
    paused_until: float = 0.0


class LoadBalancer:
    """Sends each request to the server with the fewest in flight, and retries as `retry_policy.py` says; thread-safe.

    Args:
        connection: the servers.
        method: the gRPC method.
        retry_timeout: when to give up.
        timeout: deadline of one attempt in seconds; doubled each time it was too short.

    Raises:
        SettingsError: the connection's settings cannot be used.
    """

    def __init__(self, connection: Connection, method: str, retry_timeout: RetryTimeout, timeout: float) -> None:
        self.addresses = ", ".join(connection.servers)
        self._retry_timeout, self._timeout = retry_timeout, timeout
        self._metadata = call_metadata(connection)
        self._channels = open_channels(connection)
        self._servers = [
            _Server(address, channel.unary_unary(method))
            for address, channel in zip(connection.servers, self._channels, strict=True)
        ]
        self._changed = threading.Condition()
        self._answered: float | None = None
        self._finishing = self._warned = False
        self.throttled = 0
        """How often a server asked for fewer requests at once."""

    def send(self, request: bytes) -> bytes:
        """Send a request until it is answered.

        Raises:
            ServiceError: no server answers, or none ever will; the run ends.
            RequestRefused: this request is not answered, others may be.
            Stopped: `finish` or `close` was called while it waited.
        """
        since, timeout = time.monotonic(), self._timeout
        failed: float | None = None
        while True:
            server = self._acquire()
            try:
                response = server.call(request, timeout=timeout, metadata=self._metadata)
            except grpc.RpcError as error:
                action = retry_action(error.code(), error.details() or "", starting=self._answered is None)
                self._release(server, action)
                failed = failed or time.monotonic()
                self._raise_unless_retried(error, action, server, since, failed)
                timeout *= 2 if action is RetryAction.EXTEND_DEADLINE else 1
            except ValueError:
                # gRPC raises this when the channel was closed in the meantime.
                raise Stopped from None
            else:
                self._release(server, None)
                return response

    def _acquire(self) -> _Server:
        """Wait for a server that is not paused, and count one request for it."""
        with self._changed:
            while not self._finishing:
                now = time.monotonic()
                if available := [server for server in self._servers if server.paused_until <= now]:
                    server = min(available, key=lambda server: (server.load, server.requests))
                    server.load += 1
                    server.requests += 1
                    return server
                self._changed.wait(min(server.paused_until for server in self._servers) - now)
        raise Stopped

    def _release(self, server: _Server, action: RetryAction | None) -> None:
        """Record how a request ended; None means that it was answered."""
        with self._changed:
            server.load -= 1
            now = time.monotonic()
            if action in (RetryAction.RETRY, RetryAction.THROTTLE, RetryAction.EXTEND_DEADLINE):
                self.throttled += action is RetryAction.THROTTLE
                # Requests that were in flight together fail together: that is one failure.
                if server.paused_until <= now:
                    server.failures += 1
                    server.paused_until = now + pause(server.failures)
            elif action is not RetryAction.ABORT:
                server.failures, server.paused_until = 0, 0.0
                self._answered, self._warned = now, False
                self._changed.notify_all()

    def _raise_unless_retried(
        self, error: grpc.RpcError, action: RetryAction, server: _Server, since: float, failed: float
    ) -> None:
        """Raise unless the request is sent again; `since` it was sent first, and `failed` first."""
        if self._finishing:
            raise Stopped from error
        if action in (RetryAction.SPLIT, RetryAction.BISECT, RetryAction.FAIL_REQUEST):
            raise RequestRefused(f"{error.code().name}: {' '.join((error.details() or '').split())}", action)
        waited, limit = time.monotonic() - since, self._limit(error)
        if action is RetryAction.ABORT or waited >= limit:
            if action is not RetryAction.ABORT and self._answered is not None and self._answered > failed:
                # Other requests were answered after this one failed, so the cause is this request.
                raise RequestRefused(f"not answered within {_duration(limit)}: {short_reason(error)}", action)
            address = self.addresses if action is RetryAction.RETRY else server.address
            raise ServiceError(error_message(error, address)) from error
        self._warn(error, waited, limit)

    def _limit(self, error: grpc.RpcError) -> float:
        if self._answered is not None:
            return self._retry_timeout.run
        not_found = error.code() is grpc.StatusCode.NOT_FOUND
        return self._retry_timeout.model if not_found else self._retry_timeout.start

    def _warn(self, error: grpc.RpcError, waited: float, limit: float) -> None:
        with self._changed:
            all_fail = all(server.failures for server in self._servers)
            if self._warned or not all_fail or waited < _WARN_AFTER:
                return
            self._warned = True
        log.warning(
            "Waiting for %s (%s; up to %s, Ctrl-C stops) ...", self.addresses, short_reason(error), _duration(limit)
        )

    def finish(self) -> None:
        """Let requests in flight be answered, but send nothing more."""
        with self._changed:
            self._finishing = True
            self._changed.notify_all()

    def close(self) -> None:
        """Stop at once; requests in flight raise Stopped."""
        self.finish()
        for channel in self._channels:
            channel.close()


def _duration(seconds: float) -> str:
    """A duration as a person would write it: `20s`, `5m`, `1h30m`."""
    if seconds < 60:
        return f"{seconds:g}s"
    hours, minutes, rest = int(seconds // 3600), int(seconds % 3600 // 60), seconds % 60
    parts = ((hours, "h"), (minutes, "m"), (round(rest), "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number)
