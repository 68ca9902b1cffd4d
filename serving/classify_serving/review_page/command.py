"""Serving a review page until the user stops it; the command `review` of the client and of the training."""

import contextlib
import threading
import webbrowser
from pathlib import Path
from typing import Final

import click

from classify_serving.contract.text import error_reason
from classify_serving.exchange.review import REVIEW, ReviewError
from classify_serving.review_page.apply_command import apply_review, dataset_of
from classify_serving.review_page.review_file import ReviewFile
from classify_serving.review_page.server import ReviewServer

PAGE: Final = "report.html"


def serve_review(folder: Path, dataset: Path | None, port: int, opens_browser: bool) -> None:
    """Serve the page of a folder that has a review, until Ctrl-C.

    Args:
        folder: output folder of the client, or of an audit.
        dataset: what to apply decisions to; None for the folder that the images of the review are in.
        port: to listen on; 0 for a free one.
        opens_browser: whether to open the page in a browser.

    Raises:
        ReviewError: the folder has no review or no page, or the port cannot be used.
    """
    review = ReviewFile(folder / REVIEW)
    try:
        page = (folder / PAGE).read_bytes()
    except OSError as error:
        raise ReviewError(f"cannot read {folder / PAGE} ({error_reason(error)}): classify or audit again") from error
    if b'id="review-data"' not in page:
        raise ReviewError(f"{folder / PAGE} was written by an older release: classify or audit again")
    target = dataset or dataset_of(review.rows)
    # Another program may change the working folder's meaning; the review is named as it was given.
    path = review.path.resolve()
    try:
        server = ReviewServer(page, review, lambda is_dry_run: apply_review(path, target, is_dry_run), port)
    except OSError as error:
        raise ReviewError(f"cannot listen on port {port} ({error_reason(error)}): choose another --port") from error
    with server:
        click.echo(f"Decide here: {server.url}")
        click.echo("Decisions are written to review.csv at once. Stop with Ctrl-C.")
        if opens_browser:
            threading.Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    click.echo(f"Stopped. Decisions are in {folder / REVIEW}.")
