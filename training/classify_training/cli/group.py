"""How a command of classify-train ends: with a result, one sentence about an error, or an interruption."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from classify_serving.contract.text import terminal_text
from classify_training import interrupts
from classify_training.cli.options.aliases import OLD_COMMANDS
from classify_training.errors import TrainingError

_WHAT_IS_LEFT: Final[Mapping[str, str]] = {
    "train": "the same command resumes after the last finished epoch",
    "quantize": "the same command begins again",
    "apply": "the same command finishes the changes that were begun, and --undo takes them back",
}
"""Said after an interruption of a command, unless the interruption has a message of its own."""
_PUBLISHING: Final = {"train", "quantize"}
"""Commands that publish a version last: when one ends where it can stop, nothing is published."""
_GENERATED: Final = "__autograph_generated_file"


class Group(click.Group):
    """Commands that end an error with one sentence and an exit code, and an interruption with exit code 130."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run as the program of this process, with signals handled."""
        interrupts.install()
        try:
            return super().__call__(*args, **kwargs)
        except SystemExit as end:
            interrupts.ignore()
            if interrupts.is_requested() and end.code:
                _end_now()
            raise

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command by its current or its old name."""
        name, *rest = args
        return super().resolve_command(ctx, [OLD_COMMANDS.get(name, name), *rest])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            _report_interruption(ctx, error)
        except Exception as error:
            # Other people's code may have turned the interruption into another error.
            if interrupts.is_requested():
                _report_interruption(ctx, error)
            if not isinstance(error, TrainingError):
                raise
            click.echo(f"Error: {terminal_text(str(error))}", err=True)
            sys.exit(error.exit_code)


def _report_interruption(ctx: click.Context, error: BaseException) -> NoReturn:
    command = ctx.invoked_subcommand or ""
    is_regular = isinstance(error, interrupts.Interrupted)
    message = str(error) if is_regular and str(error) else _WHAT_IS_LEFT.get(command, "")
    # After a second signal, which stops anywhere, it is not known whether the version was renamed.
    if command in _PUBLISHING and is_regular and not str(error):
        message = f"nothing was published; {message}"
    click.echo(terminal_text(f"Interrupted: {message}." if message else "Interrupted."), err=True)
    sys.exit(interrupts.EXIT_CODE)


def _end_now() -> NoReturn:
    """End the process without waiting for TensorFlow's threads, which may be computing a batch."""
    sys.stdout.flush()
    sys.stderr.flush()
    # TensorFlow deletes the code that it has generated at a regular end only.
    for name, module in tuple(sys.modules.items()):
        if name.startswith(_GENERATED) and module.__file__:
            Path(module.__file__).unlink(missing_ok=True)
    os._exit(interrupts.EXIT_CODE)
