"""Random augmentation of training images, as Keras layers on batches: flip, shift, rotate, erase.

Each layer first draws its random numbers, and then applies them in a function that XLA compiles into one loop over the
pixels, which takes a third of the time of separate TensorFlow kernels. The numbers are drawn outside of that function,
because XLA's random numbers are slow on CPUs.
"""

import math
from typing import Any, Final

import keras
import tensorflow as tf

from classify_training.config import AugmentConfig

_ATTEMPTS: Final = 10


@keras.saving.register_keras_serializable("classify_training")
class RandomAffine(keras.layers.Layer):  # type: ignore[misc]  # Keras is untyped
    """Flip, shift and rotate images about the centre in one step, with a single bilinear interpolation.

    Keras' RandomTranslation and RandomRotation in sequence interpolate twice, which takes twice the time and blurs
    small images: on 32 px photographs, one step gave a classifier one percentage point more accuracy. Pixels outside of
    the image repeat the nearest pixel, as in Keras' ImageDataGenerator.

    Takes uint8 or float32 [N,H,W,C], returns float32 [N,H,W,C]; identity unless called with `training=True`.

    Args:
        flip: mirror left to right with probability 0.5.
        shift: largest shift in each direction, as a fraction of the side.
        rotate: largest rotation in either direction, in degrees.
        seed: random seed.
    """

    def __init__(
        self, flip: bool = True, shift: float = 0.1, rotate: float = 20.0, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.flip, self.shift, self.rotate, self.seed = flip, shift, rotate, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, images: tf.Tensor, training: bool = False, seed: tf.Tensor | None = None) -> tf.Tensor:
        """Augment a batch, [N,H,W,C], with a seed of two integers or the layer's own seed."""
        if not training:
            return tf.cast(images, tf.float32)
        seed = _integers(self.seed_generator.next() if seed is None else seed)
        draws = tf.random.stateless_uniform([tf.shape(images)[0], 4], seed, -1.0, 1.0)
        across, down = _transforms(draws, tf.shape(images), self.flip, float(self.shift), math.radians(self.rotate))
        moved = _resample(images, across, down)
        return tf.ensure_shape(moved, images.shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), **{name: getattr(self, name) for name in ("flip", "shift", "rotate", "seed")}}


