"""The embedding map as a picture, `map.png`, and as a page that can be zoomed, `map.html`."""

import colorsys
import io
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
from markupsafe import Markup
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from classify_serving.contract.folders import folder_label
from classify_serving.contract.images import ImageError, decode_thumbnail
from classify_serving.contract.text import error_reason, printable
from classify_serving.exchange.embeddings import EmbeddedImage, EmbeddingsError, read_embeddings
from classify_serving.exchange.review import ReviewRow
from classify_serving.files import replace_file, replacing, sha256_if_readable
from classify_serving.review_page.page import page_part, script_hash
from classify_training.embedding_map.layout import choose, lay_out
from classify_training.errors import MapError
from classify_training.html_pages import page_templates
from classify_training.progress import stage, track_in_threads

PICTURE: Final = "map.png"
PAGE: Final = "map.html"

_PACKAGE: Final = "classify_training.embedding_map"
_TILE: Final = 40
"""Side of a thumbnail in the sheet, in pixels."""
_COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8a7500", "#7f7f7f")
"""Okabe and Ito's colours, which colour-blind people can tell apart, then others."""
_SHAPES: Final[Mapping[str, str]] = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D"}
"""Name of a shape -> Matplotlib's marker. With the colours, they tell 32 classes apart."""


def draw_embedding_map(results: Path, max_images: int, seed: int) -> int:
    """Write `map.png` and `map.html` into a client's output folder that holds embeddings.

    Args:
        results: output folder of classify-client.
        max_images: largest number of images to draw; misclassified ones are chosen first.
        seed: random seed of the choice and of the layout.

    Returns:
        The number of images drawn.

    Raises:
        MapError: there are no embeddings, or the files cannot be written.
    """
    try:
        vectors, images = read_embeddings(results)
    except EmbeddingsError as error:
        raise MapError(str(error)) from error
    chosen = choose(images, max_images, seed)
    shown = [images[place] for place in chosen]
    with stage(f"Placing {len(chosen):,} images on the map"):
        places = lay_out(vectors[chosen], seed)
    try:
        _write(results, places, shown, len(images))
    except OSError as error:
        raise MapError(
            f"cannot write to {results} ({error_reason(error)}): free disk space, or check permissions"
        ) from error
    return len(shown)


def _write(folder: Path, places: NDArray[np.float32], images: Sequence[EmbeddedImage], total: int) -> None:
    counts = Counter(entry.true_class for entry in images)
    names = sorted(counts)
    styles = class_styles(names)
    misses = sum(entry.is_miss for entry in images)
    some = f"{len(images)} of {total}" if len(images) < total else f"{total}"
    title = f"Map of {some} images, {misses} of them misses"
    with replacing(folder / PICTURE) as temporary:
        draw_map(places, images, styles, title, temporary)
    page = render_page(places, images, {name: (styles[name], counts[name]) for name in names}, title)
    replace_file(folder / PAGE, page.encode("utf-8", "backslashreplace"))


@dataclass(frozen=True)
class ClassStyle:
    """How the images of a class are drawn: colour `#rrggbb`, and shape, one of circle, square, triangle, diamond."""

    colour: str
    shape: str


def class_styles(names: Sequence[str]) -> dict[str, ClassStyle]:
    """Choose colour and shape for each class; no two classes have both in common."""
    shapes = tuple(_SHAPES)
    return {
        name: ClassStyle(_colour(number), shapes[number // len(_COLOURS) % len(shapes)])
        for number, name in enumerate(names)
    }


def _colour(number: int) -> str:
    if number < len(_COLOURS) * len(_SHAPES):
        return _COLOURS[number % len(_COLOURS)]
    return _hsl((number * 0.618034) % 1, 0.45 if number % 2 else 0.58)


def _hsl(hue: float, lightness: float) -> str:
    return to_hex(colorsys.hls_to_rgb(hue, lightness, 0.65))


def draw_map(
    places: NDArray[np.float32],
    images: Sequence[EmbeddedImage],
    styles: Mapping[str, ClassStyle],
    title: str,
    path: Path,
) -> None:
    """Draw the map as a PNG file: colour and shape are the true class, black rings are misclassified images.

    Args:
        places: float32 [N,2], positions in 0-1.
        images: N images.
        styles: of each class.
        title: title of the figure.
        path: file to write.

    Raises:
        OSError: it cannot be written.
    """
    figure = Figure(figsize=(11, 9), layout="constrained")
    axes = figure.subplots()
    size = float(np.clip(20_000 / max(1, len(images)), 6, 60))
    names = np.array([entry.true_class for entry in images], dtype=object)
    for name in sorted(set(names.tolist())):
        chosen = names == name
        # Matplotlib reads a dollar sign as a formula, and leaves names with a leading underscore out of the legend.
        label = (name or "no label").replace("$", r"\$").lstrip("_") or "?"
        style = styles[name]
        axes.scatter(
            places[chosen, 0],
            places[chosen, 1],
            s=size,
            color=style.colour,
            marker=_SHAPES[style.shape],
            label=label,
            linewidths=0,
        )
    wrong = np.array([entry.is_miss for entry in images], bool)
    if wrong.any():
        axes.scatter(
            places[wrong, 0],
            places[wrong, 1],
            s=2.2 * size,
            facecolors="none",
            edgecolors="black",
            linewidths=1.2,
            label="miss",
        )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title)
    columns = 1 + len(set(names.tolist())) // 30
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=9, ncols=columns)
    figure.savefig(path, dpi=120, format="png")


