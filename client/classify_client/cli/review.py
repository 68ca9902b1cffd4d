"""classify-client review: decide about the misses of a run in a browser."""

import sys
from pathlib import Path

import click

from classify_serving.contract.text import terminal_text

_FOLDER = click.Path(path_type=Path)


@click.command(context_settings={"auto_envvar_prefix": "CLASSIFY_REVIEW", "show_default": True})
@click.argument("folder", type=_FOLDER, default=Path("classified"))
@click.option(
    "--dataset",
    type=_FOLDER,
    default=None,
    show_default="where they were",
    help="Folder that decisions change, and that the images are in now.",
)
@click.option("--add", is_flag=True, help="Copy kept and relabelled images into the dataset if they are not in it.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default="a free one", help="Port on 127.0.0.1.")
@click.option("--open/--no-open", "opens", default=True, help="Open the page in a browser.")
def review_command(folder: Path, dataset: Path | None, add: bool, port: int, opens: bool) -> None:
    """Decide about the misses in FOLDER, the output folder of a run (default: classified).

    Serves the report on this machine only. Each decision is written to review.csv at once, and the page can show what
    the decisions would change, and change it, if classify-train is installed here: the folder that was classified, or
    --dataset. To put misses into the dataset that you train on: --dataset ./dataset --add.
    """
    from classify_serving.exchange.review import ReviewError
    from classify_serving.review_page.command import serve_review

    try:
        serve_review(folder, dataset, add, port, opens)
    except ReviewError as error:
        click.echo(f"Error: {terminal_text(str(error))}", err=True)
        sys.exit(2)
