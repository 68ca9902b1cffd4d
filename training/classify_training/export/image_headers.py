"""Sizes of encoded images, read from their headers by TensorFlow operations before any pixel is decoded.

Formats: https://www.w3.org/TR/png-3/#11IHDR, https://www.w3.org/Graphics/GIF/spec-gif89a.txt, and the fields that
TensorFlow's BMP decoder reads (tensorflow/core/kernels/image/decode_image_op.cc). TensorFlow reads JPEG headers itself.
"""

from typing import Final

import tensorflow as tf

PNG_START: Final = b"\x89PNG\r\n\x1a\n"
_JPEG_START: Final = b"\xff\xd8\xff"
_BMP_START: Final = b"BM"
_GIF_START: Final = b"GIF8"
_GIF_HEADER_SIZE: Final = 13
_GIF_EXTENSION: Final = 0x21
_GIF_IMAGE: Final = 0x2C
_GIF_TRAILER: Final = b";"


def starts_with(content: tf.Tensor, start: bytes) -> tf.Tensor:
    """Whether a string [] starts with these bytes, bool []."""
    return tf.strings.substr(content, 0, len(start)) == start


def measure(content: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Read the size of an image that TensorFlow is going to decode.

    TensorFlow's GIF decoder unpacks all frames of an animation, even if only the first is wanted. Therefore the
    returned file contains only the first frame.

    Args:
        content: a JPEG, PNG, GIF or BMP file, string [].

    Returns:
        The file to decode, string []; its height and width in pixels, int64 [2].

    Raises:
        tf.errors.InvalidArgumentError: when the graph runs, the header is broken or has another format.
    """
    size, first_frame = tf.case(
        [
            (starts_with(content, PNG_START), lambda: (_png_size(content), content)),
            (starts_with(content, _JPEG_START), lambda: (_jpeg_size(content), content)),
            (starts_with(content, _GIF_START), lambda: _first_gif_frame(content)),
            (starts_with(content, _BMP_START), lambda: (_bmp_size(content), content)),
        ],
        default=lambda: (tf.zeros([2], tf.int64), content),
    )
    known = tf.debugging.Assert(tf.reduce_all(size > 0), ["an image is not a JPEG, PNG, GIF or BMP file"])
    with tf.control_dependencies([known]):
        return tf.identity(first_frame), tf.identity(size)


def _png_size(content: tf.Tensor) -> tf.Tensor:
    return _checked_pair(tf.io.decode_raw(_eight_bytes(content, 16), tf.int32, little_endian=False))[::-1]


def _jpeg_size(content: tf.Tensor) -> tf.Tensor:
    return _checked_pair(tf.image.extract_jpeg_shape(content)[:2])


def _bmp_size(content: tf.Tensor) -> tf.Tensor:
    # A negative height means that the rows are stored from top to bottom.
    return tf.abs(_checked_pair(tf.io.decode_raw(_eight_bytes(content, 18), tf.int32))[::-1])


def _eight_bytes(content: tf.Tensor, position: int) -> tf.Tensor:
    # A position after the end would be an error with the content in its message, which Python cannot decode.
    return tf.strings.substr(content, tf.minimum(position, tf.strings.length(content)), 8)


def _checked_pair(sizes: tf.Tensor) -> tf.Tensor:
    """Refuse a header that ends too early, where TensorFlow returns fewer numbers."""
    complete = tf.debugging.Assert(tf.size(sizes) == 2, ["the header of an image is incomplete"])
    with tf.control_dependencies([complete]):
        return tf.ensure_shape(tf.cast(sizes, tf.int64), [2])


def _first_gif_frame(content: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The larger of the screen and the first frame, int64 [2], and a GIF file that ends after the first frame."""
    count = tf.cast(tf.strings.length(content), tf.int64)
    # A position after the end reads as 0, which ends every loop below.
    data = tf.concat([tf.io.decode_raw(content, tf.uint8), tf.zeros([1], tf.uint8)], axis=0)

    def at(position: tf.Tensor) -> tf.Tensor:
        return tf.cast(data[tf.minimum(position, count)], tf.int64)

    def pair(position: tf.Tensor) -> tf.Tensor:
        """Height and width, which are stored as width and height, 16 bits each."""
        return tf.stack([at(position + 2) + 256 * at(position + 3), at(position) + 256 * at(position + 1)])

    def after_colour_table(position: tf.Tensor, flags: tf.Tensor) -> tf.Tensor:
        entries = tf.bitwise.left_shift(
            tf.constant(2, tf.int64), tf.bitwise.bitwise_and(flags, tf.constant(7, tf.int64))
        )
        return position + tf.where(flags >= 0x80, 3 * entries, tf.zeros_like(entries))

    def after_sub_blocks(position: tf.Tensor) -> tf.Tensor:
        last = tf.while_loop(lambda place: at(place) > 0, lambda place: [place + 1 + at(place)], [position])
        return last[0] + 1

    start = after_colour_table(tf.constant(_GIF_HEADER_SIZE, tf.int64), at(tf.constant(10, tf.int64)))
    image = tf.while_loop(
        lambda place: at(place) == _GIF_EXTENSION, lambda place: [after_sub_blocks(place + 2)], [start]
    )[0]
    found = tf.debugging.Assert(at(image) == _GIF_IMAGE, ["a GIF file has no image"])
    with tf.control_dependencies([found]):
        end = after_sub_blocks(after_colour_table(image + 10, at(image + 9)) + 1)
    size = tf.maximum(pair(tf.constant(6, tf.int64)), pair(image + 5))
    first = tf.strings.substr(content, tf.zeros([], tf.int64), tf.minimum(end, count))
    return size, tf.strings.join([first, _GIF_TRAILER])