def thumbnail_sheet(files: Sequence[Path]) -> tuple[str, int]:
    """Draw all thumbnails into one image.

    Returns:
        The image as `data:` URI, and the number of thumbnails in a row; a file that cannot be read stays grey.
    """
    columns = max(1, int(np.ceil(np.sqrt(len(files)))))
    rows = max(1, -(-len(files) // columns))
    sheet = Image.new("RGB", (columns * _TILE, rows * _TILE), (136, 136, 136))
    for number, tile in enumerate(track_in_threads(_tile, files, "Reading thumbnails")):
        if tile is not None:
            corner = ((number % columns) * _TILE, (number // columns) * _TILE)
            offset = ((_TILE - tile.width) // 2, (_TILE - tile.height) // 2)
            sheet.paste(tile, (corner[0] + offset[0], corner[1] + offset[1]))
    stream = io.BytesIO()
    sheet.save(stream, "WEBP", quality=72)
    return "data:image/webp;base64," + b64encode(stream.getvalue()).decode(), columns


def _tile(file: Path) -> Image.Image | None:
    try:
        image = Image.fromarray(decode_thumbnail(file, _TILE))
    except ImageError:
        return None
    # Small images are enlarged to the size of a tile.
    scale = _TILE / max(image.size)
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))


def render_page(
    places: NDArray[np.float32],
    images: Sequence[EmbeddedImage],
    classes: Mapping[str, tuple[ClassStyle, int]],
    title: str,
) -> str:
    """Make the page as HTML that needs no other file.

    Args:
        places: float32 [N,2], positions in 0-1.
        images: N images.
        classes: name -> style and number of images.
        title: title of the page.
    """
    sheet, columns = thumbnail_sheet([entry.file for entry in images])
    numbers = {name: number for number, name in enumerate(classes)}
    points = [_point(entry, numbers, place) for entry, place in zip(images, places.tolist(), strict=True)]
    data = {
        "points": points,
        "classes": list(classes),
        "colours": [style.colour for style, _ in classes.values()],
        "shapes": [style.shape for style, _ in classes.values()],
        "review": [column.name for column in fields(ReviewRow)],
        "tile": _TILE,
        "columns": columns,
    }
    script = page_part("csv.js") + _part("map.js")
    template = page_templates(_PACKAGE).get_template("map.html.j2")
    return template.render(
        title=title,
        note="Images that are similar to the model lie close together; rings are misclassified images. Zoom in to see"
        " the images. Distances between groups that are far apart have no meaning.",
        count=len(images),
        misses=sum(entry.is_miss for entry in images),
        classes=[(name, style.colour, style.shape, number) for name, (style, number) in classes.items()],
        labels=sorted({point["l"] for point in points if point["l"]}),
        tile=_TILE,
        data=data,
        sheet=sheet,
        # Our own files, without any text from the run.
        style=Markup(_part("map.css")),
        script=Markup(script),
        script_hash=script_hash(script),
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
        "l": _label(entry),
        "h": sha256_if_readable(entry.file),
        "f": printable(str(entry.file)),
    }


def _label(entry: EmbeddedImage) -> str:
    """The name of the image's folder; of nested folders the one that is its class, if one is."""
    folders = [folder_label(name) for name in PurePosixPath(entry.path).parts[:-1]]
    return entry.true_class if entry.true_class in folders else folders[-1] if folders else entry.true_class


def _part(name: str) -> str:
    return resources.files(_PACKAGE).joinpath("page", name).read_text(encoding="utf-8")
