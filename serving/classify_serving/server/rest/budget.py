"""Numbers of bytes that all connections share, so that their bodies and what is made of them cannot fill the memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class ByteBudget:
    """Bytes to reserve before they are received; thread-safe.

    Args:
        size: the number of bytes.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, count: int, seconds: float) -> Iterator[None]:
        """Hold `count` bytes while the block runs; wait up to `seconds` until they are free.

        Raises:
            TimeoutError: they were not free in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: count <= self._free, seconds):
                raise TimeoutError
            self._free -= count
        try:
            yield
        finally:
            with self._changed:
                self._free += count
                self._changed.notify_all()


def parsed_size(body: bytearray) -> int:
    """An upper bound of the memory that the values of a JSON text need in Python, in bytes.

    A number takes up to 40 bytes with its place in a list, an empty list 88, an object with one key up to 250, and a
    string 80 more than its text and what is decoded from it; if it is not ASCII, up to 4 bytes for each of its bytes.
    """
    texts = (2 if body.isascii() else 5) * len(body)
    return texts + 40 * body.count(b",") + 40 * body.count(b'"') + 100 * body.count(b"[") + 250 * body.count(b"{")
