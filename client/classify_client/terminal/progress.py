"""The progress bar on stderr, shown only on a terminal and without --quiet."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.0f} images/s" if task.speed else "")


def progress_bar(quiet: bool) -> Progress:
    """A progress bar with count, rate, elapsed and remaining time; nothing is drawn unless stderr is a terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(table_column=Column(no_wrap=True)),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    )


@contextmanager
def waiting(message: str, quiet: bool) -> Iterator[None]:
    """Show a message on the terminal while the block runs."""
    with progress_bar(quiet) as bar:
        bar.add_task(message, total=None)
        yield
