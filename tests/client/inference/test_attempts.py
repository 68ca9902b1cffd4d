"""How often a server sees one request: retries are decided in one place, and gRPC adds none of its own."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import grpc
import pytest

from classify_client.errors import ServiceError
from classify_client.inference.codec import PREDICT
from classify_client.inference.connection import Connection
from classify_client.inference.load_balancer import LoadBalancer, RetryTimeout

QUEUE_FULL = "The batch scheduling queue to which this task was submitted is full"
SIZES = (100, 800_000)
"""Bytes of a request: below and above gRPC's own retry buffer of 256 KiB."""


@contextmanager
def balancer(port: int, retry_timeout: RetryTimeout) -> Iterator[LoadBalancer]:
    """A load balancer for one server at a local port."""
    opened = LoadBalancer(Connection(servers=(f"127.0.0.1:{port}",)), PREDICT.method, retry_timeout, timeout=60)
    yield opened
    opened.close()


def send_once(port: int, size: int) -> None:
    """Make one attempt for a request of `size` bytes, which fails."""
    with balancer(port, RetryTimeout.of(0)) as sender, pytest.raises(ServiceError):
        sender.send(bytes(size))


class RefusingService(grpc.GenericRpcHandler):
    """Answers every request with a status until `seconds` are over; counts the requests."""

    def __init__(self, code: grpc.StatusCode, seconds: float) -> None:
        self._code, self._until = code, time.monotonic() + seconds
        self.requests = 0

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            self.requests += 1
            if time.monotonic() < self._until:
                context.abort(self._code, QUEUE_FULL)
            return b"answer"

        return grpc.unary_unary_rpc_method_handler(answer)


@contextmanager
def serving(service: grpc.GenericRpcHandler) -> Iterator[int]:
    """Serve on a free local port, which is yielded."""
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_a_server_with_a_full_queue_sees_each_attempt_once(code: grpc.StatusCode, size: int) -> None:
    service = RefusingService(code, seconds=1e9)
    with serving(service) as port:
        send_once(port, size)
    assert service.requests == 1


def test_every_refusal_of_a_full_queue_is_counted_and_followed_by_a_pause() -> None:
    service = RefusingService(grpc.StatusCode.UNAVAILABLE, seconds=1.0)
    with serving(service) as port, balancer(port, RetryTimeout()) as sender:
        assert sender.send(b"request") == b"answer"
    assert service.requests == sender.throttled + 1
    # The shortest pauses are 0.05, 0.1, 0.2 and 0.4 s.
    assert service.requests <= 6


def refuse_stream(connection: socket.socket, stream: int) -> None:
    """RST_STREAM with REFUSED_STREAM: the server has not begun with this request."""
    connection.sendall(b"\0\0\4\3\0" + struct.pack(">II", stream, 7))


def go_away(connection: socket.socket, stream: int) -> None:
    """GOAWAY with 0 as the last stream, as from a server that shuts down before it has seen the request."""
    connection.sendall(b"\0\0\x08\7\0\0\0\0\0" + struct.pack(">II", 0, 0))
    raise EOFError


def reset(connection: socket.socket, stream: int) -> None:
    """Reset the connection, as from a server that is killed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise EOFError


def _receive(connection: socket.socket, length: int) -> bytes:
    """Read this many bytes; raises EOFError at the end of the connection."""
    content = b""
    while len(content) < length:
        if not (part := connection.recv(length - len(content))):
            raise EOFError
        content += part
    return content


class Http2Server:
    """Answers each HTTP/2 request with `answer(connection, stream)`; counts the requests (HEADERS frames)."""

    def __init__(self, answer: Callable[[socket.socket, int], None]) -> None:
        self._answer, self.requests = answer, 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=self._listening.accept()[:1], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, EOFError):
            _receive(connection, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
            connection.sendall(b"\0\0\0\4\0\0\0\0\0")
            while True:
                length, kind, flags, number = struct.unpack(">3sBBI", _receive(connection, 9))
                content = _receive(connection, int.from_bytes(length))
                if kind == 1:
                    self.requests += 1
                    self._answer(connection, number)
                elif kind in (4, 6) and not flags & 1:
                    # SETTINGS and PING are acknowledged.
                    answered = content if kind == 6 else b""
                    connection.sendall(struct.pack(">3sBBI", len(answered).to_bytes(3), kind, 1, 0) + answered)

    def close(self) -> None:
        self._listening.close()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("answer", "most"), [(reset, 1), (refuse_stream, 1), (go_away, 2)])
def test_a_server_that_goes_away_sees_each_attempt_once(
    answer: Callable[[socket.socket, int], None], most: int, size: int
) -> None:
    """Only a request that the server declares unseen is sent again by gRPC, once: nothing was computed for it."""
    server = Http2Server(answer)
    send_once(server.port, size)
    server.close()
    assert 1 <= server.requests <= most