# XLA would compute the sines again for every pixel if this were part of the function below.
@tf.function(jit_compile=True, reduce_retracing=True)  # type: ignore[untyped-decorator]
def _transforms(
    draws: tf.Tensor, shape: tf.Tensor, flip: bool, shift: float, radians: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Compute affine transforms for images of `shape` from draws in [-1, 1), float32 [N,4].

    Returns the rows of a matrix, (a0, a1, a2) and (b0, b1, b2), float32 [N,3] each: the output pixel (x, y) is taken
    from (a0 x + a1 y + a2, b0 x + b1 y + b2).
    """
    height, width = tf.cast(shape[1], tf.float32), tf.cast(shape[2], tf.float32)
    angle, right, down, side = tf.unstack(draws, axis=1)
    mirror = tf.where(side < 0, -1.0, 1.0) if flip else tf.ones_like(side)
    sine, cosine = tf.sin(angle * radians), tf.cos(angle * radians)
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    a0, a1, b0, b1 = mirror * cosine, -mirror * sine, sine, cosine
    a2 = centre_x - a0 * centre_x - a1 * centre_y + right * shift * width
    b2 = centre_y - b0 * centre_x - b1 * centre_y + down * shift * height
    return tf.stack([a0, a1, a2], axis=1), tf.stack([b0, b1, b2], axis=1)


# The number of channels must be known when tracing: gathering rows of unknown length takes twice the time.
@tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
def _resample(images: tf.Tensor, across: tf.Tensor, down: tf.Tensor) -> tf.Tensor:
    """Bilinear sampling of images, [N,H,W,C], at the positions of the transforms, float32 [N,3]; float32."""
    count, height, width = (tf.shape(images)[axis] for axis in range(3))
    x, y = tf.range(tf.cast(width, tf.float32))[None, None, :], tf.range(tf.cast(height, tf.float32))[None, :, None]
    place_x, place_y = _within(across, x, y, width), _within(down, x, y, height)
    left, top = tf.floor(place_x), tf.floor(place_y)
    # The four neighbours of a pixel side by side, so that one gather fetches them.
    pairs = tf.concat([images, tf.concat([images[:, :, 1:], images[:, :, -1:]], axis=2)], axis=3)
    fours = tf.concat([pairs, tf.concat([pairs[:, 1:], pairs[:, -1:]], axis=1)], axis=3)
    rows = tf.range(count)[:, None, None] * height + tf.cast(top, tf.int32)
    fetched = tf.gather(tf.reshape(fours, [-1, 4 * images.shape[3]]), rows * width + tf.cast(left, tf.int32))
    top_left, top_right, low_left, low_right = tf.split(tf.cast(fetched, tf.float32), 4, axis=3)
    weight_x, weight_y = (place_x - left)[..., None], (place_y - top)[..., None]
    upper = top_left + weight_x * (top_right - top_left)
    lower = low_left + weight_x * (low_right - low_left)
    return upper + weight_y * (lower - upper)


def _within(transform: tf.Tensor, x: tf.Tensor, y: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Transformed positions, float32 [N,H,W], clipped to the image."""
    first, second, offset = (transform[:, place, None, None] for place in range(3))
    return tf.clip_by_value(first * x + second * y + offset, 0.0, tf.cast(size - 1, tf.float32))


@keras.saving.register_keras_serializable("classify_training")
class RandomErasing(keras.layers.Layer):  # type: ignore[misc]  # Keras is untyped
    """Replace a random rectangle of an image with noise (Zhong et al., "Random Erasing Data Augmentation", 2017).

    Their Algorithm 1: with probability `probability`, an area uniform in `area` (fractions of the image) and an aspect
    ratio uniform in `aspect` (height / width) are drawn until the rectangle fits into the image. Here ten rectangles
    are drawn, and an image is not changed if none of them fits. The defaults are those of the paper.

    Takes and returns float32 [N,H,W,C]; identity unless called with `training=True`.

    Args:
        probability: probability that an image is changed.
        area: range of the rectangle's area, as fractions of the image.
        aspect: range of the rectangle's height / width.
        values: range [low, high) of the painted values. It must match the range of the images: noise of 0-255 in
            images of 0-1 dominates the rest of the image.
        per_pixel: draw every pixel and channel separately, from 256 levels; otherwise one colour for a rectangle.
        seed: random seed.
    """

    def __init__(
        self,
        probability: float = 0.5,
        area: tuple[float, float] = (0.02, 0.4),
        aspect: tuple[float, float] = (0.3, 1 / 0.3),
        values: tuple[float, float] = (0.0, 255.0),
        per_pixel: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.probability, self.area, self.aspect = probability, area, aspect
        self.values, self.per_pixel, self.seed = values, per_pixel, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, images: tf.Tensor, training: bool = False, seed: tf.Tensor | None = None) -> tf.Tensor:
        """Erase in a batch, float32 [N,H,W,C], with a seed of two integers or the layer's own seed."""
        if not training:
            return images
        seed = _integers(self.seed_generator.next() if seed is None else seed)
        shape = tf.shape(images)
        draws = tf.random.stateless_uniform([shape[0], 2 * _ATTEMPTS + 3], seed)
        rectangles = _rectangles(draws, shape, self.probability, self.area, self.aspect)
        painted = _overpaint(images, rectangles, self._noise(shape, seed), *map(float, self.values), self.per_pixel)
        return tf.ensure_shape(painted, images.shape)

    def _noise(self, shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """uint32 [N,K]; each number holds four bytes of noise, enough for all pixels or for one colour per image."""
        values = tf.reduce_prod(shape[1:]) if self.per_pixel else shape[3]
        return tf.random.stateless_uniform([shape[0], (values + 3) // 4], tf.add(seed, [0, 1]), None, None, tf.uint32)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = ("probability", "area", "aspect", "values", "per_pixel", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


@tf.function(jit_compile=True, reduce_retracing=True)  # type: ignore[untyped-decorator]
def _rectangles(
    draws: tf.Tensor, shape: tf.Tensor, probability: float, area: tuple[float, float], aspect: tuple[float, float]
) -> tf.Tensor:
    """Choose the rectangles for images of `shape` from draws in [0, 1), float32 [N, 2 x attempts + 3].

    Returns float32 [N,4]: top, left, height and width; the height is 0 for an image that is not changed.
    """
    height, width = tf.cast(shape[1], tf.float32), tf.cast(shape[2], tf.float32)
    areas = (area[0] + (area[1] - area[0]) * draws[:, :_ATTEMPTS]) * height * width
    aspects = aspect[0] + (aspect[1] - aspect[0]) * draws[:, _ATTEMPTS : 2 * _ATTEMPTS]
    tall, wide = tf.round(tf.sqrt(areas * aspects)), tf.round(tf.sqrt(areas / aspects))
    fits = (tall < height) & (wide < width)
    first = tf.argmax(tf.cast(fits, tf.int32), axis=1)
    tall, wide = (tf.gather(sides, first, batch_dims=1) for sides in (tall, wide))
    down, right, chance = (draws[:, 2 * _ATTEMPTS + place] for place in range(3))
    top, left = tf.floor(down * (height - tall + 1)), tf.floor(right * (width - wide + 1))
    erased = tf.reduce_any(fits, axis=1) & (chance < probability)
    return tf.stack([top, left, tf.where(erased, tall, 0.0), wide], axis=1)


@tf.function(jit_compile=True, reduce_retracing=True)  # type: ignore[untyped-decorator]
def _overpaint(
    images: tf.Tensor, rectangles: tf.Tensor, noise: tf.Tensor, low: float, high: float, per_pixel: bool
) -> tf.Tensor:
    """Paint noise, uint32 [N,K] read byte by byte, into the rectangles, float32 [N,4], of images [N,H,W,C]."""
    count, height, width, channels = (tf.shape(images)[axis] for axis in range(4))
    painted = tf.reshape(tf.bitcast(noise, tf.uint8), [count, -1])
    extent = [count, height, width, channels] if per_pixel else [count, 1, 1, channels]
    painted = tf.reshape(painted[:, : tf.reduce_prod(extent[1:])], extent)
    top, left, tall, wide = (rectangles[:, place, None, None, None] for place in range(4))
    y, x = tf.range(tf.cast(height, tf.float32)), tf.range(tf.cast(width, tf.float32))
    rows, columns = y[None, :, None, None] - top, x[None, None, :, None] - left
    inside = (rows >= 0) & (rows < tall) & (columns >= 0) & (columns < wide)
    return tf.where(inside, low + (high - low) / 256 * tf.cast(painted, tf.float32), images)


class Augmentation(keras.layers.Layer):  # type: ignore[misc]  # Keras is untyped
    """All augmentation of a configuration: uint8 or float32 [N,S,S,3] in 0-255 -> float32 [N,S,S,3].

    Args:
        config: options of augmentation.
        seed: random seed of calls without a seed.
    """

    def __init__(self, config: AugmentConfig, seed: int | None = None) -> None:
        super().__init__(autocast=False)
        self.layers: list[keras.layers.Layer] = []
        if config.flip or config.shift or config.rotate:
            self.layers.append(RandomAffine(config.flip, config.shift, config.rotate, seed=seed))
        if config.erase:
            erasing = RandomErasing(
                config.erase,
                config.erase_area,
                config.erase_aspect,
                config.erase_values,
                per_pixel=config.erase_fill == "noise",
                seed=seed,
            )
            self.layers.append(erasing)

    def call(self, images: tf.Tensor, training: bool = False, seed: tf.Tensor | None = None) -> tf.Tensor:
        """Augment a batch; equal seeds, of two integers, give equal results."""
        images = tf.cast(images, tf.float32) if not self.layers else images
        for position, layer in enumerate(self.layers):
            own = None if seed is None else tf.add(_integers(seed), [2 * position, 0])
            images = layer(images, training=training, seed=own)
        return images


def _integers(seed: Any) -> tf.Tensor:
    """A seed as two int32, as TensorFlow's stateless random functions need it."""
    return tf.cast(seed, tf.int32)
