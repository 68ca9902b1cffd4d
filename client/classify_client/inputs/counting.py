"""How many images there will be, found out while the first ones are classified."""

import threading
from collections.abc import Callable
from pathlib import Path

from rich.progress import Progress, TaskID

from classify_client.errors import InputError
from classify_client.inputs.archives import is_archive
from classify_client.inputs.object_stores import is_url
from classify_client.inputs.selection import Selection
from classify_client.inputs.sources import list_sources


def count_sources(selection: Selection, output: Path, bar: Progress, task: TaskID) -> Callable[[], None]:
    """List the inputs a second time in the background, and tell the bar their number; gives a function that stops it.

    Not where nobody looks, and where listing again costs as much as reading, or cannot be done.
    """
    stopped = threading.Event()
    if bar.disable or selection.shuffle is not None or not all(map(_is_cheap, selection.inputs)):
        return stopped.set

    def count() -> None:
        number = 0
        try:
            for _ in list_sources(selection, output):
                number += 1
                if stopped.is_set():
                    return
        except InputError:
            # It will be told by those who need the images.
            return
        bar.update(task, total=number)

    threading.Thread(target=count, name="count", daemon=True).start()
    return stopped.set


def _is_cheap(given: str) -> bool:
    return not (given == "-" or given.startswith("@") or is_url(given) or is_archive(given))
