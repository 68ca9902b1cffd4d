"""A local server of one review page: it writes decisions at once, shows images in full size, and applies the review.

It listens on 127.0.0.1 only, and every address begins with a secret. It sends the page, and the images that the review
lists as long as they have the content that was classified; no other file is ever sent.
"""

import hashlib
import hmac
import io
import json
import secrets
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec
from PIL import Image

from classify_serving.contract.images import ImageError, decode_thumbnail
from classify_serving.exchange.review import ReviewError
from classify_serving.review_page.apply_command import ApplyError
from classify_serving.review_page.page import rows_as_json
from classify_serving.review_page.review_file import Key, ReviewFile

_MAX_BODY: Final = 4_000_000
_LONGEST_SIDE: Final = 2048
_TYPES: Final[Mapping[str, str]] = {
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".gif": "image/gif", ".webp": "image/webp",
    ".bmp": "image/bmp",
}  # fmt: skip
"""Formats that every browser shows; others are converted."""
_HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}

Apply = Callable[[bool], tuple[str, bool]]
"""Shows (True) or carries out (False) what the review asks for: its text, and whether there is anything to change."""


class _Decision(msgspec.Struct):
    key: tuple[str, str, str]
    action: str


class _Decisions(msgspec.Struct):
    version: int
    decisions: list[_Decision]


class _ApplyRequest(msgspec.Struct):
    dry_run: bool
    shown: str = ""
    """The plan that the user has seen; another one is not carried out."""


class ReviewServer(ThreadingHTTPServer):
    """Serves one page.

    Args:
        page: its HTML, as a file has it.
        review: its decisions.
        apply: carries them out.
        port: to listen on; 0 for a free one.
        token: the secret; empty for a new one.

    Raises:
        OSError: the port is in use.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, page: bytes, review: ReviewFile, apply: Apply, port: int = 0, token: str = "") -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.page, self.review, self.apply = served_page(page), review, apply
        self.token = token or secrets.token_urlsafe(24)

    @property
    def url(self) -> str:
        """Address of the page, with the secret."""
        return f"http://127.0.0.1:{self.server_port}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that closes a connection is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def served_page(page: bytes) -> bytes:
    """A page that was written as a file, as the server sends it: its script then talks to the server."""
    for as_file, as_served in _SERVED.items():
        page = page.replace(as_file, as_served, 1)
    return page


_SERVED: Final[Mapping[bytes, bytes]] = {
    b"<html ": b"<html data-served ",
    # Otherwise browsers ask for an icon.
    b"<head>": b'<head><link rel="icon" href="data:,">',
    b"img-src data: file:": b"img-src data: 'self'; connect-src 'self'",
}


class _Handler(BaseHTTPRequestHandler):
    server: ReviewServer
    timeout = 60

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing is logged: the terminal belongs to the command."""

    def do_GET(self) -> None:
        """The page, its decisions, or an image."""
        path, query = self._path()
        if path == "" and not urlsplit(self.path).path.endswith("/"):
            self._redirect(f"/{self.server.token}/")
        elif path == "":
            self._send(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")
        elif path == "decisions":
            self._answer(lambda: _as_json(self.server.review.since(_number(query.get("since", ["-1"])[0]))))
        elif path is not None and path.startswith("image/"):
            self._send_image(path.removeprefix("image/"))
        else:
            self._refuse()

    def do_POST(self) -> None:
        """Decisions, or the wish to apply them."""
        path, _ = self._path()
        # A page of another site cannot send this type without asking first, which is never answered.
        is_json = self.headers.get_content_type() == "application/json"
        length = _number(self.headers.get("Content-Length", "-1"))
        if path not in ("decisions", "apply") or not is_json or not 0 <= length <= _MAX_BODY:
            self._refuse()
            return
        body = self.rfile.read(length)
        if path == "apply":
            self._answer(lambda: self._apply(msgspec.json.decode(body, type=_ApplyRequest)))
        else:
            self._answer(lambda: self._decide(msgspec.json.decode(body, type=_Decisions)))

    def _decide(self, asked: _Decisions) -> Mapping[str, Any]:
        decisions: list[tuple[Key, str]] = [(each.key, each.action) for each in asked.decisions]
        return _as_json(self.server.review.decide(decisions, asked.version))

    def _apply(self, asked: _ApplyRequest) -> Mapping[str, Any]:
        if not asked.dry_run and self.server.apply(True)[0] != asked.shown:
            raise ApplyError("the review or the dataset has changed since: look at what would change again")
        text, has_changes = self.server.apply(asked.dry_run)
        return {"text": text, "has_changes": has_changes}

    def _path(self) -> tuple[str | None, Mapping[str, list[str]]]:
        """What is asked for, after the secret; None if the secret or the host is wrong."""
        try:
            parts = urlsplit(self.path)
        except ValueError:
            return None, {}
        _, token, *rest = [*parts.path.split("/", 2), ""]
        # Another host name would be that of a page that had its name resolved to this machine.
        is_here = self.headers.get("Host", "") in (
            f"127.0.0.1:{self.server.server_port}",
            f"localhost:{self.server.server_port}",
        )
        is_known = hmac.compare_digest(token.encode(), self.server.token.encode())
        return (rest[0] if is_here and is_known else None), parse_qs(parts.query)

    def _answer(self, make: Callable[[], Mapping[str, Any]]) -> None:
        try:
            status, content = HTTPStatus.OK, make()
        except (ReviewError, ApplyError) as error:
            status, content = HTTPStatus.CONFLICT, {"error": str(error)}
        except (msgspec.DecodeError, RecursionError) as error:
            status, content = HTTPStatus.BAD_REQUEST, {"error": str(error)}
        self._send(status, json.dumps(content).encode(), "application/json")

    def _send_image(self, sha256: str) -> None:
        found = None
        with suppress(ReviewError):
            files = self.server.review.files_of(sha256)
            found = next(filter(None, (image_of(path, sha256) for path in files)), None)
        if found is None:
            self._refuse()
        else:
            self._send(HTTPStatus.OK, *found)

    def _redirect(self, path: str) -> None:
        self.send_response(HTTPStatus.MOVED_PERMANENTLY)
        for name, value in {**_HEADERS, "Location": path, "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    def _refuse(self) -> None:
        self._send(HTTPStatus.NOT_FOUND, b"not here", "text/plain")

    def _send(self, status: HTTPStatus, content: bytes, content_type: str) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": content_type, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def image_of(path: Path, sha256: str) -> tuple[bytes, str] | None:
    """Content and type of an image, if its file still has the content that was judged."""
    with suppress(OSError, ValueError, ImageError):
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != sha256:
            return None
        # Whatever it is called: only what can be decoded as an image is sent.
        pixels = decode_thumbnail(io.BytesIO(content), _LONGEST_SIDE)
        if (content_type := _TYPES.get(path.suffix.lower())) is not None:
            return content, content_type
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        return stream.getvalue(), "image/png"
    return None


def _as_json(found: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**found, "rows": rows_as_json(found["rows"])} if "rows" in found else found


def _number(text: str) -> int:
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(text) < 16 else -1
