"""Load and warm up new versions of a model while the current version answers requests."""

import logging
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from classify_serving.contract.versions import ServableError, find_version
from classify_serving.server.batching import Batching
from classify_serving.server.servable import Servables, load_servable

POLL_SECONDS: Final = 1.0
"""The default of TensorFlow Serving's `--file_system_poll_wait_seconds`."""

_log = logging.getLogger(__name__)


class Watcher:
    """Checks a model's folder for new versions every second, in a thread; a context manager.

    A version that cannot be loaded is logged once and skipped, as in TensorFlow Serving; publish a corrected model
    under a new version number.

    Args:
        servables: receives a new version.
        folder: the model's folder.
        batching: how concurrent requests are merged; None: not at all.
    """

    def __init__(self, servables: Servables, folder: Path, batching: Batching | None) -> None:
        self._servables, self._folder, self._batching = servables, folder, batching
        self._last_version = servables.current.version
        self._last_error = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def _watch(self) -> None:
        while not self._stopped.wait(POLL_SECONDS):
            self.check()

    def check(self) -> None:
        """Load the highest version if it has changed: a newer one appeared, or the current one was removed."""
        try:
            version = find_version(self._folder)
            if int(version.name) == self._last_version:
                return
            self._last_version = int(version.name)
            self._servables.current = load_servable(version, self._servables.current.name, self._batching)
            _log.info("now serving version %s", version.name)
        except (ServableError, OSError) as error:
            if str(error) != self._last_error:
                self._last_error = str(error)
                _log.warning("%s; still serving version %d", error, self._servables.current.version)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()
