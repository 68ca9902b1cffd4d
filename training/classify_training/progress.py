"""Progress bars on stderr, only on a terminal and not with --quiet."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from classify_training import interrupts

T = TypeVar("T")
R = TypeVar("R")


def progress_bar(quiet: bool = False) -> Progress:
    """Make a bar with count, elapsed time and remaining time; it draws nothing unless stderr is a terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    )


def track(items: Iterable[T], total: int, description: str, quiet: bool = False) -> Iterator[T]:
    """Yield `items` with a progress bar; an interruption takes effect between two items.

    Args:
        items: the items.
        total: their number.
        description: text beside the bar.
        quiet: whether to show no bar.

    Raises:
        Interrupted: a signal asked this process to end.
    """
    with progress_bar(quiet) as bar:
        for item in bar.track(items, total=total, description=description):
            interrupts.check()
            yield item


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
