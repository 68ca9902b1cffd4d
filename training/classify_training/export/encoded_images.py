"""Decoding image files inside the graph, for the signature `encoded`."""

from typing import Final

import tensorflow as tf

from classify_serving.contract.images import MAX_ENCODED_PIXELS, Resize
from classify_training.export.image_headers import PNG_START, measure, starts_with

_WHITE: Final = 255


def decode_images(image_bytes: tf.Tensor, size: int, resize: Resize, max_pixels: int = MAX_ENCODED_PIXELS) -> tf.Tensor:
    """Decode image files as `classify_serving.contract.images` does outside of the graph.

    TensorFlow's decoders ignore the EXIF orientation and the transparency of palettes; clients that need these send
    `images`.

    Args:
        image_bytes: JPEG, PNG, GIF or BMP files, string [N].
        size: side S of the result in pixels.
        resize: how to make the images square.
        max_pixels: larger images are refused before they are decoded.

    Returns:
        uint8 [N,S,S,3] RGB.

    Raises:
        tf.errors.InvalidArgumentError: when the graph runs, an image is broken or too large.
    """
    return tf.map_fn(
        lambda content: _decode(content, size, resize, max_pixels),
        image_bytes,
        fn_output_signature=tf.TensorSpec([size, size, 3], tf.uint8),
        # One image at a time: the memory for decoding a batch is that for its largest image.
        parallel_iterations=1,
    )


def _decode(content: tf.Tensor, size: int, resize: Resize, max_pixels: int) -> tf.Tensor:
    content, height_width = measure(content)
    # Resizing enlarges one axis after the other, so a long image of few pixels may need more memory than its pixels.
    pixels = tf.reduce_prod(tf.maximum(height_width, size))
    small = tf.debugging.Assert(
        # Each side is checked too, because the product of two sides may overflow.
        tf.reduce_all(height_width <= max_pixels) & (pixels <= max(max_pixels, size * size)),
        [f"an image has more than {max_pixels} pixels: scale it down; its height and width are", height_width],
    )
    with tf.control_dependencies([small]):
        content = tf.identity(content)
    image = tf.cond(
        starts_with(content, PNG_START),
        lambda: _on_white(tf.io.decode_png(content, channels=4)),
        lambda: tf.io.decode_image(content, channels=3, expand_animations=False),
    )
    image = _resize(tf.ensure_shape(image, [None, None, 3]), size, resize)
    return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)


def _on_white(rgba: tf.Tensor) -> tf.Tensor:
    """Blend uint8 [H,W,4] with white to uint8 [H,W,3], in 16 bits, which need half of the memory of floats."""
    opacity = tf.cast(rgba[..., 3:], tf.uint16)
    blended = tf.cast(rgba[..., :3], tf.uint16) * opacity + _WHITE * (_WHITE - opacity)
    return tf.cast((blended + _WHITE // 2) // _WHITE, tf.uint8)


def _resize(image: tf.Tensor, size: int, resize: Resize) -> tf.Tensor:
    """uint8 [H,W,3] -> float32 [S,S,3]."""
    if resize == "pad":
        return _pad(image, size)
    if resize == "crop":
        side = tf.reduce_min(tf.shape(image)[:2])
        image = tf.image.resize_with_crop_or_pad(image, side, side)
    return tf.image.resize(image, (size, size), "bilinear", antialias=True)


def _pad(image: tf.Tensor, size: int) -> tf.Tensor:
    """Resize first and then add the bars: a bar at full size could need far more memory than the image."""
    sides = tf.cast(tf.shape(image)[:2], tf.float64)
    scaled = tf.maximum(1, tf.cast(tf.round(sides * (size / tf.reduce_max(sides))), tf.int32))
    image = tf.image.resize(image, scaled, "bilinear", antialias=True)
    return tf.image.resize_with_crop_or_pad(image, size, size)
