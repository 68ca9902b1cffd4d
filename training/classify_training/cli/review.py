"""classify-train review: decide about the images of an audit or of a training run in a browser."""

from pathlib import Path

import click

from classify_serving.exchange.review import ReviewError
from classify_serving.review_page.command import serve_review
from classify_training.cli.options.aliases import option
from classify_training.cli.options.types import FOLDER
from classify_training.errors import CorrectionError


@click.command()
@click.argument("folder", type=FOLDER, default=Path("audited"))
@option(
    "--dataset",
    type=FOLDER,
    default=None,
    help="Folder that the images are in now, and that decisions change; default: where they were.",
)
@option("--add", is_flag=True, help="Copy kept and relabelled images into the dataset if they are not in it.")
@option("--port", type=click.IntRange(0, 65535), default=0, show_default="a free one", help="Port on 127.0.0.1.")
@option("--open/--no-open", "opens", default=True, help="Open the page in a browser.")
def review(folder: Path, dataset: Path | None, add: bool, port: int, opens: bool) -> None:
    """Decide about the images in FOLDER: the output folder of an audit (default: audited), or a run, runs/<run>.

    Serves the page of the audit or run on this machine only. Each decision is written to review.csv at once, and the
    page can show what the decisions would change in the dataset, and change it.
    """
    try:
        serve_review(folder, dataset, add, port, opens)
    except ReviewError as error:
        raise CorrectionError(str(error)) from error
