"""Log messages of the package as lines on stderr."""

import logging
from typing import Final

import click

_PACKAGE: Final = "classify_training"


class _Stderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        # click looks up stderr at each call: a progress bar may have replaced it.
        from classify_training.progress import LINE_TIMER

        click.echo(self.format(record), err=True)
        LINE_TIMER.restart()


def log_to_stderr(quiet: bool) -> None:
    """Show messages of this package until the command ends, or only warnings if quiet.

    Nothing is printed by handlers of the root logger, which TensorFlow may add, and none is added to it: libraries such
    as Pillow log what is wrong with a file without its name, and an unreadable file is reported by its name anyway.
    """
    logger, handler = logging.getLogger(_PACKAGE), _Stderr()
    before = logger.propagate
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.addHandler(handler)
    logger.propagate = False

    def undo() -> None:
        logger.removeHandler(handler)
        logger.propagate = before

    click.get_current_context().call_on_close(undo)
