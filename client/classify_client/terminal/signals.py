"""Graceful shutdown on Ctrl-C and SIGTERM."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final, Self

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class GracefulShutdown:
    """A context in which SIGINT and SIGTERM set `requested` and run the next of some steps.

    The main thread continues, and ends because the steps make its sources and requests end; so everything it is writing
    is written completely. Only a signal after the last step raises KeyboardInterrupt in it. It works in the main thread
    only; in other threads it does nothing.

    Args:
        steps: each is called once, in a thread of its own, because it may need a lock that the main thread holds.
    """

    def __init__(self, *steps: Callable[[], None]) -> None:
        self.requested = False
        self._steps = iter(steps)
        self._earlier: dict[int, Any] = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        step = next(self._steps, None)
        if step is None:
            raise KeyboardInterrupt
        threading.Thread(target=step, daemon=True).start()

    def __enter__(self) -> Self:
        try:
            self._earlier = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        except ValueError:
            # Not the main thread, so the signals belong to other code.
            self._earlier = {}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
