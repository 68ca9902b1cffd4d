"""The rows of a run by path, in a temporary database on disk: memory does not grow with their number."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import msgspec

from classify_client.errors import OutputError
from classify_client.results.rows import Row

_TABLES = """
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    PRAGMA cache_size = -1000;
    CREATE TABLE rows (path TEXT PRIMARY KEY, place INTEGER, turn INTEGER, cells BLOB);
    CREATE TABLE copies (name TEXT PRIMARY KEY, current INTEGER);
    BEGIN;
"""


class RowIndex:
    """For each path: its row, its place in the earlier results file, and its turn in this run.

    The database has no name and is deleted with the process. It needs no recovery, since the results file has every
    row.

    Raises (all methods):
        OutputError: the folder for temporary files is full.
    """

    def __init__(self) -> None:
        with _database_errors():
            # Sources are listed in one thread and results written in another, never at the same time.
            self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            self._db.executescript(_TABLES)
        self._turns = self._places = 0

    def load(self, row: Row) -> None:
        """Add a row of an earlier run, in the order of its file; of two rows for one path the later one counts."""
        self._places += 1
        self._put([(row, self._places)])

    def put(self, rows: Iterable[Row]) -> None:
        """Add rows of this run."""
        self._put([(row, None) for row in rows])

    def _put(self, rows: Iterable[tuple[Row, int | None]]) -> None:
        with _database_errors():
            self._db.executemany(
                "INSERT INTO rows (path, place, cells) VALUES (?, ?, ?) ON CONFLICT (path)"
                " DO UPDATE SET cells = excluded.cells, place = coalesce(excluded.place, place)",
                [(row.path, place, msgspec.msgpack.encode(row)) for row, place in rows],
            )

    def admit(self, path: str) -> bool:
        """Give a path the next turn; false if it has had its turn already."""
        self._turns += 1
        with _database_errors():
            cursor = self._db.execute(
                "INSERT INTO rows (path, turn) VALUES (?, ?) ON CONFLICT (path)"
                " DO UPDATE SET turn = excluded.turn WHERE turn IS NULL",
                (path, self._turns),
            )
            return cursor.rowcount > 0

    def find(self, path: str) -> tuple[Row, int] | None:
        """The row of a path, and its place in the earlier file (0 if it is new)."""
        with _database_errors():
            found = self._db.execute("SELECT cells, place FROM rows WHERE path = ?", (path,)).fetchone()
        return (_row(found[0]), found[1] or 0) if found and found[0] else None

    def by_place(self) -> Iterator[Row]:
        """The rows of the earlier run, in their order."""
        return self._rows("place IS NOT NULL", "place")

    def by_turn(self) -> Iterator[Row]:
        """The rows of the paths that had their turn, in that order."""
        return self._rows("turn IS NOT NULL", "turn")

    def by_turn_or_place(self) -> Iterator[Row]:
        """The same, followed by the other rows of the earlier run."""
        return self._rows("TRUE", "turn IS NULL, turn, place")

    def _rows(self, condition: str, order: str) -> Iterator[Row]:
        query = f"SELECT cells FROM rows WHERE cells IS NOT NULL AND {condition} ORDER BY {order}"
        with _database_errors():
            for (cells,) in self._db.execute(query):
                yield _row(cells)

    def note_copies(self, *names: str, current: bool) -> None:
        """Record copies, by their path in the output folder: of an earlier run, or current ones."""
        with _database_errors():
            self._db.executemany(
                "INSERT INTO copies VALUES (?, ?) ON CONFLICT DO UPDATE SET current = max(current, excluded.current)",
                [(name, current) for name in names],
            )

    def outdated_copies(self) -> Iterator[str]:
        """Copies of earlier runs that belong to no row of this run."""
        with _database_errors():
            for (name,) in self._db.execute("SELECT name FROM copies WHERE NOT current"):
                yield name

    def close(self) -> None:
        """Free its disk space."""
        self._db.close()


def _row(cells: bytes) -> Row:
    return msgspec.msgpack.decode(cells, type=Row)


@contextmanager
def _database_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise OutputError(
            f"the folder for temporary files is full ({error}):"
            " free disk space or set TMPDIR to another folder, and run again to continue"
        ) from error
