"""Progress on stderr, without --quiet: a bar on a terminal; elsewhere a line whenever 30 seconds passed without one."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from classify_training import interrupts

T = TypeVar("T")
R = TypeVar("R")

LINE_SECONDS: Final = 30.0


class LineTimer:
    """When the last line was printed, by any stage or message.

    Args:
        clock: gives seconds.
        interval: seconds after which another line is due.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, interval: float = LINE_SECONDS) -> None:
        self.clock, self.interval = clock, interval
        self._last = clock()

    def restart(self) -> None:
        """A line is printed now."""
        self._last = self.clock()

    def remaining(self) -> float:
        """Seconds until a line is due; 0 or less if it is due now."""
        return self._last + self.interval - self.clock()


LINE_TIMER: Final = LineTimer()
"""The timer of this process."""


class Lines(Progress):
    """Progress as lines: how far the newest task is, whenever a line is due, also while it does not advance.

    Args:
        timer: says when.
    """

    def __init__(self, timer: LineTimer = LINE_TIMER) -> None:
        super().__init__(disable=True, get_time=timer.clock)
        self._timer = timer
        self._stopped = threading.Event()
        # A stage may compute for minutes in one call.
        self._thread = threading.Thread(target=self._print_lines, daemon=True)

    def start(self) -> None:
        """Print lines from now on."""
        super().start()
        self._thread.start()

    def stop(self) -> None:
        """Print no more lines."""
        self._stopped.set()
        self._thread.join()
        super().stop()

    def _print_lines(self) -> None:
        while not self._stopped.wait(max(0.05, self._timer.remaining())):
            self.print_if_due()

    def add_task(self, *arguments: Any, **fields: Any) -> TaskID:
        """Add a task; arguments as of `Progress.add_task`."""
        task = super().add_task(*arguments, **fields)
        self.print_if_due()
        return task

    def print_if_due(self) -> None:
        """Print a line if one is due."""
        if self.tasks and self._timer.remaining() <= 0:
            self._timer.restart()
            click.echo(_line(self.tasks[-1]), err=True)


def _line(task: Task) -> str:
    """How far a task is."""
    elapsed = task.elapsed or 0.0
    if task.total is None:
        return f"{task.description}: {duration_text(elapsed)} so far"
    done, total = int(task.completed), int(task.total)
    left = f", {duration_text(elapsed / done * (total - done))} left" if done else ""
    return f"{task.description}: {done:,} of {total:,} images{left}"


def duration_text(seconds: float) -> str:
    """A duration in words, such as `40 s` or `2 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def progress_bar(quiet: bool = False) -> Progress:
    """Make a bar with count, elapsed time and remaining time; lines if stderr is not a terminal, nothing if quiet."""
    console = Console(stderr=True)
    if not quiet and not console.is_terminal:
        return Lines()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=quiet,
    )


def add_images(bar: Progress, description: str, total: int) -> TaskID:
    """Add a task that counts images.

    Args:
        bar: from `progress_bar`.
        description: text beside the bar.
        total: number of images.
    """
    return bar.add_task(description, total=total)


@contextmanager
def stage(description: str, quiet: bool = False) -> Iterator[None]:
    """Show that something runs whose end is not known; not within another stage."""
    with progress_bar(quiet) as bar:
        bar.add_task(description, total=None)
        yield


def track(
    items: Iterable[T], total: int, description: str, quiet: bool = False, images: Callable[[T], int] = lambda item: 1
) -> Iterator[T]:
    """Yield `items` with a progress bar; an interruption takes effect between two items.

    Args:
        items: the items.
        total: their number of images.
        description: text beside the bar.
        quiet: whether to show no progress.
        images: number of images of an item.

    Raises:
        Interrupted: a signal asked this process to end.
    """
    with progress_bar(quiet) as bar:
        task = add_images(bar, description, total)
        for item in items:
            interrupts.check()
            yield item
            bar.advance(task, images(item))


def track_in_threads(
    function: Callable[[T], R], items: Sequence[T], description: str, quiet: bool = False
) -> Iterator[R]:
    """Yield `function(item)` for every item, in order, computed in several threads, with a progress bar.

    If the caller stops early, calls that have not started are cancelled.

    Raises:
        Interrupted: as `track`.
    """
    with ThreadPoolExecutor() as pool:
        try:
            yield from track(pool.map(function, items), len(items), description, quiet)
        finally:
            pool.shutdown(cancel_futures=True)
