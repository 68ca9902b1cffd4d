"""classify-train map: a map of the images of a client's run, from their embeddings."""

from pathlib import Path

import click

from classify_training.cli.options.aliases import option
from classify_training.cli.options.types import FOLDER


@click.command("map")
@click.argument("results", type=FOLDER, default=Path("classified"))
@option(
    "--max-images",
    old="--most",
    type=click.IntRange(4),
    default=4000,
    help="Largest number of images on the map; misclassified images are chosen first.",
)
@option("--seed", type=click.IntRange(0), default=1, help="Seed of the choice of images and of the layout.")
def map_command(results: Path, max_images: int, seed: int) -> None:
    """Draw a map of the images in RESULTS, the output folder of classify-client --embed (default: classified).

    Images that are similar to the model lie close together. Writes map.png and map.html to RESULTS: the colour is the
    true class, and rings are misclassified images. Zoom into the page to see the images.
    """
    from classify_training.embedding_map.render import PAGE, PICTURE, draw_embedding_map

    drawn = draw_embedding_map(results, max_images, seed)
    click.echo(f"Drew {drawn} images in {results / PICTURE} and {results / PAGE}")
