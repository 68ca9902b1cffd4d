"""New versions of a model, loaded and warmed while the old one answers."""

import logging
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from classify_serving.contract.versions import ServableError, find_version
from classify_serving.server.batching import Batching
from classify_serving.server.servable import Servables, load_servable

POLL_SECONDS: Final = 1.0
"""As TensorFlow Serving's `file_system_poll_wait_seconds`."""

_log = logging.getLogger(__name__)


class Watcher:
    """Looks into a model's folder every second while the block runs; a context manager.

    A version that cannot be loaded is told once and left alone, as in TensorFlow Serving: mend it under a new number.

    Args:
        servables: where a new version goes.
        folder: the model's folder.
        batching: as for the first version.
    """

    def __init__(self, servables: Servables, folder: Path, batching: Batching | None) -> None:
        self._servables, self._folder, self._batching = servables, folder, batching
        self._seen = servables.current.version
        self._told = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def _watch(self) -> None:
        while not self._stopped.wait(POLL_SECONDS):
            self.look()

    def look(self) -> None:
        """Load the highest version if it is another than last time: a newer one, or an older one when that is gone."""
        try:
            version = find_version(self._folder)
            if int(version.name) == self._seen:
                return
            self._seen = int(version.name)
            self._servables.current = load_servable(version, self._servables.current.name, self._batching)
            _log.info("version %s serves now", version.name)
        except (ServableError, OSError) as error:
            if str(error) != self._told:
                self._told = str(error)
                _log.warning("%s; version %d goes on serving", error, self._servables.current.version)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()
