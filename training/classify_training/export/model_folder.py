"""A model's folder, to which one command at a time exports."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from classify_serving.contract.text import error_reason
from classify_serving.files import locked
from classify_training import interrupts
from classify_training.errors import ExportError
from classify_training.progress import stage

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def locked_model_folder(folder: Path, quiet: bool) -> Iterator[Path]:
    """Create a model's folder if needed, and keep other commands from exporting to it.

    Raises:
        ExportError: the folder cannot be written to.
        Interrupted: a signal arrived while another command was waited for.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(locked(folder))
            except BlockingIOError:
                _log.info("waiting for another command that exports to %s", folder)
                with interrupts.at_once(), stage("Waiting for the other command", quiet):
                    stack.enter_context(locked(folder, wait=True))
        except OSError as error:
            raise ExportError(
                f"cannot write to {folder} ({error_reason(error)}): check permissions, or choose another --output"
            ) from error
        yield folder
