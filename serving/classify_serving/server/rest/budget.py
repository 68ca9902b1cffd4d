"""A number of bytes that all connections share, so that their bodies cannot fill the memory."""

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
