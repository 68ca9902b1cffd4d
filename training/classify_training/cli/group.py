"""How a command of classify-train ends: with its result, one sentence about a mistake, or an interruption."""

import signal
import sys
from typing import Any

import click

from classify_serving.contract.text import terminal_text
from classify_training.errors import TrainingError

_INTERRUPTED = {
    "export": "nothing was published; the same command goes on after the last epoch that was finished",
    "apply": "the same command finishes what was begun, and --undo takes it back",
}


class Group(click.Group):
    """Ends a user's mistake in one sentence and its exit code, and an interruption in 130."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and end the process as its errors say."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            return super().invoke(ctx)
        except TrainingError as error:
            click.echo(f"Error: {terminal_text(str(error))}", err=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            said = _INTERRUPTED.get(ctx.invoked_subcommand or "", "nothing was published")
            click.echo(f"Interrupted: {said}.", err=True)
            sys.exit(130)
