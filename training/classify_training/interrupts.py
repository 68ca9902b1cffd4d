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
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """The user or the system asked this process to end; the message says what is left behind."""


@dataclass
class _State:
    is_installed: bool = False
    is_requested: bool = False
    is_deferred: bool = False


_state: Final = _State()


def install() -> None:
    """Handle SIGINT and SIGTERM from now on; without effect outside of the main thread.

    The first signal raises Interrupted, at once or, within `deferred`, in the next `check`; every further signal raises
    KeyboardInterrupt at once.
    """
    with suppress(ValueError):
        for number in _SIGNALS:
            signal.signal(number, _handle)
        _state.is_installed = True


def _handle(number: int, frame: FrameType | None) -> None:
    is_first = not _state.is_requested
    _state.is_requested = True
    if not is_first:
        raise KeyboardInterrupt
    if not _state.is_deferred:
        raise Interrupted


def ignore() -> None:
    """Ignore signals from now on, because the work is done; without effect if `install` was not called.

    The system ignores them, since Python removes its own handlers before TensorFlow has ended.
    """
    if _state.is_installed:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


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
    """Within the block, the first signal only takes effect in `check`, which the code calls where it can stop."""
    check()
    with _mode(is_deferred=True):
        yield


@contextmanager
def at_once() -> Iterator[None]:
    """Within the block, which may be inside of a `deferred` one, the first signal takes effect at once."""
    with _mode(is_deferred=False):
        check()
        yield
    check()


@contextmanager
def _mode(is_deferred: bool) -> Iterator[None]:
    before, _state.is_deferred = _state.is_deferred, is_deferred
    try:
        yield
    finally:
        _state.is_deferred = before
