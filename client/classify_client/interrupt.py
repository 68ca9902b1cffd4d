"""Ctrl-C once: stop taking files, finish what is in flight, write. Twice: stop now."""

import signal
from types import FrameType, TracebackType
from typing import Any, Final, Self

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """A context in which SIGINT and SIGTERM set `requested`; a second one raises KeyboardInterrupt.

    Only the main thread can use it; in others it does nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._earlier: dict[int, Any] = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def __enter__(self) -> Self:
        try:
            self._earlier = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        except ValueError:
            # Not the main thread: whoever runs that has the signals.
            self._earlier = {}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
