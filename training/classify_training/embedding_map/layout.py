"""A map of a run's images: those that look alike to the model lie together."""

import colorsys
import io
import os
from base64 import b64encode
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from classify_serving.contract.images import ImageError, decode_thumbnail
from classify_serving.exchange.embeddings import EmbeddedImage

TILE: Final = 40
"""Side of a thumbnail in the sheet, in pixels."""
# Okabe and Ito's colours, which the colour-blind can tell apart, then others.
_COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8a7500", "#7f7f7f")
_PERPLEXITY: Final = 30.0
_PRINCIPAL: Final = 50


def choose(index: Sequence[EmbeddedImage], most: int, seed: int) -> NDArray[np.int64]:
    """Up to `most` places, in order: the misses first of all, and of the others as many as fit, at random."""
    misses = np.array([place for place, entry in enumerate(index) if entry.is_miss], np.int64)
    others = np.array([place for place, entry in enumerate(index) if not entry.is_miss], np.int64)
    random = np.random.default_rng(seed)
    misses = random.permutation(misses)[:most]
    return np.sort(np.concatenate([misses, random.permutation(others)[: most - len(misses)]]))


def lay_out(vectors: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Place vectors, float32 [N,D], in the plane: float32 [N,2], each axis in 0-1.

    t-SNE (van der Maaten and Hinton 2008) by scikit-learn on the first principal components of the unit vectors, so
    that distances are those of the cosine; perplexity 30, or less for few images. Distances between far groups
    mean nothing.
    """
    count = len(vectors)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    if count < 4 or np.ptp(unit, axis=0).max() < 1e-6:
        # Too few, or all alike: there is nothing to lay out by.
        places = np.stack([np.arange(count), np.zeros(count)], axis=1)
    else:
        reduced = PCA(min(_PRINCIPAL, *unit.shape), random_state=seed).fit_transform(unit)
        perplexity = min(_PERPLEXITY, (count - 1) / 3)
        places = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
    extent = np.ptp(places, axis=0)
    scaled: NDArray[np.float32] = ((places - places.min(axis=0)) / np.where(extent > 0, extent, 1)).astype(np.float32)
    return scaled


def class_colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each class as `#rrggbb`."""
    hues = ((number * 0.618034) % 1 for number in range(len(names)))
    if len(names) <= len(_COLOURS):
        return dict(zip(names, _COLOURS, strict=False))
    return {
        name: _hsl(hue, 0.45 if number % 2 else 0.58)
        for number, (name, hue) in enumerate(zip(names, hues, strict=True))
    }


def _hsl(hue: float, lightness: float) -> str:
    return to_hex(colorsys.hls_to_rgb(hue, lightness, 0.65))


def draw_map(
    places: NDArray[np.float32], index: Sequence[EmbeddedImage], colours: Mapping[str, str], title: str, path: Path
) -> None:
    """Draw the map as a PNG: colour the class, black rings the misses.

    Args:
        places: float32 [N,2], 0-1.
        index: N entries.
        colours: of each class; images without one are grey.
        title: what it is of.
        path: to write.

    Raises:
        OSError: it cannot be written.
    """
    figure = Figure(figsize=(11, 9), layout="constrained")
    axes = figure.subplots()
    size = float(np.clip(20_000 / max(1, len(index)), 6, 60))
    names = np.array([entry.true_class for entry in index], dtype=object)
    for name in sorted(set(names.tolist())):
        chosen = names == name
        # A dollar sign would start a formula, an underscore hide it from the legend.
        label = (name or "no label").replace("$", r"\$").lstrip("_") or "?"
        axes.scatter(
            places[chosen, 0], places[chosen, 1], s=size, color=colours.get(name, "#aaaaaa"), label=label, linewidths=0
        )
    wrong = np.array([entry.is_miss for entry in index], bool)
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
    """All thumbnails in one picture, as `data:` URI, and how many are in a row; a file that is gone is left grey."""
    columns = max(1, int(np.ceil(np.sqrt(len(files)))))
    rows = max(1, -(-len(files) // columns))
    sheet = Image.new("RGB", (columns * TILE, rows * TILE), (136, 136, 136))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for number, tile in enumerate(pool.map(_tile, files)):
            if tile is not None:
                corner = ((number % columns) * TILE, (number // columns) * TILE)
                offset = ((TILE - tile.width) // 2, (TILE - tile.height) // 2)
                sheet.paste(tile, (corner[0] + offset[0], corner[1] + offset[1]))
    stream = io.BytesIO()
    sheet.save(stream, "WEBP", quality=72)
    return "data:image/webp;base64," + b64encode(stream.getvalue()).decode(), columns


def _tile(file: Path) -> Image.Image | None:
    try:
        image = Image.fromarray(decode_thumbnail(file, TILE))
    except ImageError:
        return None
    # Small originals fill their tile as well.
    scale = TILE / max(image.size)
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
