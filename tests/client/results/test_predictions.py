"""The results file gives back what was written, whatever the names hold."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from classify_client.results.formats import read_rows, write_rows
from classify_client.results.rows import COLUMNS, REALS, WHOLES, Row, columns

texts = st.text(st.characters(codec="utf-8"), max_size=12)
rows = st.builds(lambda values: Row(**dict(zip(COLUMNS, values, strict=True))), st.tuples(*[texts] * len(COLUMNS)))


@given(st.lists(rows, max_size=4))
def test_rows_survive_the_file(written: list[Row]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.csv"
        write_rows(path, written)
        assert list(read_rows(path)) == written


numbers = st.floats(0, 1).map("{:.6f}".format)
typed = {
    **{name: numbers | st.just("") for name in REALS},
    **{name: st.integers(0, 2**63 - 1).map(str) | st.just("") for name in WHOLES},
    "correct": st.sampled_from(["", "true", "false"]),
}
answers = st.builds(Row, **{name: typed.get(name, texts) for name in COLUMNS})


@settings(deadline=None)
@given(st.lists(answers, max_size=4), st.sampled_from(["jsonl", "parquet", "csv"]), st.integers(1, 5))
def test_answers_survive_every_format(written: list[Row], file_format: str, top_k: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"predictions.{file_format}"
        write_rows(path, written, top_k)
        left_out = dict.fromkeys(set(COLUMNS) - set(columns(top_k)), "")
        assert list(read_rows(path)) == [replace(row, **left_out) for row in written]
