"""What the library logs, as lines on stderr above the progress bar."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import click


class _Stderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        # Resolved anew each time: a progress bar puts itself in the place of stderr.
        click.echo(self.format(record), err=True)


@contextmanager
def notices() -> Iterator[None]:
    """Show warnings of this package while the block runs."""
    logger, handler = logging.getLogger("classify_client"), _Stderr(logging.WARNING)
    logger.addHandler(handler)
    propagate, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.propagate = propagate
        logger.removeHandler(handler)
