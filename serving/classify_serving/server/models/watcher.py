"""Follow the models' folders and the configuration file while the server answers requests."""

import logging
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from classify_serving.server.errors import ModelConfigError, internal_error
from classify_serving.server.models.config import read_model_config
from classify_serving.server.models.manager import ModelManager

POLL_SECONDS: Final = 1.0
"""The default of TensorFlow Serving's `--file_system_poll_wait_seconds`."""

_STOP_SECONDS: Final = 5.0
_log = logging.getLogger(__name__)


class Watcher:
    """Checks folders and configuration in a thread; a context manager.

    Args:
        manager: loads and unloads versions.
        folders: whether to check the models' folders for new versions, every second.
        config_file: the models to serve; None if they are fixed.
        config_seconds: how often to read that file again; 0: never.
    """

    def __init__(
        self, manager: ModelManager, folders: bool = True, config_file: Path | None = None, config_seconds: int = 0
    ) -> None:
        self._manager, self._folders = manager, folders
        self._config_file, self._config_seconds = config_file, config_seconds
        self._last_error = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def _watch(self) -> None:
        checks = 0
        while not self._stopped.wait(POLL_SECONDS):
            checks += 1
            try:
                if self._config_seconds and checks % self._config_seconds == 0:
                    self.read_config()
                if self._folders:
                    self._manager.check()
            except Exception as error:
                # The thread must not end: the server would silently stay at its versions.
                _log.error("checking the models failed: %s", internal_error(error))

    def read_config(self) -> None:
        """Read the configuration file and apply its changes; a faulty file is logged once and changes nothing."""
        if not self._config_file:
            return
        try:
            configs = read_model_config(self._config_file)
            if configs != self._manager.configs:
                self._manager.apply(configs)
                _log.info("applied %s", self._config_file)
            self._last_error = ""
        except ModelConfigError as error:
            if str(error) != self._last_error:
                self._last_error = str(error)
                _log.warning("%s; the previous configuration stays", error)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        # Not for ever: a file system that does not answer must not keep the server from ending.
        self._thread.join(_STOP_SECONDS)
