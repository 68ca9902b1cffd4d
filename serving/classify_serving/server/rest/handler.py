"""One HTTP connection of the REST interface: requests are read within limits, and every one gets a JSON answer.

An error is `{"error": ...}`, with the HTTP status for its gRPC status as in tensorflow_serving/util/net_http.
The standard library limits a request line and a header to 64 KiB each, and the number of headers to 100.
"""

import io
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Final

import grpc

from classify_serving.server.errors import RequestError
from classify_serving.server.rest.budget import ByteBudget, parsed_size

Answer = Callable[[str, str, bytearray], dict[str, Any]]

_HTTP_STATUS: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.FAILED_PRECONDITION: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    grpc.StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
}
_BYTES_PER_SECOND: Final = 2**16
"""A client that sends or receives more slowly than this, 64 KiB/s, is cut off."""

_LINGER_SECONDS: Final = 2.0
_BUDGET_SECONDS: Final = 1.0
"""How long a body waits for memory before its request is refused."""

RETRY_AFTER_SECONDS: Final = 1
"""When a client may try again after status 503."""


class _HttpError(Exception):
    """A request is refused before its body was read, so the connection cannot be used again."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class _SocketReader(io.RawIOBase):
    """Reads from a socket until a point in time: a timeout for each read would let a client send one byte at a time.

    Attributes:
        deadline: reading raises TimeoutError at this time of `time.monotonic()`.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.deadline = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


@contextmanager
def _reserved(budget: ByteBudget, size: int) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(budget.reserve(size, _BUDGET_SECONDS))
        except TimeoutError:
            message = "the server has no memory for another request of this size: try again later"
            raise _HttpError(HTTPStatus.SERVICE_UNAVAILABLE, message) from None
        yield


class Handler(BaseHTTPRequestHandler):
    """Reads the requests of one connection, calls `answer`, and writes JSON.

    Attributes:
        answer: takes method, path and body and returns the JSON; raises RequestError.
        budget: the memory for the bodies of all connections.
        parsed_budget: the memory for the values in the bodies that are processed.
        max_parsed: bodies whose values need more memory are refused, in bytes.
        idle_seconds: time to wait for a request's headers, and for its body beyond the time that its bytes allow.
        max_body: larger bodies are refused, in bytes.
    """

    protocol_version = "HTTP/1.1"
    answer: Answer
    budget: ByteBudget
    parsed_budget: ByteBudget
    max_parsed: int
    idle_seconds: float
    max_body: int

    def setup(self) -> None:
        """Replace the standard reader, whose timeout begins anew with each read."""
        super().setup()
        self.rfile.close()
        self._reader = _SocketReader(self.connection)
        self.rfile = io.BufferedReader(self._reader)
        self._unread = False

    def handle_one_request(self) -> None:
        """Read and answer one request; a client that goes away or is too slow ends the connection."""
        self._reader.deadline = time.monotonic() + self.idle_seconds
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def finish(self) -> None:
        """Read for a moment what the client still sends: closing at once would make it lose the answer."""
        with suppress(OSError):
            super().finish()
        if self._unread:
            self._reader.deadline = time.monotonic() + min(_LINGER_SECONDS, self.idle_seconds)
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_WR)
                while self._reader.readinto(bytearray(2**16)):
                    pass

    def do_GET(self) -> None:
        """Describe the served version."""
        self._answer_request()

    def do_POST(self) -> None:
        """Run a signature."""
        self._answer_request()

    def handle_expect_100(self) -> bool:
        """Refuse a body that is too large before the client sends it."""
        try:
            self._body_size()
        except _HttpError as error:
            self.send_error(error.status, str(error))
            return False
        return super().handle_expect_100()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer with JSON and close the connection; the standard library calls this for broken HTTP."""
        self.close_connection = self._unread = True
        self._send(code, {"error": (message or HTTPStatus(code).phrase)[:500]})

    def version_string(self) -> str:
        """Content of the header `Server`."""
        return "classify-serve"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log no requests: stderr is for messages that an operator should read."""

    def _answer_request(self) -> None:
        try:
            status, content = self._answer_body(self._body_size())
        except _HttpError as error:
            self.send_error(error.status, str(error))
            return
        self._send(status, content)

    def _answer_body(self, size: int) -> tuple[HTTPStatus, dict[str, Any]]:
        """Receive a body and process it; its memory is reserved until the answer is there."""
        with ExitStack() as stack:
            stack.enter_context(_reserved(self.budget, size))
            body = self._read_body(size)
            if (needed := parsed_size(body)) > self.max_parsed:
                message = f"the body has too many values ({needed >> 20} MB in memory): send pixels over gRPC"
                return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": message}
            stack.enter_context(_reserved(self.parsed_budget, needed))
            try:
                return HTTPStatus.OK, type(self).answer(self.command, self.path, body)
            except RequestError as error:
                status = _HTTP_STATUS.get(error.code, HTTPStatus.INTERNAL_SERVER_ERROR)
                return status, {"error": str(error)}

    def _body_size(self) -> int:
        if "Transfer-Encoding" in self.headers:
            raise _HttpError(HTTPStatus.LENGTH_REQUIRED, "chunked bodies are not supported: send a Content-Length")
        lengths = {str(length).strip() for length in self.headers.get_all("Content-Length", [])}
        if not lengths:
            if self.command == "GET":
                return 0
            raise _HttpError(HTTPStatus.LENGTH_REQUIRED, "the request has no Content-Length: send it")
        digits = lengths.pop()
        if lengths or not re.fullmatch("[0-9]+", digits):
            raise _HttpError(HTTPStatus.BAD_REQUEST, f"invalid Content-Length: {digits[:50]}")
        # The length of the text is checked first, because Python refuses to convert very long numbers.
        if len(digits) > 18 or int(digits) > self.max_body:
            raise _HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than {self.max_body} bytes")
        return int(digits)

    def _read_body(self, size: int) -> bytearray:
        body, received, start = bytearray(size), 0, time.monotonic()
        while received < size:
            # What has arrived buys time for the rest, so that a client that stops does not hold the memory for long.
            self._reader.deadline = start + self.idle_seconds + received / _BYTES_PER_SECOND
            try:
                count = self.rfile.readinto1(memoryview(body)[received:])
            except TimeoutError:
                raise _HttpError(HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive in time") from None
            if not count:
                raise _HttpError(HTTPStatus.BAD_REQUEST, "the body is shorter than its Content-Length")
            received += count
        return body

    def _send(self, status: int, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        # Before it has read a version, the standard library assumes HTTP/0.9, whose answers have no status.
        self.request_version = self.protocol_version
        self.connection.settimeout(self.idle_seconds + len(data) / _BYTES_PER_SECOND)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            self.send_header("Retry-After", str(RETRY_AFTER_SECONDS))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
