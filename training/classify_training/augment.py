"""Random changes of training images, as Keras layers on batches: flip, shift, rotate, erase."""

from typing import Any, Final

import keras
import tensorflow as tf

from classify_training.config import AugmentConfig

_ATTEMPTS: Final = 10


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
        self._generator = keras.random.SeedGenerator(seed)

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
        return keras.random.uniform(shape, *bounds, seed=self._generator)

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


def augmentation(config: AugmentConfig, seed: int) -> keras.Sequential:
    """The chosen layers in the article's order; takes and returns float32 [N,S,S,3] in 0-255."""
    layers: list[keras.layers.Layer] = []
    if config.flip:
        layers.append(keras.layers.RandomFlip("horizontal", seed=seed))
    if config.shift:
        layers.append(keras.layers.RandomTranslation(config.shift, config.shift, "nearest", seed=seed + 1))
    if config.rotate:
        layers.append(keras.layers.RandomRotation(config.rotate / 360, "nearest", seed=seed + 2))
    if config.erase:
        layers.append(RandomErasing(config.erase, seed=seed + 3))
    return keras.Sequential(layers or [keras.layers.Identity()], name="augmentation")
