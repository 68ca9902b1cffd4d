"""Random changes of training images, as Keras layers on batches: flip, shift, rotate, erase."""

import math
from collections.abc import Iterator
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf

from classify_training.config import AugmentConfig

_ATTEMPTS: Final = 10


@keras.saving.register_keras_serializable("classify_training")
class RandomAffine(keras.layers.Layer):  # type: ignore[misc]  # Keras is untyped
    """Flip, shift and rotate about the centre at once, so that pixels are interpolated once.

    Keras' RandomTranslation and RandomRotation in sequence interpolate twice, which costs twice the time and blurs
    small images: on 32 px photographs a classifier gained a point of accuracy from doing it at once. What comes in
    at the edges repeats the nearest pixel, as in Keras' ImageDataGenerator. Bilinear.

    Takes and returns float32 [N,H,W,C]; identity unless called with `training=True`.

    Args:
        flip: mirror every second image left to right.
        shift: largest shift in each direction, as a fraction of the side.
        rotate: largest rotation either way in degrees.
        seed: of all draws.
    """

    def __init__(
        self, flip: bool = True, shift: float = 0.1, rotate: float = 20.0, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.flip, self.shift, self.rotate, self.seed = flip, shift, rotate, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Change a batch, float32 [N,H,W,C]."""
        if not training:
            return images
        moved = keras.ops.image.affine_transform(
            images, self._transforms(tf.shape(images)), interpolation="bilinear", fill_mode="nearest"
        )
        return tf.ensure_shape(moved, images.shape)

    def _transforms(self, shape: tf.Tensor) -> tf.Tensor:
        """float32 [N,8]: where each output pixel (x, y) is taken from, (a0 x + a1 y + a2, b0 x + b1 y + b2)."""
        count, height, width = shape[0], tf.cast(shape[1], tf.float32), tf.cast(shape[2], tf.float32)
        angle = self._uniform(count, math.radians(self.rotate))
        right, down = self._uniform(count, self.shift) * width, self._uniform(count, self.shift) * height
        mirror = tf.where(self._uniform(count, 1.0) < 0, -1.0, 1.0) if self.flip else tf.ones([count])
        centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
        a0, a1 = mirror * tf.cos(angle), -mirror * tf.sin(angle)
        b0, b1 = tf.sin(angle), tf.cos(angle)
        a2 = centre_x - a0 * centre_x - a1 * centre_y + right
        b2 = centre_y - b0 * centre_x - b1 * centre_y + down
        return tf.stack([a0, a1, a2, b0, b1, b2, tf.zeros([count]), tf.zeros([count])], axis=1)

    def _uniform(self, count: tf.Tensor, bound: float) -> tf.Tensor:
        return keras.random.uniform([count], -bound, bound, seed=self.seed_generator)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), **{name: getattr(self, name) for name in ("flip", "shift", "rotate", "seed")}}


@keras.saving.register_keras_serializable("classify_training")
class RandomErasing(keras.layers.Layer):  # type: ignore[misc]  # Keras is untyped
    """Overpaint a random rectangle of an image with noise (Zhong et al., "Random Erasing Data Augmentation", 2017).

    Their Algorithm 1: with probability `probability`, an area uniform in `area` (fractions of the image) and an
    aspect ratio uniform in `aspect` (height to width) are drawn until the rectangle fits at a random place; here it
    is drawn ten times, and an image for which none fits stays as it is. Defaults are the paper's.

    Takes and returns float32 [N,H,W,C]; identity unless called with `training=True`.

    Args:
        probability: that an image is erased.
        area: range of the erased fraction.
        aspect: range of height / width.
        values: range [low, high) of the painted values. It must be that of the images: noise of 0-255 in
            images of 0-1 outweighs all that is left of them.
        per_pixel: noise of its own in each pixel and channel; otherwise one colour a rectangle.
        seed: of all draws.
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

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Erase in a batch, float32 [N,H,W,C]."""
        if not training:
            return images
        mask = self._rectangles(tf.shape(images))
        return tf.where(mask, self._paint(tf.shape(images)), images)

    def _paint(self, shape: tf.Tensor) -> tf.Tensor:
        noise_shape = shape if self.per_pixel else tf.stack([shape[0], 1, 1, shape[3]])
        return self._uniform(noise_shape, self.values)

    def _uniform(self, shape: Any, bounds: tuple[float, float] = (0.0, 1.0)) -> tf.Tensor:
        return keras.random.uniform(shape, *bounds, seed=self.seed_generator)

    def _rectangles(self, shape: tf.Tensor) -> tf.Tensor:
        """Bool [N,H,W,1], true where an image is to be overpainted."""
        count = shape[0]
        height, width = tf.cast(shape[1], tf.float32), tf.cast(shape[2], tf.float32)
        area = self._uniform([count, _ATTEMPTS], self.area) * height * width
        aspect = self._uniform([count, _ATTEMPTS], self.aspect)
        tall, wide = tf.round(tf.sqrt(area * aspect)), tf.round(tf.sqrt(area / aspect))
        fits = (tall < height) & (wide < width)
        first = tf.argmax(tf.cast(fits, tf.int32), axis=1)
        tall, wide = (tf.gather(sides, first, batch_dims=1) for sides in (tall, wide))
        top = tf.floor(self._uniform([count]) * (height - tall + 1))
        left = tf.floor(self._uniform([count]) * (width - wide + 1))
        erased = tf.reduce_any(fits, axis=1) & (self._uniform([count]) < self.probability)
        rows = _between(tf.range(height), top, tall)[:, :, None, None]
        columns = _between(tf.range(width), left, wide)[:, None, :, None]
        return rows & columns & erased[:, None, None, None]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = ("probability", "area", "aspect", "values", "per_pixel", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


def _between(positions: tf.Tensor, start: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    return (positions >= start[:, None]) & (positions < (start + length)[:, None])


def augmentation(config: AugmentConfig) -> keras.Sequential:
    """The chosen layers; takes and returns float32 [N,S,S,3] in 0-255. `reseed` decides what they draw."""
    layers: list[keras.layers.Layer] = []
    if config.flip or config.shift or config.rotate:
        layers.append(RandomAffine(config.flip, config.shift, config.rotate, seed=0))
    if config.erase:
        layers.append(
            RandomErasing(
                config.erase,
                config.erase_area,
                config.erase_aspect,
                config.erase_values,
                per_pixel=config.erase_fill == "noise",
                seed=0,
            )
        )
    return keras.Sequential(layers or [keras.layers.Identity()], name="augmentation")


def reseed(model: keras.Model, *seed: int) -> None:
    """Start all random draws of a model's layers anew, from some numbers; equal numbers give equal draws."""
    for position, layer in enumerate(_layers(model)):
        if isinstance(generator := getattr(layer, "seed_generator", None), keras.random.SeedGenerator):
            state = np.random.SeedSequence([*seed, position]).generate_state(2, np.uint32)
            generator.state.assign(state.astype(generator.state.dtype))


def _layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _layers(layer)
