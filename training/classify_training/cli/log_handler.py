"""Log messages of the package as lines on stderr."""

import logging
from typing import Final

import click

_PACKAGE: Final = "classify_training"


class _Stderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        # click looks up stderr at each call: a progress bar may have replaced it.
        click.echo(self.format(record), err=True)


_HANDLER: Final = _Stderr()


def log_to_stderr(quiet: bool) -> None:
    """Show messages of this package from now on, or only warnings if quiet.

    The root logger gets no handler: libraries such as Pillow log what is wrong with a file without its name, and an
    unreadable file is reported by its name anyway.
    """
    logger = logging.getLogger(_PACKAGE)
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.addHandler(_HANDLER)
