"""How a command of classify-train ends: with its result, one sentence about a mistake, or an interruption."""

import os
import sys
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import click

from classify_serving.contract.text import terminal_text
from classify_training import interrupts
from classify_training.errors import TrainingError

_INTERRUPTED: Final = 130
_LEFT_BEHIND: Final[Mapping[str, str]] = {
    "export": "nothing was published; the same command goes on after the last finished epoch",
    "apply": "the same command finishes what was begun, and --undo takes it back",
}
"""What an interrupted command leaves, where the interruption itself does not say it."""


class Group(click.Group):
    """Commands that end a user's mistake with one sentence and an exit code, and an interruption with 130."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run as the program of this process, which signals may end."""
        interrupts.install()
        try:
            return super().__call__(*args, **kwargs)
        except SystemExit as end:
            interrupts.ignore()
            if interrupts.is_requested() and end.code:
                _end_now()
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            _say_interrupted(ctx, error)
        except Exception as error:
            # An interruption can become any error on its way through the code of others.
            if interrupts.is_requested():
                _say_interrupted(ctx, error)
            if not isinstance(error, TrainingError):
                raise
            click.echo(f"Error: {terminal_text(str(error))}", err=True)
            sys.exit(error.exit_code)


def _say_interrupted(ctx: click.Context, error: BaseException) -> NoReturn:
    is_told = isinstance(error, interrupts.Interrupted) and str(error)
    left = str(error) if is_told else _LEFT_BEHIND.get(ctx.invoked_subcommand or "", "")
    click.echo(f"Interrupted{terminal_text(f': {left}' if left else '')}.", err=True)
    sys.exit(_INTERRUPTED)


def _end_now() -> NoReturn:
    """End without waiting for TensorFlow's threads, which may be in the middle of a batch."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_INTERRUPTED)
