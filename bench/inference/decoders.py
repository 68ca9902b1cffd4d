"""How fast JPEG files are decoded to a small size by Pillow, simplejpeg (libjpeg-turbo) and libvips.

    PYTHONPATH=serving PYTHON bench/inference/decoders.py

with an interpreter that has `pillow`, `simplejpeg`, `pyvips` and `pyvips-binary`. One thread; the decoders take turns.
All but libvips resize with Pillow, as `decode_image` does, so a model gets nearly the same pixels. Prints Markdown.
"""

import io
import statistics
import time
from collections.abc import Callable
from operator import truediv

import numpy as np
import pyvips
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from classify_serving.contract.images import decode_image

SIZE = 128
ROUNDS = 9
LEAST_SECONDS = 0.5

Pixels = NDArray[np.uint8]


def with_pillow(content: bytes) -> Pixels:
    """A bare loop's decoder: reduced scale, then bilinear."""
    with Image.open(io.BytesIO(content)) as image:
        image.draft(None, (SIZE, SIZE))
        return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, reducing_gap=2.0))


def with_decode_image(content: bytes) -> Pixels:
    """The decoder of client and training."""
    return decode_image(io.BytesIO(content), SIZE)


def with_simplejpeg(content: bytes) -> Pixels:
    """libjpeg-turbo without Pillow: the same reduced scale, then Pillow's bilinear."""
    pixels = simplejpeg.decode_jpeg(content, min_height=SIZE, min_width=SIZE, min_factor=1)
    resized = Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(resized)


def with_vips(content: bytes) -> Pixels:
    """The thumbnail of libvips, which resizes with Lanczos: other pixels."""
    image = pyvips.Image.thumbnail_buffer(content, SIZE, height=SIZE, size="force")
    return np.asarray(image.numpy())


DECODERS: dict[str, Callable[[bytes], Pixels]] = {
    "Pillow": with_pillow,
    "decode_image": with_decode_image,
    "simplejpeg": with_simplejpeg,
    "libvips": with_vips,
}


def photo(width: int, height: int) -> bytes:
    """A JPEG of coarse and fine structures, of about the size that a camera's file has."""
    rng = np.random.default_rng(1)
    pixels = np.zeros((height, width, 3))
    for cells, weight in ((8, 90), (64, 40), (width // 8, 16), (width // 2, 6)):
        noise = rng.normal(128, weight, (cells * height // width, cells, 3)).clip(0, 255).astype(np.uint8)
        pixels += np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC), np.float64) / 4
    stream = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def rate(decode: Callable[[bytes], Pixels], content: bytes) -> float:
    """Images per CPU second."""
    start, count = time.process_time(), 0
    while time.process_time() - start < LEAST_SECONDS:
        decode(content)
        count += 1
    return count / (time.process_time() - start)


def main() -> None:
    """Measure and print."""
    pyvips.cache_set_max(0)
    print("| JPEG | KB | " + " | ".join(DECODERS) + " |\n|---|---|" + "---|" * len(DECODERS))
    for width, height in ((500, 375), (4000, 3000)):
        content = photo(width, height)
        rates = [[rate(decode, content) for decode in DECODERS.values()] for _ in range(ROUNDS)]
        pillow, *others = zip(*rates, strict=True)
        ratios = [statistics.median(map(truediv, other, pillow)) for other in others]
        cells = [f"{statistics.median(pillow):.0f} images per CPU second", *(f"{ratio:.2f}x" for ratio in ratios)]
        print(f"| {width} x {height} | {len(content) / 1000:.0f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
