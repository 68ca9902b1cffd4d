"""Warnings of the package as lines on stderr, above the progress bar."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import click


class _Stderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        # click looks up stderr at each call: a progress bar may have replaced it.
        click.echo(self.format(record), err=True)


@contextmanager
def log_to_stderr() -> Iterator[None]:
    """Show warnings of this package while the block runs."""
    logger, handler = logging.getLogger("classify_client"), _Stderr(logging.WARNING)
    logger.addHandler(handler)
    propagate, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.propagate = propagate
        logger.removeHandler(handler)
