"""The total for the progress bar, counted in the background while the first images are classified."""

import threading
from collections.abc import Callable
from pathlib import Path

from rich.progress import Progress, TaskID

from classify_client.errors import InputError
from classify_client.inputs.kinds import kind_of
from classify_client.inputs.selection import Selection
from classify_client.inputs.sources import list_sources


def count_sources(selection: Selection, output: Path, bar: Progress, task: TaskID) -> Callable[[], None]:
    """List the inputs a second time in the background and set the progress bar's total.

    Does nothing if the bar is not shown, or if listing again is impossible or as expensive as reading.

    Returns:
        A function that stops the counting.
    """
    stopped = threading.Event()
    if bar.disable or selection.shuffle is not None or not all(kind_of(i).is_countable(i) for i in selection.inputs):
        return stopped.set

    def count() -> None:
        number = 0
        try:
            for _ in list_sources(selection, output):
                number += 1
                if stopped.is_set():
                    return
        except InputError:
            # The run itself reports the error.
            return
        bar.update(task, total=number)

    threading.Thread(target=count, name="count", daemon=True).start()
    return stopped.set
