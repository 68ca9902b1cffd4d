"""classify-train map: from the embeddings of a run to a picture and a page."""

import hashlib
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from numpy.typing import NDArray

from classify_serving.exchange.embeddings import EmbeddedImage
from classify_serving.files import replace_file
from classify_training.cli.options import FOLDER
from classify_training.errors import MapError

PICTURE: Final = "map.png"
PAGE: Final = "map.html"


@click.command("map")
@click.argument("results", type=FOLDER, default=Path("classified"))
@click.option("--most", type=click.IntRange(4), default=4000, help="Images on the map; misses come first.")
@click.option("--seed", type=click.IntRange(0), default=1, help="Of the choice and the layout.")
def map_command(results: Path, most: int, seed: int) -> None:
    """Draw a map of the images in RESULTS, the output folder of classify-client --embed.

    Images that look alike to the model lie together. Leaves map.png and map.html there: colour is the true class,
    rings are misses; the page can be zoomed until the pictures show.
    """
    from classify_serving.exchange.embeddings import EmbeddingsError, read_embeddings
    from classify_training.embedding_map.layout import choose, lay_out

    try:
        vectors, index = read_embeddings(results)
    except EmbeddingsError as error:
        raise MapError(str(error)) from error
    chosen = choose(index, most, seed)
    shown = [index[place] for place in chosen]
    places = lay_out(vectors[chosen], seed)
    try:
        _write(results, places, shown, len(index))
    except OSError as error:
        raise MapError(
            f"cannot write {error.filename or results} ({error.strerror}): free space, or mend permissions"
        ) from error
    click.echo(f"Drew {len(shown)} images in {results / PICTURE} and {results / PAGE}")


def _write(folder: Path, places: NDArray[np.float32], index: Sequence[EmbeddedImage], total: int) -> None:
    from classify_training.embedding_map.layout import class_colours, draw_map

    counts = Counter(entry.true_class for entry in index)
    names = sorted(counts)
    colours = class_colours(names)
    misses = sum(entry.is_miss for entry in index)
    some = f"{len(index)} of {total}" if len(index) < total else f"{total}"
    title = f"Map of {some} images, {misses} of them misses"
    temporary = folder / f".{PICTURE}.tmp"
    draw_map(places, index, colours, title, temporary)
    temporary.replace(folder / PICTURE)
    page = render_page(places, index, {name: (colours[name], counts[name]) for name in names}, title)
    replace_file(folder / PAGE, page.encode("utf-8", "backslashreplace"))


def render_page(
    places: NDArray[np.float32], index: Sequence[EmbeddedImage], classes: dict[str, tuple[str, int]], title: str
) -> str:
    """The page, with thumbnails and script inside.

    Args:
        places: float32 [N,2], 0-1.
        index: N entries.
        classes: of each, colour and number.
        title: what it is of.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    from classify_training.embedding_map.layout import TILE, thumbnail_sheet

    sheet, columns = thumbnail_sheet([entry.file for entry in index])
    numbers = {name: number for number, name in enumerate(classes)}
    points = [_point(entry, numbers, place) for entry, place in zip(index, places.tolist(), strict=True)]
    data = {
        "points": points,
        "classes": list(classes),
        "colours": [colour for colour, _ in classes.values()],
        "tile": TILE,
        "columns": columns,
    }
    script = _part("map.js")
    environment = Environment(
        loader=PackageLoader("classify_training.embedding_map", "page"), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("map.html.j2").render(
        title=title,
        note="Images that look alike to the model lie together; rings are misses. Zoom in to see the pictures."
        " Distances between far groups mean nothing.",
        count=len(index),
        misses=sum(entry.is_miss for entry in index),
        classes=[(name, colour, number) for name, (colour, number) in classes.items()],
        tile=TILE,
        data=data,
        sheet=sheet,
        # Our own files, which hold nothing of the run.
        style=Markup(_part("map.css")),
        script=Markup(script),
        script_hash=b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _point(entry: EmbeddedImage, numbers: dict[str, int], place: Sequence[float]) -> dict[str, Any]:
    return {
        "x": round(place[0], 4),
        "y": round(place[1], 4),
        "c": numbers[entry.true_class],
        "m": entry.is_miss,
        "s": entry.predicted,
        "q": round(entry.probability, 3),
        "p": entry.path,
    }


def _part(name: str) -> str:
    return resources.files("classify_training.embedding_map").joinpath("page", name).read_text(encoding="utf-8")
