"""Command-line options that were renamed: the old names still work, and help shows only the new ones."""

import os
from collections.abc import Iterator
from typing import Any

import click


class RenamedOption(click.Option):
    """An option that may have an old name, such as `--explain`, and an old environment variable.

    Args:
        args: as of `click.Option`.
        old: the old name.
        kwargs: as of `click.Option`.
    """

    def __init__(self, *args: Any, old: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._old = [old] if old else []

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Make the parser accept the old name too; the option's own list, which help shows, keeps the new one."""
        current, self.opts = self.opts, [*self.opts, *self._old]
        try:
            super().add_to_parser(parser, ctx)
        finally:
            self.opts = current

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """The value of the new environment variable, or else of an old one."""
        value = super().resolve_envvar_value(ctx)
        if value is not None:
            return value
        return next((os.environ[name] for name in self.old_variables(ctx) if os.environ.get(name)), None)

    def old_variables(self, ctx: click.Context) -> Iterator[str]:
        """Names of the old environment variables."""
        if ctx.auto_envvar_prefix:
            yield from (variable_name(ctx.auto_envvar_prefix, name) for name in self._old)


def variable_name(prefix: str, option: str) -> str:
    """The environment variable of an option: `CLASSIFY`, `--batch-size` -> `CLASSIFY_BATCH_SIZE`."""
    return f"{prefix}_{option.removeprefix('--').replace('-', '_').upper()}"
