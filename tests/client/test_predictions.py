"""The results file gives back what was written, whatever the names hold."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from classify_client.formats import read_rows, write_rows
from classify_client.rows import COLUMNS, Row

texts = st.text(st.characters(codec="utf-8"), max_size=12)
rows = st.builds(lambda values: Row(**dict(zip(COLUMNS, values, strict=True))), st.tuples(*[texts] * len(COLUMNS)))


@given(st.lists(rows, max_size=4))
def test_rows_survive_the_file(written: list[Row]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.csv"
        write_rows(path, written)
        assert list(read_rows(path)) == written
