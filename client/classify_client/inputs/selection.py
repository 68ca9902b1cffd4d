"""Which of the listed images are classified: filters, a limit, a sample."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import blake2b
from itertools import islice
from typing import Protocol, TypeVar


@dataclass(frozen=True)
class Selection:
    """What is to be classified.

    Attributes:
        inputs: as on the command line, see `list_sources`.
        include: patterns of which a name has to match one, if there are any.
        exclude: patterns of which a name may match none.
        limit: images at most; None for all.
        shuffle: a seed for random order; None for the order of the inputs.
    """

    inputs: Sequence[str]
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    limit: int | None = None
    shuffle: int | None = None


class Named(Protocol):
    """Something with a name."""

    @property
    def name(self) -> str:
        """A path with `/`."""


T = TypeVar("T", bound=Named)


def select(sources: Iterable[T], selection: Selection) -> Iterator[T]:
    """Pass on the sources that are asked for.

    In random order, what is first depends on names and seed alone: a sample stays the same when files are added
    or taken away, but for those, and a larger one holds every smaller one. `limit` sources are held in memory for that,
    or all without one.
    """
    wanted = (source for source in sources if _is_wanted(source.name, selection))
    if selection.shuffle is None:
        return islice(wanted, selection.limit)
    seed = selection.shuffle.to_bytes(8, "big")

    def rank(source: T) -> bytes:
        return blake2b(source.name.encode(), key=seed, digest_size=16).digest()

    if selection.limit is None:
        return iter(sorted(wanted, key=rank))
    return iter(heapq.nsmallest(selection.limit, wanted, key=rank))


def _is_wanted(name: str, selection: Selection) -> bool:
    if selection.include and not any(matches(name, pattern) for pattern in selection.include):
        return False
    return not any(matches(name, pattern) for pattern in selection.exclude)


def matches(name: str, pattern: str) -> bool:
    """Whether a file's name, or its whole path if the pattern has a `/`, is like a pattern with `*`, `?`, `[...]`.

    `*` stands for any characters, also `/`.
    """
    return fnmatchcase(name if "/" in pattern else name.rpartition("/")[2], pattern)
