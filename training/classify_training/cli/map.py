"""classify-train map: a map of the images of a client's run, from their embeddings."""

from pathlib import Path

import click

from classify_training.cli.option_types import FOLDER


@click.command("map")
@click.argument("results", type=FOLDER, default=Path("classified"))
@click.option("--most", type=click.IntRange(4), default=4000, help="Images on the map; misses come first.")
@click.option("--seed", type=click.IntRange(0), default=1, help="Of the choice and the layout.")
def map_command(results: Path, most: int, seed: int) -> None:
    """Draw a map of the images in RESULTS, the output folder of classify-client --embed.

    Images that look alike to the model lie together. Leaves map.png and map.html there: colour is the true class,
    rings are misses; the page can be zoomed until the pictures show.
    """
    from classify_training.embedding_map.render import PAGE, PICTURE, draw_embedding_map

    drawn = draw_embedding_map(results, most, seed)
    click.echo(f"Drew {drawn} images in {results / PICTURE} and {results / PAGE}")
