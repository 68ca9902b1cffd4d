"""Serving a review page until the user stops it; the command `review` of the client and of the training."""

import contextlib
import os
import re
import threading
import webbrowser
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import click
import msgspec

from classify_serving.contract.text import error_reason
from classify_serving.exchange.review import REVIEW, ReviewError
from classify_serving.files import replacing
from classify_serving.review_page.apply_command import apply_review, dataset_of
from classify_serving.review_page.review_file import ReviewFile
from classify_serving.review_page.server import ReviewServer
from classify_serving.termination import sigterm_interrupts

PAGE: Final = "report.html"
_NO_ROWS: Final = b'"rows":[]'
"""In a page that lists no image to decide about."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{32}")
_ADDRESS: Final = ".review-address.json"
"""In the folder of the review, readable by its owner only: where its page was served last."""


class _Address(msgspec.Struct):
    port: int
    token: str


def serve_review(folder: Path, dataset: Path | None, adds: bool, port: int, opens_browser: bool) -> None:
    """Serve the page of a folder that has a review, until Ctrl-C.

    Args:
        folder: output folder of the client or of an audit, or folder of a training run.
        dataset: what to apply decisions to, and where the images are; None for the folder that they were judged in.
        adds: whether applying copies images into the dataset that are not in it.
        port: to listen on; 0 for a free one.
        opens_browser: whether to open the page in a browser.

    Raises:
        ReviewError: the folder has no review or no page, the dataset does not exist, or the port cannot be used.
    """
    if dataset is not None and not dataset.is_dir():
        raise ReviewError(f"no dataset folder {dataset}: correct --dataset")
    if adds and dataset is None:
        raise ReviewError("--add needs --dataset, the folder to copy images into")
    if (folder / PAGE).is_file() and not (folder / REVIEW).exists():
        if _NO_ROWS not in _read_page(folder):
            raise ReviewError(
                f"{folder / REVIEW} is missing, but {PAGE} has images to decide about: put it back, or classify, audit"
                " or train again"
            )
        click.echo(f"Nothing to decide: no image was doubtful, so {folder} has no {REVIEW}.")
        return
    review = ReviewFile(folder / REVIEW, dataset)
    page = _read_page(folder)
    if b'id="review-data"' not in page:
        raise ReviewError(f"{folder / PAGE} was written by an older release: classify, audit or train again")
    target = dataset or dataset_of(review.rows)
    if target and not target.is_dir():
        # Such as the folder that a container has seen.
        click.echo(f"The images were in {target}, which is not here: give their folder with --dataset.", err=True)
        target = None
    # Another program may change the working folder's meaning; the review is named as it was given.
    apply = partial(apply_review, review.path.resolve(), target, adds=adds)
    last = _read_address(folder)

    def listen(port: int) -> ReviewServer:
        return ReviewServer(page, review, apply, port, last.token)

    try:
        server = _listen_where_last(listen, last.port) if not port else listen(port)
    except OSError as error:
        raise ReviewError(f"cannot listen on port {port} ({error_reason(error)}): choose another --port") from error
    with server, contextlib.suppress(KeyboardInterrupt), sigterm_interrupts():
        _write_address(folder, _Address(server.server_port, server.token))
        click.echo(f"Decide here: {server.url}")
        click.echo("Decisions are written to review.csv at once. Stop with Ctrl-C.")
        if opens_browser:
            threading.Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
        server.serve_forever()
    click.echo(f"Stopped. Decisions are in {folder / REVIEW}.")


def _read_page(folder: Path) -> bytes:
    try:
        return (folder / PAGE).read_bytes()
    except OSError as error:
        raise ReviewError(
            f"cannot read {folder / PAGE} ({error_reason(error)}): classify, audit or train again"
        ) from error


def _listen_where_last(listen: Callable[[int], ReviewServer], port: int) -> ReviewServer:
    """Serve at the last address if it is free, so that windows that are still open go on."""
    with contextlib.suppress(OSError):
        return listen(port)
    return listen(0)


def _read_address(folder: Path) -> _Address:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        found = msgspec.json.decode((folder / _ADDRESS).read_bytes(), type=_Address)
        if 0 <= found.port < 65536 and _TOKEN.fullmatch(found.token):
            return found
    return _Address(0, "")


def _write_address(folder: Path, address: _Address) -> None:
    """Note the address; without it, a server that is started anew has another one."""
    path = folder / _ADDRESS
    with contextlib.suppress(OSError), replacing(path) as temporary:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(address))
