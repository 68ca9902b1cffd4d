"""Which of the listed images are classified: filters, a limit, a random sample."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import blake2b
from itertools import islice
from typing import Protocol, TypeVar


@dataclass(frozen=True)
class Selection:
    """What to classify.

    Attributes:
        inputs: as on the command line, see `kinds.py`.
        include: if given, only names that match one of these patterns are taken.
        exclude: names that match one of these patterns are left out.
        limit: maximum number of images; None for all.
        shuffle: seed for a random order; None for the order of the inputs.
    """

    inputs: Sequence[str]
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    limit: int | None = None
    shuffle: int | None = None


class Named(Protocol):
    """An object with a name."""

    @property
    def name(self) -> str:
        """Its path, with `/`."""


T = TypeVar("T", bound=Named)


def select(sources: Iterable[T], selection: Selection) -> Iterator[T]:
    """Yield the selected sources.

    A random order depends only on names and seed: when files are added or removed, the rest of a sample stays the same,
    and a larger sample contains every smaller one. It holds `limit` sources in memory, or all of them without a limit.
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
    """Whether a file's name, or its whole path if the pattern contains `/`, matches a pattern with `*`, `?`, `[...]`.

    `*` matches any characters, including `/`.
    """
    return fnmatchcase(name if "/" in pattern else name.rpartition("/")[2], pattern)
