"""Ctrl-C and SIGTERM: end at once, or at the next place where the work can stop.

While TensorFlow works, an exception raised by a signal handler can surface inside one of TensorFlow's own callbacks,
which swallows it or turns it into another error. There, the handler only sets a flag, and `check` raises.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Final

EXIT_CODE: Final = 130


class Interrupted(KeyboardInterrupt):
    """The user or the system asked this process to end; the message says what is left behind."""


@dataclass
class _State:
    is_requested: bool = False
    is_deferred: bool = False
    is_ending: bool = False


_state: Final = _State()


def install() -> None:
    """Handle SIGINT and SIGTERM from now on; without effect outside of the main thread.

    The first signal raises KeyboardInterrupt, or within `deferred` makes the next `check` raise; every further one
    raises KeyboardInterrupt at once.
    """
    with suppress(ValueError):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _handle)


def _handle(number: int, frame: FrameType | None) -> None:
    is_first = not _state.is_requested
    _state.is_requested = True
    if not (_state.is_ending or (_state.is_deferred and is_first)):
        raise KeyboardInterrupt


def ignore() -> None:
    """Ignore signals from now on: the process is about to end anyway."""
    _state.is_ending = True


def is_requested() -> bool:
    """Whether a signal has arrived."""
    return _state.is_requested


def check() -> None:
    """Raise Interrupted if a signal has arrived.

    Raises:
        Interrupted: one has.
    """
    if _state.is_requested:
        raise Interrupted


@contextmanager
def deferred() -> Iterator[None]:
    """Within the block, the first signal does not raise by itself: the code calls `check` where it can stop."""
    check()
    _state.is_deferred = True
    try:
        yield
    finally:
        _state.is_deferred = False
