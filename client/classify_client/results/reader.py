"""What a run left, read back in one form, whatever the format of its results file."""

from bisect import insort
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from classify_client.errors import InputError
from classify_client.inputs.patterns import input_root
from classify_client.output_folder import SUMMARY, predictions_path
from classify_client.results.calibration import Reliability
from classify_client.results.formats import read_rows
from classify_client.results.rows import OK, Row
from classify_serving.exchange.misses import MISS

UNSURE: Final = 0.6
"""Answers below this probability are unsure."""
MOST_UNSURE: Final = 36
MOST_BROKEN: Final = 300


@dataclass(frozen=True, kw_only=True)
class Item:
    """One file and what became of it.

    Attributes:
        path: what the results call it.
        file: where it is, as far as the run's arguments tell; it may have gone since.
        label: the true label its folder gives, else empty.
        true: that label's class, else empty.
        top: (class, probability in 0-1), best first; empty if it failed.
        error: why there is no answer.
        miss: its copy in `miss/`, relative to the output folder with `/`; empty if there is none.
        stamp: size in bytes and modification time in ns when it was classified, as text.
        model: name, version and time of creation of what answered.
    """

    path: str
    file: Path
    label: str = ""
    true: str = ""
    top: tuple[tuple[str, float], ...] = ()
    error: str = ""
    miss: str = ""
    stamp: tuple[str, str] = ("", "")
    model: tuple[str, str, str] = ("", "", "")

    @property
    def predicted(self) -> str:
        """The likeliest class; empty if it failed."""
        return self.top[0][0] if self.top else ""

    @property
    def probability(self) -> float:
        """Of that class, 0-1; 0 if it failed."""
        return self.top[0][1] if self.top else 0.0

    @property
    def is_labelled(self) -> bool:
        """Whether it was answered and its true class is known."""
        return bool(self.true and self.top)

    @property
    def is_miss(self) -> bool:
        """Whether the model was wrong about it."""
        return self.is_labelled and self.predicted != self.true

    def probability_of(self, name: str) -> float:
        """What the model gives a class, 0-1; for one that is not among the top an upper bound.

        A class that is not named has at most what the last named one has, and at most what is left over.
        """
        named = dict(self.top)
        if name in named or not self.top:
            return named.get(name, 0.0)
        return max(0.0, min(self.top[-1][1], 1.0 - sum(named.values())))


@dataclass
class Results:
    """What is worth keeping of a run's results, so that memory grows with its mistakes and not with its images.

    Attributes:
        folder: the output folder.
        summary: the content of its `summary.json`.
        misses: the files the model was wrong about, in their order.
        unsure: the `MOST_UNSURE` least sure of the other answers below `UNSURE`, the least sure first.
        unsure_count: of all of those.
        broken: the first `MOST_BROKEN` that failed.
        reliability: how often answers of like probability are right.
        given: of each true class, how many files were answered and the sum of its probabilities there.
        said: how often each class was predicted.
    """

    folder: Path
    summary: Mapping[str, Any]
    misses: list[Item] = field(default_factory=list)
    unsure: list[Item] = field(default_factory=list)
    unsure_count: int = 0
    broken: list[Item] = field(default_factory=list)
    reliability: Reliability = field(default_factory=Reliability)
    given: dict[str, tuple[int, float]] = field(default_factory=dict)
    said: Counter[str] = field(default_factory=Counter)

    def add(self, item: Item) -> None:
        """Take one file into account."""
        if not item.top:
            if len(self.broken) < MOST_BROKEN:
                self.broken.append(item)
            return
        self.said[item.predicted] += 1
        if item.is_labelled:
            self.reliability.add(item.probability, item.predicted == item.true)
            count, total = self.given.get(item.true, (0, 0.0))
            self.given[item.true] = count + 1, total + item.probability_of(item.true)
        if item.is_miss:
            self.misses.append(item)
        elif item.probability < UNSURE:
            self.unsure_count += 1
            insort(self.unsure, item, key=lambda unsure: (unsure.probability, unsure.path))
            del self.unsure[MOST_UNSURE:]


def read_results(folder: Path) -> Results:
    """Read what a run left in its output folder.

    Raises:
        InputError: no run left anything there.
        OutputError: another program did.
    """
    results = Results(folder, read_summary(folder))
    for item in read_items(folder, results.summary):
        results.add(item)
    return results


def read_summary(folder: Path) -> dict[str, Any]:
    """The content of a run's `summary.json`.

    Raises:
        InputError: there is none.
    """
    try:
        return msgspec.json.decode((folder / SUMMARY).read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"no results in {folder}: give the output folder of a run of classify-client") from error


def read_items(folder: Path, summary: Mapping[str, Any]) -> Iterator[Item]:
    """The files of a run, in their order, whatever the format of its results.

    Args:
        folder: the output folder.
        summary: the content of its `summary.json`, which says where the files are.

    Raises:
        OutputError: another program wrote there.
    """
    return items_of(read_rows(predictions_path(folder, summary["arguments"]["format"])), summary)


def items_of(rows: Iterable[Row], summary: Mapping[str, Any]) -> Iterator[Item]:
    """Likewise, from the rows of a results file."""
    root = input_root(summary["arguments"]["inputs"])
    for row in rows:
        yield _item(row, root / row.path)


def _item(row: Row, file: Path) -> Item:
    return Item(
        path=row.path,
        file=file,
        label=row.true_label,
        true=row.true_class,
        top=tuple(_top(row)) if row.status == OK else (),
        error=row.error,
        miss=f"{MISS}/{row.miss}" if row.miss else "",
        stamp=(row.size, row.modified),
        model=(row.model, row.model_version, row.model_created),
    )


def _top(row: Row) -> Iterator[tuple[str, float]]:
    yield row.predicted, float(row.probability)
    for rank in range(2, 6):
        if name := getattr(row, f"top_{rank}"):
            yield name, float(getattr(row, f"top_{rank}_probability"))


def places(folder: Path, item: Item) -> Iterator[Path]:
    """Where a file may be found: its copy first, which is there as long as the results are, and as it was then."""
    if item.miss:
        yield folder / item.miss
    yield item.file
