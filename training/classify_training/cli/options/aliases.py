"""Names of release 0.1 that are still accepted: of commands, options and environment variables. Help hides them."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

import click

from classify_serving.renamed_option import RenamedOption, variable_name

OLD_COMMANDS: Final[Mapping[str, str]] = {"export": "train"}
"""Old name -> current name."""

_OLD_PREFIXES: Final[Mapping[str, str]] = {"train": "CLASSIFY_TRAIN_EXPORT"}
"""Current name of a command -> the old prefix of its environment variables."""


class Option(RenamedOption):
    """An option whose environment variable may have the old prefix of its command."""

    def old_variables(self, ctx: click.Context) -> Iterator[str]:
        """Names of the old environment variables."""
        yield from super().old_variables(ctx)
        if prefix := _OLD_PREFIXES.get(ctx.command.name or ""):
            yield from (variable_name(prefix, name) for name in (self.name or "", *self._old))


option: Final = partial(click.option, cls=Option)
"""Like `click.option`, with the argument `old` for an old name."""
