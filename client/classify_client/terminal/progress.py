"""Progress on stderr, without --quiet: a bar on a terminal, elsewhere a line every 30 seconds."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

LINE_SECONDS: Final = 30.0


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.0f} images/s" if task.speed else "")


class Lines(Progress):
    """Progress that prints a line with the count and the rate at most every 30 seconds.

    Args:
        clock: gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(disable=True)
        self._clock = clock
        self._start = self._printed = clock()
        self._done_before = 0.0

    def add_task(
        self,
        description: str,
        start: bool = True,
        total: float | None = 100.0,
        completed: int = 0,
        visible: bool = True,
        **fields: Any,
    ) -> TaskID:
        """Add a task; the rate is that of what is done from now on."""
        self._done_before = completed
        return super().add_task(description, start, total, completed, visible, **fields)

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """Change a task, and print its state if the last line is old enough."""
        super().update(task_id, **changes)
        now = self._clock()
        if now - self._printed >= LINE_SECONDS:
            self._printed = now
            task = self._tasks[task_id]
            rate = (task.completed - self._done_before) / (now - self._start)
            click.echo(f"{task.description}: {task.completed:.0f} images, {rate:.0f} images/s", err=True)


def progress_bar(quiet: bool) -> Progress:
    """Progress with count, rate, elapsed and remaining time: a bar on a terminal, lines elsewhere, nothing if quiet."""
    console = Console(stderr=True)
    if not quiet and not console.is_terminal:
        return Lines()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(table_column=Column(no_wrap=True)),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=quiet,
    )


@contextmanager
def waiting(message: str, quiet: bool) -> Iterator[None]:
    """Show a message on the terminal while the block runs."""
    with progress_bar(quiet) as bar:
        bar.add_task(message, total=None)
        yield
