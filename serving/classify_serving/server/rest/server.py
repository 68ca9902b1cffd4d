"""TensorFlow Serving's REST interface for the same models; routes.py lists the paths."""

import json
import logging
import socket
import sys
import threading
from contextlib import suppress
from functools import partial
from http.server import ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

from classify_serving.contract.text import error_reason
from classify_serving.server.errors import AddressError, RequestError, internal_error
from classify_serving.server.models.registry import Models
from classify_serving.server.rest.budget import ByteBudget
from classify_serving.server.rest.handler import RETRY_AFTER_SECONDS, Handler
from classify_serving.server.rest.routes import route
from classify_serving.server.server import DEFAULT_MAX_REQUEST_MB

MAX_CONNECTIONS: Final = 32
"""Open connections; further ones are answered 503. Each has a thread."""

IDLE_SECONDS: Final = 30.0
"""A connection without a request is closed after this time."""

MAX_PARSED: Final = 2**30
"""Memory for the values in the JSON of all requests together, in bytes."""

_BUSY: Final = json.dumps({"error": f"the server has {MAX_CONNECTIONS} connections already: try again later"}).encode()
_log = logging.getLogger(__name__)


class RestServer:
    """An HTTP server with one thread per connection; it listens from its creation until `stop`. A context manager.

    Args:
        models: what to serve.
        host: address to listen on.
        port: port to listen on; 0 chooses a free port.
        threads: number of requests processed at the same time; also, how many of the largest size fit into memory.
        max_request_mb: larger bodies are refused, in megabytes of 2**20 bytes.
        idle_seconds: a connection without a request is closed after this time.
        max_parsed: memory for the values in the JSON of all requests together, in bytes.

    Raises:
        AddressError: the port is in use, or the host is not an address of this machine.
    """

    def __init__(
        self,
        models: Models,
        host: str,
        port: int,
        threads: int = 4,
        max_request_mb: int = DEFAULT_MAX_REQUEST_MB,
        idle_seconds: float = IDLE_SECONDS,
        max_parsed: int = MAX_PARSED,
    ) -> None:
        slots = threading.BoundedSemaphore(threads)
        settings = {
            "answer": staticmethod(partial(_answer, models, slots)),
            "budget": ByteBudget(threads * max_request_mb * 2**20),
            "parsed_budget": ByteBudget(max_parsed),
            "max_parsed": max_parsed,
            "max_body": max_request_mb * 2**20,
            "idle_seconds": idle_seconds,
        }
        try:
            self._server = _HttpServer((host, port), type("BoundHandler", (Handler,), settings))
        except OSError as error:
            raise AddressError(
                f"cannot listen on {host}:{port} ({error_reason(error)}): choose another --rest-port or --host"
            ) from error
        self.address = f"{host}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="rest", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse new requests, finish the running ones, and close the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _answer(
    models: Models, slots: threading.BoundedSemaphore, method: str, path: str, body: bytearray
) -> dict[str, Any]:
    try:
        with slots:
            return route(models, method, path, body)
    except RequestError:
        raise
    except Exception as error:
        failure = internal_error(error)
        _log.error("a request failed: %s", failure)
        raise failure from error


class _HttpServer(ThreadingHTTPServer):
    """Limits the number of connections, and prints no traceback."""

    def __init__(self, address: tuple[str, int], handler: type[Handler]) -> None:
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Refuse the connection if there are too many."""
        if not self._free.acquire(blocking=False):
            self._refuse(request)
            return
        try:
            super().process_request(request, client_address)
        except Exception:
            # No thread could be started.
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve the connection in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def _refuse(self, connection: socket.socket) -> None:
        head = (
            f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {len(_BUSY)}\r\n"
            f"Retry-After: {RETRY_AFTER_SECONDS}\r\nConnection: close\r\n\r\n"
        )
        connection.settimeout(0.1)
        with suppress(OSError):
            connection.sendall(head.encode() + _BUSY)
            connection.shutdown(socket.SHUT_WR)
            # Closing while the request is unread would make the client lose the answer.
            connection.recv(2**16)
        self.shutdown_request(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that went away; log everything else in one line."""
        error = sys.exc_info()[1]
        if isinstance(error, Exception) and not isinstance(error, OSError):
            _log.error("a connection failed: %s", internal_error(error))
