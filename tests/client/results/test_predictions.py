"""Rows read from a results file equal the rows that were written, with any text in them."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from classify_client.results.formats import read_rows, write_rows
from classify_client.results.rows import Row

texts = st.text(st.characters(codec="utf-8"), max_size=12)
integers_or_none = st.none() | st.integers(0, 2**63 - 1)
entries = st.tuples(texts, st.floats(0, 1).map(lambda number: round(number, 6)))
rows = st.builds(
    Row,
    path=texts,
    true_label=texts,
    true_class=texts,
    top=st.lists(entries, max_size=5).map(tuple),
    error=texts,
    model=texts,
    model_version=integers_or_none,
    model_created=texts,
    size=integers_or_none,
    modified=texts,
    miss=texts,
    review=texts,
)


@settings(deadline=None)
@given(st.lists(rows, max_size=4), st.sampled_from(["jsonl", "parquet", "csv"]), st.integers(1, 5))
def test_rows_are_read_from_every_format_as_they_were_written(written: list[Row], file_format: str, top_k: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"predictions.{file_format}"
        write_rows(path, written, top_k)
        assert list(read_rows(path)) == [replace(row, top=row.top[:top_k]) for row in written]
