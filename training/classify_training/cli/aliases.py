"""Names of release 0.1 that are still accepted: of commands, options and environment variables. Help hides them."""

import os
from collections.abc import Mapping
from functools import partial
from itertools import product
from typing import Any, Final

import click

OLD_COMMANDS: Final[Mapping[str, str]] = {"export": "train"}
"""Old name -> current name."""

_OLD_PREFIXES: Final[Mapping[str, str]] = {"train": "CLASSIFY_TRAIN_EXPORT"}
"""Current name of a command -> what the names of its environment variables began with."""


class Option(click.Option):
    """An option that may have an old name, such as `--size`.

    Its value is also taken from the environment variables of release 0.1 if the current variable is not set.
    """

    def __init__(self, *args: Any, old: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._old = [old] if old else []

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Make the parser accept the old name too; the option's own list, which help shows, keeps the current ones."""
        current, self.opts = self.opts, [*self.opts, *self._old]
        try:
            super().add_to_parser(parser, ctx)
        finally:
            self.opts = current

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Look for the current variable first, then for the old ones."""
        value = super().resolve_envvar_value(ctx)
        if value is not None:
            return value
        names = [self.name or "", *(name.removeprefix("--").replace("-", "_") for name in self._old)]
        prefixes = [ctx.auto_envvar_prefix, _OLD_PREFIXES.get(ctx.command.name or "")]
        variables = (f"{prefix}_{name.upper()}" for prefix, name in product(prefixes, names) if prefix)
        return next((os.environ[variable] for variable in variables if os.environ.get(variable)), None)


option: Final = partial(click.option, cls=Option)
"""Like `click.option`, with the argument `old`."""
