"""Files known by their content: hashes of many, and how those do that the model was trained on."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classify_client.results.reader import Item, Results, places, read_items
from classify_client.results.summary import wilson_interval
from classify_serving.exchange.train_manifest import TrainManifest
from classify_serving.files import sha256_of


def hash_items(folder: Path, items: Iterable[Item]) -> dict[str, str]:
    """SHA-256 of each file's content as hex, by path; those that are gone are left out."""
    return {item.path: digest for item, digest in hashed(folder, items) if digest}


def hashed(folder: Path, items: Iterable[Item]) -> Iterator[tuple[Item, str]]:
    """Pass items on with the SHA-256 of their content as hex, on all cores; empty if a file is gone.

    The copy in `miss/` comes first: it is what was classified. Only some are read ahead.
    """
    threads = os.cpu_count() or 1
    waiting: deque[tuple[Item, Future[str]]] = deque()
    with ThreadPoolExecutor(threads, "hash") as pool:
        for item in items:
            waiting.append((item, pool.submit(_digest, folder, item)))
            if len(waiting) > 4 * threads:
                first, future = waiting.popleft()
                yield first, future.result()
        for item, future in waiting:
            yield item, future.result()


def _digest(folder: Path, item: Item) -> str:
    for place in places(folder, item):
        with suppress(OSError):
            return sha256_of(place)
    return ""


@dataclass
class Seen:
    """Counts of the files that the model was trained on, or of those it was not."""

    images: int = 0
    labelled: int = 0
    correct: int = 0

    def add(self, item: Item) -> None:
        """Count one."""
        self.images += 1
        self.labelled += item.is_labelled
        self.correct += item.is_labelled and not item.is_miss

    def summary(self) -> dict[str, Any]:
        """For `summary.json`: counts, accuracy in 0-1 and its 95% interval, both None without labels."""
        return {
            "images": self.images,
            "labelled": self.labelled,
            "correct": self.correct,
            "accuracy": self.correct / self.labelled if self.labelled else None,
            "accuracy_interval": wilson_interval(self.correct, self.labelled) if self.labelled else None,
        }


def score_apart(folder: Path, results: Results, trained_on: TrainManifest) -> tuple[Seen, Seen]:
    """Score the answered files that the model was trained on, and the others: accuracy on seen images flatters.

    Files that have gone or are in archives count neither here nor there: only the misses among them have copies, which
    alone would make the model look bad.
    """
    seen, unseen = Seen(), Seen()
    items = read_items(folder, results.summary)
    for item, digest in hashed(folder, (item for item in items if item.top and item.file.is_file())):
        if digest:
            (seen if trained_on.is_seen(digest) else unseen).add(item)
    return seen, unseen
