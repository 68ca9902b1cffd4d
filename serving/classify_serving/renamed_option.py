"""Command-line options that were renamed: the old names still work, and only the new one is shown."""

import os
from collections.abc import Sequence
from typing import Any

import click


class RenamedOption(click.Option):
    """An option that is also accepted under old names.

    Args:
        param_decls: as of `click.Option`; the first name is the new one.
        old_names: names that are accepted but not shown, such as `--explain`.
        old_envvars: environment variables that are read if the new one is not set.
        attrs: as of `click.Option`.
    """

    def __init__(
        self, param_decls: Sequence[str], old_names: Sequence[str], old_envvars: Sequence[str] = (), **attrs: Any
    ) -> None:
        name = next((each for each in param_decls if each.isidentifier()), None)
        name = name or param_decls[0].lstrip("-").replace("-", "_")
        flags = [each for each in param_decls if not each.isidentifier()]
        super().__init__([name, *flags, *old_names], **attrs)
        self._old_names, self._old_envvars = frozenset(old_names), tuple(old_envvars)

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """The value in the environment, under the new name or else an old one."""
        value = super().resolve_envvar_value(ctx)
        return value or next((found for each in self._old_envvars if (found := os.environ.get(each))), None)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The option's lines in the help, with its new name only."""
        with self._shown_names():
            return super().get_help_record(ctx)

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """The option's name in error messages."""
        with self._shown_names():
            return super().get_error_hint(ctx)

    def _shown_names(self) -> "_Names":
        return _Names(self, [name for name in self.opts if name not in self._old_names])


class _Names:
    """Gives an option other names while a block runs."""

    def __init__(self, option: click.Option, names: list[str]) -> None:
        self._option, self._names, self._all = option, names, option.opts

    def __enter__(self) -> None:
        self._option.opts = self._names

    def __exit__(self, *error: object) -> None:
        self._option.opts = self._all
