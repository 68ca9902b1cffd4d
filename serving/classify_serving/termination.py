"""SIGTERM ends a command as Ctrl-C does."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """While the block runs, SIGTERM raises KeyboardInterrupt in the main thread; elsewhere, this does nothing."""
    try:
        earlier = signal.signal(signal.SIGTERM, signal.default_int_handler)
    except ValueError:
        # Not the main thread, so the signals belong to other code.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)
